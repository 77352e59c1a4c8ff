"""Templates, which represent several images and video frames of a person, as in the IJB protocol.

The frames of each medium are averaged first, so a long video counts as much as a photograph.

References:
    Maze et al., "IARPA Janus Benchmark C", ICB 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation.verification import (
    Separation,
    num_allowed,
    separation,
    unit_rows,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from hyperface_jax.typing import Update

RANKS = (1, 5, 10)
FPIRS = (1e-1, 1e-2, 1e-3)
"""False positive identification rates at which the true positive identification rate is reported."""

_CHUNK_ENTRIES = 2**24


class Templates(NamedTuple):
    """The embeddings of templates.

    Attributes:
        ids: template ids in increasing order, ``[t]``.
        embeddings: embedding of each template, unit rows, float64 ``[t, d]``.
    """

    ids: np.ndarray
    embeddings: np.ndarray


@dataclass(frozen=True)
class Identification:
    """Figures of a search for probes in a gallery.

    Attributes:
        rank_rates: share of the mated probes with their person among the best k, for k in ``RANKS``.
        tpir_at_fpir: for each rate in ``FPIRS``, the share of the mated probes with their person ranked
            first and above the threshold, which at most that share of the unmated probes exceeds; None
            if there are too few unmated probes for the rate to allow even one.
        num_mated: number of probes with their person in the gallery.
        num_unmated: number of the other probes.
    """

    rank_rates: dict[int, float]
    tpir_at_fpir: dict[float, float | None]
    num_mated: int
    num_unmated: int


class TemplateSums:
    """Templates of more embeddings than fit in memory, which are added a part at a time.

    The sum of a template is that of its embeddings, each over the number of those of its medium, so it
    needs one row of memory for each template. The result is that of :func:`template_embeddings`.

    Args:
        template_ids: template of each embedding, ``[n]``.
        media_ids: medium of each embedding, ``[n]``.

    Raises:
        InputError: the lengths differ.
    """

    def __init__(self, template_ids: ArrayLike, media_ids: ArrayLike) -> None:
        templates, media = np.asarray(template_ids), np.asarray(media_ids)
        if templates.ndim != 1 or templates.shape != media.shape or not len(templates):
            raise InputError(f"media_ids: shape {media.shape} for {templates.shape} template_ids")
        self._ids, self._places = np.unique(templates, return_inverse=True)
        both = np.stack([self._places, np.unique(media, return_inverse=True)[1]], axis=1)
        _, group, counts = np.unique(both, axis=0, return_inverse=True, return_counts=True)
        self._weights = 1.0 / counts[group.ravel()]
        self._sums: np.ndarray | None = None

    def add(self, start: int, embeddings: ArrayLike) -> None:
        """Add embeddings, ``[k, d]`` of any length, of the ids from number ``start`` on.

        Raises:
            InputError: there are more embeddings than ids, or the dimension changes.
        """
        rows = np.asarray(embeddings, np.float64)
        part = slice(start, start + len(rows))
        places, num = self._places[part], len(self._ids)
        if self._sums is None:
            self._sums = np.zeros((num, rows.shape[1]))
        if len(places) != len(rows) or rows.shape[1] != self._sums.shape[1]:
            raise InputError(
                f"embeddings: shape {rows.shape} for {len(places)} ids from {start} on"
            )
        entries = (self._weights[part], (places, np.arange(len(rows))))
        self._sums += csr_array(entries, shape=(num, len(rows))) @ rows

    def templates(self) -> Templates:
        """Return the templates once all embeddings have been added.

        Raises:
            InputError: the sum of a template is zero or not finite.
        """
        sums = np.zeros((len(self._ids), 1)) if self._sums is None else self._sums
        return Templates(self._ids, unit_rows(sums, "templates"))


def template_embeddings(
    embeddings: ArrayLike, template_ids: ArrayLike, media_ids: ArrayLike
) -> Templates:
    """Fuse embeddings into templates: average each medium, add up the means, and normalize.

    Args:
        embeddings: embedding of each image or frame, ``[n, d]``; longer ones have more weight.
        template_ids: template of each embedding, ``[n]``.
        media_ids: medium of each embedding, ``[n]``; ids need to be unique only within a template.

    Returns:
        The templates.

    Raises:
        InputError: the lengths differ, or the sum of a template is zero or not finite.

    Cost: memory for two copies of ``embeddings``.
    """
    embeddings = np.asarray(embeddings)
    templates, media = np.asarray(template_ids), np.asarray(media_ids)
    if embeddings.ndim != 2 or not len(embeddings):
        raise InputError(f"embeddings: has shape {embeddings.shape}; [n, d] is needed")
    for name, ids in (("template_ids", templates), ("media_ids", media)):
        if ids.shape != embeddings.shape[:1]:
            raise InputError(f"{name}: shape {ids.shape} for {len(embeddings)} embeddings")
    order = np.lexsort((media, templates))
    templates, media = templates[order], media[order]
    is_first = np.append(True, (templates[1:] != templates[:-1]) | (media[1:] != media[:-1]))
    starts = np.flatnonzero(is_first)
    counts = np.diff(np.append(starts, len(order)))
    means = np.add.reduceat(embeddings[order], starts, axis=0, dtype=np.float64) / counts[:, None]
    ids, starts = np.unique(templates[starts], return_index=True)
    return Templates(ids, unit_rows(np.add.reduceat(means, starts, axis=0), "templates"))


def pair_scores(
    templates: Templates,
    first_ids: ArrayLike,
    second_ids: ArrayLike,
    *,
    progress: Update | None = None,
) -> np.ndarray:
    """Return the cosines of pairs of templates.

    Args:
        templates: the templates.
        first_ids: id of the first template in each pair, ``[n]``.
        second_ids: id of the second template in each pair, ``[n]``.
        progress: called with the number of pairs that are done.

    Returns:
        Cosines, ``[n]``.

    Raises:
        InputError: the lengths differ, or there is no template with a given id.
    """
    first = _places(templates, first_ids, "first_ids")
    second = _places(templates, second_ids, "second_ids")
    if first.shape != second.shape:
        raise InputError(
            f"first_ids and second_ids: {len(first)} and {len(second)} ids; give equal numbers"
        )
    x, scores = templates.embeddings, np.empty(len(first))
    size = max(1, _CHUNK_ENTRIES // x.shape[1])
    for start in range(0, len(first), size):
        part = slice(start, start + size)
        scores[part] = np.einsum("ij,ij->i", x[first[part]], x[second[part]])
        if progress:
            progress(min(start + size, len(first)))
    return scores


def verify_templates(
    templates: Templates,
    first_ids: ArrayLike,
    second_ids: ArrayLike,
    is_same: ArrayLike,
    *,
    progress: Update | None = None,
) -> Separation:
    """Evaluate 1:1 verification of pairs of templates.

    Args:
        templates: the templates.
        first_ids: id of the first template in each pair, ``[n]``.
        second_ids: id of the second template in each pair, ``[n]``.
        is_same: whether each pair is genuine, ``[n]``.
        progress: called with the number of pairs that are done.

    Returns:
        True accept rates and other figures, computed from the cosines of the pairs.

    Raises:
        InputError: as for :func:`pair_scores` and for ``separation``.
    """
    scores = pair_scores(templates, first_ids, second_ids, progress=progress)
    return separation(scores, is_same)


def identify(
    probes: ArrayLike, probe_subjects: ArrayLike, gallery: ArrayLike, gallery_subjects: ArrayLike
) -> Identification:
    """Evaluate 1:N identification, a search for each probe in a gallery.

    In case of a tie, the wrong person counts as ranked before the right one.

    Args:
        probes: embeddings of any length, ``[p, d]``.
        probe_subjects: person of each probe, ``[p]``.
        gallery: embeddings of any length, one for each person, ``[g, d]``.
        gallery_subjects: person of each gallery row, all different, ``[g]``.

    Returns:
        Rates for closed-set and open-set identification.

    Raises:
        InputError: the shapes differ, a row is zero or not finite, a person is in the gallery twice,
            or the gallery has no probe's person.
    """
    probes, gallery = unit_rows(probes, "probes"), unit_rows(gallery, "gallery")
    own, people = np.asarray(probe_subjects), np.asarray(gallery_subjects)
    _check_search(probes, own, gallery, people)
    best, mate, rank = _search(probes, own, gallery, people)
    is_mated = np.isfinite(mate)
    if not is_mated.any():
        raise InputError("probe_subjects: no probe has its person in the gallery; check the ids")
    rank, mate, unmated = rank[is_mated], mate[is_mated], best[~is_mated]
    return Identification(
        rank_rates={k: float(np.mean(rank <= k)) for k in RANKS},
        tpir_at_fpir={rate: _tpir(mate[rank == 1], unmated, len(mate), rate) for rate in FPIRS},
        num_mated=len(mate),
        num_unmated=len(unmated),
    )


def _places(templates: Templates, ids: ArrayLike, name: str) -> np.ndarray:
    ids = np.asarray(ids)
    places = np.minimum(np.searchsorted(templates.ids, ids), len(templates.ids) - 1)
    unknown = np.flatnonzero(templates.ids[places] != ids)
    if unknown.size:
        raise InputError(
            f"{name}: {unknown.size} ids have no template, the first is {ids[unknown[0]]}; "
            "embed their images too"
        )
    return places


def _check_search(
    probes: np.ndarray, own: np.ndarray, gallery: np.ndarray, people: np.ndarray
) -> None:
    if own.shape != probes.shape[:1]:
        raise InputError(f"probe_subjects: shape {own.shape} for {len(probes)} probes")
    if people.shape != gallery.shape[:1]:
        raise InputError(f"gallery_subjects: shape {people.shape} for {len(gallery)} rows")
    if probes.shape[1] != gallery.shape[1]:
        raise InputError(
            f"probes and gallery: dims {probes.shape[1]} and {gallery.shape[1]} differ"
        )
    if len(np.unique(people)) < len(people):
        raise InputError("gallery_subjects: a person is there twice; fuse both into one template")


def _search(
    probes: np.ndarray, own: np.ndarray, gallery: np.ndarray, people: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each probe's best score, its score with its own person (or ``-inf``), and the rank."""
    best, mate = np.empty(len(probes)), np.full(len(probes), -np.inf)
    rank = np.zeros(len(probes), np.int64)
    size = max(1, _CHUNK_ENTRIES // len(gallery))
    for start in range(0, len(probes), size):
        part = slice(start, start + size)
        scores = probes[part] @ gallery.T
        row, column = np.nonzero(own[part, None] == people)
        best[part] = scores.max(axis=1)
        mate[start + row] = scores[row, column]
        rank[part] = np.sum(scores >= mate[part, None], axis=1)
    return best, mate, rank


def _tpir(first: np.ndarray, unmated: np.ndarray, num_mated: int, rate: float) -> float | None:
    allowed = num_allowed(rate, len(unmated))
    if not allowed:
        return None
    limit = np.partition(unmated, -allowed - 1)[-allowed - 1]
    return float(np.sum(first > limit) / num_mated)
