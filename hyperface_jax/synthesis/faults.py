"""Signs that a generator has failed: images of one color, and images that are all alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_FIELDS = 4
_ALIKE = 1
"""Levels by which the mean gray of a field may differ between images that are alike."""


def sketch(image: np.ndarray) -> bytes:
    """Return the mean gray of 4 x 4 fields of an image, 16 bytes that tell copies from others."""
    gray = image.mean(axis=2)
    rows, columns = (np.arange(_FIELDS) * size // _FIELDS for size in gray.shape)
    sums = np.add.reduceat(np.add.reduceat(gray, rows, 0), columns, 1)
    sizes = np.outer(_lengths(rows, gray.shape[0]), _lengths(columns, gray.shape[1]))
    return np.rint(sums / sizes).astype(np.uint8).tobytes()


def _lengths(starts: np.ndarray, size: int) -> np.ndarray:
    return np.maximum(np.diff(starts, append=size), 1)


class Copies(NamedTuple):
    """Images that differ too little.

    Attributes:
        num_alike_identities: identities of two images or more that are all alike.
        num_comparable: identities of two images or more.
        num_repeated_images: images with the sketch of another one before them.
    """

    num_alike_identities: int
    num_comparable: int
    num_repeated_images: int


def count_copies(identities: np.ndarray, sketches: Sequence[bytes]) -> Copies:
    """Count identities of one and the same image, and images that are there before.

    Args:
        identities: of each image, ``[n]``, in groups.
        sketches: of each image.

    Examples:
        >>> count_copies(np.array([3, 3, 5, 5]), [b"aa", b"ab", b"aa", b"zz"])
        Copies(num_alike_identities=1, num_comparable=2, num_repeated_images=1)
    """
    if not len(identities):
        return Copies(0, 0, 0)
    gray = np.frombuffer(b"".join(sketches), np.uint8).reshape(len(identities), -1)
    starts = np.flatnonzero(np.diff(identities, prepend=identities[0] - 1))
    spread = np.maximum.reduceat(gray, starts) - np.minimum.reduceat(gray, starts)
    has_more = np.diff(starts, append=len(identities)) > 1
    is_alike = has_more & (spread.max(1) <= _ALIKE)
    num_repeated = len(identities) - len(set(sketches))
    return Copies(int(is_alike.sum()), int(has_more.sum()), num_repeated)
