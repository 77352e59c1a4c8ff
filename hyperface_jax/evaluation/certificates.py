"""Which identities of a data set no recognizer threshold can confuse, by the triangle inequality.

All images of an identity lie within its radius of its center. If the angle between two centers is at
least ``arccos(threshold)`` plus both radii, no image of the one has a cosine above the threshold to an
image of the other. With one radius for all identities, this is the condition of Razeghi.

References:
    Razeghi, arXiv 2604.10641.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.errors import InputError

if TYPE_CHECKING:
    from hyperface_jax.evaluation.variety import Classes
    from hyperface_jax.pairwise import RowSource
    from hyperface_jax.typing import Update

_BLOCK = 8192
_ENTRIES = 1 << 24
_QUANTILES = {"min": 0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1}


@dataclass(frozen=True)
class Certificate:
    """The pairs of identities whose images a threshold tells apart for certain.

    Attributes:
        threshold: cosine from which two faces count as one person.
        labels: labels of the identities, ``[c]``.
        radii: largest angle between each identity's images and its center, radians ``[c]``.
        num_certified: number of pairs of identities that are told apart.
        worst: numbers of the identities of the pairs with the smallest margins, ``[k, 2]``.
        margins: angle by which each of these pairs is farther apart than needed, radians ``[k]``,
            increasing; it is negative for a pair that is not certified.
    """

    threshold: float
    labels: np.ndarray
    radii: np.ndarray
    num_certified: int
    worst: np.ndarray
    margins: np.ndarray

    @property
    def num_pairs(self) -> int:
        """Number of all pairs of identities."""
        return len(self.radii) * (len(self.radii) - 1) // 2

    def summary(self) -> dict[str, Any]:
        """Return the figures as JSON values, angles in degrees."""
        degrees = np.degrees(self.radii)
        pairs = zip(self.labels[self.worst].tolist(), np.degrees(self.margins), strict=True)
        return {
            "threshold": self.threshold,
            "radius_degrees": {
                "mean": float(degrees.mean()),
                **{name: float(np.quantile(degrees, q)) for name, q in _QUANTILES.items()},
            },
            "num_pairs": self.num_pairs,
            "num_certified": self.num_certified,
            "worst": [{"identities": pair, "margin_degrees": float(m)} for pair, m in pairs],
        }


def certify(
    x: RowSource,
    labels: np.ndarray,
    classes: Classes,
    *,
    threshold: float,
    num_worst: int = 20,
    progress: Update | None = None,
) -> Certificate:
    """Find which pairs of identities a threshold tells apart whatever images of theirs are compared.

    Args:
        x: embeddings of the images, unit rows, float32 ``[n, d]``, in memory or in a file.
        labels: identity of each image, ``[n]``.
        classes: the identities, from :func:`.diversity` of the same rows.
        threshold: cosine from which two faces count as one person, from -1 to 1.
        num_worst: number of pairs to list.
        progress: called with the number of rows that are done, out of n.

    Returns:
        The certificate. It is about these images: others of the same identities may lie farther out.

    Raises:
        InputError: the threshold is not a cosine, or a label is not that of an identity.

    Cost: ``2 c^2 d`` FLOPs for the centers. Memory for two blocks of rows and of angles.
    """
    if not -1 <= threshold <= 1:
        raise InputError(f"`threshold={threshold}`: must be a cosine, from -1 to 1")
    radii = _radii(x, _places(labels, classes), classes.centers, progress)
    needed = radii + np.arccos(threshold) / 2
    num_certified, found = 0, np.empty((0, 3))
    size = max(1, _ENTRIES // len(radii))
    for start in range(0, len(radii) - 1, size):
        rows, columns, margins = _margins(
            classes.centers, needed, slice(start, start + size), start
        )
        num_certified += int(np.sum(margins >= 0))
        nearest = np.argsort(margins, kind="stable")[:num_worst]
        part = np.stack([margins[nearest], rows[nearest], columns[nearest]], axis=1)
        both = np.concatenate([found, part])
        found = both[np.argsort(both[:, 0], kind="stable")][:num_worst]
    worst = found[:, 1:].astype(np.int64)
    return Certificate(threshold, classes.labels, radii, num_certified, worst, found[:, 0])


def _places(labels: np.ndarray, classes: Classes) -> np.ndarray:
    labels = np.asarray(labels)
    places = np.minimum(np.searchsorted(classes.labels, labels), len(classes.labels) - 1)
    if len(unknown := labels[classes.labels[places] != labels]):
        raise InputError(f"labels: {unknown[0]} is no identity; describe the same rows")
    return places


def _radii(
    x: RowSource, places: np.ndarray, centers: np.ndarray, progress: Update | None
) -> np.ndarray:
    """Return the largest angle of each identity, from chords, which are exact where cosines are not."""
    chords = np.zeros(len(centers))
    for start in range(0, len(places), _BLOCK):
        part = slice(start, min(start + _BLOCK, len(places)))
        rows = np.asarray(x[part], np.float64)
        distance = np.linalg.norm(rows - _unit(centers[places[part]]), axis=1)
        np.maximum.at(chords, places[part], distance)
        if progress:
            progress(part.stop)
    return 2 * np.arcsin(np.minimum(chords / 2, 1))


def _unit(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def _margins(
    centers: np.ndarray, needed: np.ndarray, part: slice, start: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return identities and margins of the pairs of a block of identities with all later ones."""
    cosines = _unit(centers[part]) @ _unit(centers).T
    rows, columns = np.nonzero(
        np.arange(len(centers)) > np.arange(start, start + len(cosines))[:, None]
    )
    angles = np.arccos(np.clip(cosines[rows, columns], -1, 1))
    rows = rows + start
    return rows, columns, angles - needed[rows] - needed[columns]
