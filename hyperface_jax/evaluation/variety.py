"""Diversity of a data set within and between its identities, and its coverage of a gallery of faces.

A data set is good for training a recognizer if images of one identity differ (intra-class variation),
identities are far apart (inter-class separation), and identities cover the face manifold (coverage).
Means over all pairs are computed exactly from the sums of the classes. Distributions are exact for
genuine pairs up to a large number of them, and come from a random sample for impostor pairs.

References:
    Friedman and Dieng, "The Vendi Score: A Diversity Evaluation Metric for Machine Learning", TMLR 2023.
    Mardia and Jupp, "Directional Statistics", 2000 (the mean resultant length).
    Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020 (coverage).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation.neighbors import distribution, shares_above
from hyperface_jax.evaluation.verification import Separation, separation
from hyperface_jax.pairwise import nearest, sweep_streamed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperface_jax.pairwise import RowSource, Sweep
    from hyperface_jax.typing import Update


IMPOSTOR_ROWS = 5000
"""Largest number of rows between which impostor pairs are scored."""
MOST_GENUINE = 20_000_000
"""Largest number of genuine pairs that are scored one by one."""

_BLOCK = 8192
_ZERO_LENGTH = 1e-6


class Classes(NamedTuple):
    """Figures of each identity.

    Attributes:
        labels: labels of the identities, sorted, ``[c]``.
        sizes: number of images of each identity, ``[c]``.
        resultant: mean resultant length of each identity, ``[c]``. It is 1 if all of its images have
            the same embedding or there is only one, and about ``1 / sqrt(size)`` if they have nothing in
            common.
        centers: mean direction of each identity, unit rows, float32 ``[c, d]``.
        nearest_cosine: cosine between each center and the nearest other one, float32 ``[c]``.
    """

    labels: np.ndarray
    sizes: np.ndarray
    resultant: np.ndarray
    centers: np.ndarray
    nearest_cosine: np.ndarray


@dataclass(frozen=True)
class Diversity:
    """Figures of a data set.

    Attributes:
        classes: figures of each identity.
        pairs: scores of genuine and impostor pairs, and how well they separate the two kinds.
        num_genuine: total number of genuine pairs; ``pairs`` holds all of them unless there are more
            than ``MOST_GENUINE``.
        num_impostor: total number of impostor pairs; ``pairs`` holds those between sampled rows.
        genuine_mean: mean cosine over all genuine pairs.
        impostor_mean: mean cosine over all impostor pairs.
        vendi_images: Vendi score of all images, from 1 to ``min(n, d)``.
        vendi_identities: Vendi score of the centers, from 1 to ``min(c, d)``.
        gallery_cosine: cosine between each row of the gallery and the nearest center, float32 ``[g]``;
            None without a gallery.
    """

    classes: Classes
    pairs: Separation
    num_genuine: int
    num_impostor: int
    genuine_mean: float
    impostor_mean: float
    vendi_images: float
    vendi_identities: float
    gallery_cosine: np.ndarray | None

    def summary(self, thresholds: Sequence[float]) -> dict[str, Any]:
        """Return the figures as JSON values, except those of ``pairs``."""
        sizes, several = self.classes.sizes, self.classes.sizes > 1
        return {
            "num_identities": len(sizes),
            "num_images": int(sizes.sum()),
            "images_per_identity": {
                "min": int(sizes.min()),
                "median": float(np.median(sizes)),
                "mean": float(sizes.mean()),
                "max": int(sizes.max()),
                "num_single": int(np.sum(~several)),
            },
            "num_genuine": self.num_genuine,
            "num_impostor": self.num_impostor,
            "genuine_mean": self.genuine_mean,
            "impostor_mean": self.impostor_mean,
            "resultant": _spread(self.classes.resultant[several]),
            "nearest_center": {
                **distribution(self.classes.nearest_cosine),
                "above": shares_above(self.classes.nearest_cosine, thresholds),
            },
            "vendi_images": self.vendi_images,
            "vendi_identities": self.vendi_identities,
            "gallery": None
            if self.gallery_cosine is None
            else {
                "num_rows": len(self.gallery_cosine),
                **distribution(self.gallery_cosine),
                "above": shares_above(self.gallery_cosine, thresholds),
            },
        }


def diversity(
    x: RowSource,
    labels: np.ndarray,
    *,
    gallery: RowSource | None = None,
    seed: int = 0,
    sweep: Sweep | None = None,
    progress: Update | None = None,
) -> Diversity:
    """Measure the diversity of a data set from the embeddings of its images.

    Args:
        x: embeddings of the images, unit rows, float32 ``[n, d]``, in memory or in a file.
        labels: identity of each image, ``[n]``, as numbers or strings.
        gallery: unit rows ``[g, d]`` that represent the face manifold, for measuring coverage.
        seed: seed for sampling the rows of impostor pairs, and of genuine pairs if there are too many.
        sweep: order in which pairs of centers and gallery rows are visited, and the devices to use.
        progress: called with the number of rows that are done, out of ``2 n``.

    Returns:
        The figures.

    Raises:
        InputError: the shapes differ, there are fewer than two identities, or none has two images.

    Cost: FLOPs for the genuine pairs, ``2 n d^2`` for the images, ``c^2 d`` for the centers and
        ``2 g c d`` for the gallery. Memory for the centers, a few blocks of rows, and about 100 bytes
        per scored pair.
    """
    names, index, sizes = _classes(x, labels)
    rows = _Rows(x, progress)
    sums, covariance = _moments(rows, index, len(names))
    lengths = np.linalg.norm(sums, axis=1)
    _check_lengths(names, lengths)
    centers = (sums / lengths[:, None]).astype(np.float32)
    genuine = _genuine(rows, index, sizes, seed)
    impostor = _impostor(x, index, seed)
    scores = np.concatenate([genuine, impostor])
    found = sweep_streamed(centers, reduction=nearest(), sweep=sweep)
    return Diversity(
        Classes(names, sizes, lengths / sizes, centers, found.cosine),
        separation(scores, np.arange(len(scores)) < len(genuine)),
        **_means(sums, lengths, sizes),
        vendi_images=vendi_score(covariance / len(index)),
        vendi_identities=vendi_score(_kernel(centers)),
        gallery_cosine=None
        if gallery is None
        else sweep_streamed(gallery, centers, reduction=nearest(), sweep=sweep).cosine,
    )


def check_labels(labels: np.ndarray) -> None:
    """Check that there are genuine and impostor pairs.

    Raises:
        InputError: there are fewer than two identities, or none has two images.
    """
    _, sizes = np.unique(labels, return_counts=True)
    if len(sizes) < 2 or sizes.max() < 2:
        raise InputError(
            f"labels: identities: {len(sizes)}, images of each at most: {sizes.max(initial=0)}; give "
            "two or more identities, at least one of them with two images"
        )


def vendi_score(kernel: np.ndarray) -> float:
    """Return the Vendi score, the exponential of the entropy of a kernel's eigenvalues.

    It is the effective number of different rows.

    Args:
        kernel: ``K / n`` for the cosines K of n rows, ``[n, n]``; or the second moment ``x.T @ x / n``
            of unit rows, ``[d, d]``, which has the same nonzero eigenvalues.

    Returns:
        The score, from 1 if all rows are the same to at most the smaller of n and d.

    Examples:
        >>> round(vendi_score(np.eye(4) / 4), 6)
        4.0
    """
    values = np.linalg.eigvalsh(kernel)
    values = values[values > 0]
    values = values / values.sum()
    return float(np.exp(-np.sum(values * np.log(values))))


class _Rows:
    """Rows that are read in blocks and counted for the progress."""

    def __init__(self, source: RowSource, progress: Update | None) -> None:
        self.shape, self._source, self._progress, self._done = source.shape, source, progress, 0

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read rows in any order, each run of consecutive rows at once."""
        cuts = np.flatnonzero(np.diff(rows) != 1) + 1
        runs = np.split(rows, cuts)
        return np.concatenate([self[int(run[0]) : int(run[-1]) + 1] for run in runs])

    def __getitem__(self, place: slice, /) -> np.ndarray:
        block = np.asarray(self._source[place], np.float32)
        self._done += len(block)
        if self._progress:
            self._progress(self._done)
        return block


def _classes(x: RowSource, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.asarray(labels)
    if len(x.shape) != 2 or labels.shape != (x.shape[0],):
        raise InputError(f"labels: {labels.shape} for embeddings {x.shape}; give one each")
    check_labels(labels)
    return np.unique(labels, return_inverse=True, return_counts=True)


def _check_lengths(names: np.ndarray, lengths: np.ndarray) -> None:
    if lengths.min() < _ZERO_LENGTH:
        raise InputError(
            f"labels: the embeddings of identity {names[lengths.argmin()]} cancel out, so it has no "
            "center; check its images"
        )


def _moments(rows: _Rows, index: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the rows of each class, ``[c, d]``, and of all outer products, ``[d, d]``."""
    dim = rows.shape[1]
    sums, covariance = np.zeros((num_classes, dim)), np.zeros((dim, dim))
    for start in range(0, len(index), _BLOCK):
        part = slice(start, min(start + _BLOCK, len(index)))
        block = rows[part]
        covariance += block.T @ block
        order = np.argsort(index[part], kind="stable")
        ids, first = np.unique(index[part][order], return_index=True)
        sums[ids] += np.add.reduceat(block[order], first, axis=0, dtype=np.float64)
    return sums, covariance


def _genuine(rows: _Rows, index: np.ndarray, sizes: np.ndarray, seed: int) -> np.ndarray:
    """Score the pairs of images in each class, sampling the images of large classes if necessary."""
    most = _most_images(sizes)
    rng = np.random.default_rng(seed)
    order, ends = np.argsort(index, kind="stable"), np.cumsum(sizes)
    scores = []
    for start, end in zip(ends - sizes, ends, strict=True):
        own = order[start:end]
        if len(own) > most:
            own = np.sort(rng.choice(own, most, replace=False))
        if len(own) > 1:
            images = rows.take(own)
            scores.append((images @ images.T)[np.triu_indices(len(own), 1)])
    return np.concatenate(scores)


def _most_images(sizes: np.ndarray) -> int:
    """Return the number of images per class that gives at most ``MOST_GENUINE`` pairs."""
    low, high = 2, int(sizes.max())
    while low < high:
        middle = (low + high + 1) // 2
        kept = np.minimum(sizes, middle).astype(np.int64)
        low, high = (middle, high) if _num_pairs(kept) <= MOST_GENUINE else (low, middle - 1)
    return low


def _num_pairs(sizes: np.ndarray) -> int:
    return int(np.sum(sizes * (sizes - 1)) // 2)


def _impostor(x: RowSource, index: np.ndarray, seed: int) -> np.ndarray:
    """Score the impostor pairs between randomly sampled rows."""
    count = min(IMPOSTOR_ROWS, len(index))
    chosen = np.sort(np.random.default_rng(seed).choice(len(index), count, replace=False))
    if len(np.unique(index[chosen])) < 2:  # nearly all images are of one identity
        chosen[0] = np.flatnonzero(index != index[chosen[0]])[0]
    sample = _Rows(x, None).take(chosen)
    i, j = np.triu_indices(count, 1)
    scores = (sample @ sample.T)[i, j]
    return scores[index[chosen][i] != index[chosen][j]]


def _means(sums: np.ndarray, lengths: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
    """Count all pairs, and average their cosines from the squared lengths of sums of rows."""
    num_rows, squares = int(sizes.sum()), float(np.sum(lengths**2))
    num_genuine = _num_pairs(sizes.astype(np.int64))
    num_impostor = num_rows * (num_rows - 1) // 2 - num_genuine
    total = sums.sum(axis=0)
    return {
        "num_genuine": num_genuine,
        "num_impostor": num_impostor,
        "genuine_mean": (squares - num_rows) / 2 / num_genuine,
        "impostor_mean": (float(total @ total) - squares) / 2 / num_impostor,
    }


def _kernel(rows: np.ndarray) -> np.ndarray:
    """Return the smaller of the two matrices that :func:`vendi_score` accepts."""
    rows = rows.astype(np.float64)
    return (rows.T @ rows if len(rows) > rows.shape[1] else rows @ rows.T) / len(rows)


def _spread(values: np.ndarray) -> dict[str, float]:
    quantiles = np.quantile(values, (0, 0.05, 0.5, 0.95, 1))
    names = ("min", "5 %", "median", "95 %", "max")
    return {"mean": float(values.mean()), **dict(zip(names, quantiles.tolist(), strict=True))}
