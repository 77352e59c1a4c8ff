"""Detection of failures of a generator that draws images which are too much alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_FIELDS = 4
_ALIKE = 1
"""Gray levels by which the mean of a field may differ between images that count as alike."""


def sketch(image: np.ndarray) -> bytes:
    """Return the mean gray levels of 4 x 4 fields of an image, 16 bytes to recognize copies by."""
    gray = image.mean(axis=2)
    rows, columns = (np.arange(_FIELDS) * size // _FIELDS for size in gray.shape)
    sums = np.add.reduceat(np.add.reduceat(gray, rows, 0), columns, 1)
    sizes = np.outer(_lengths(rows, gray.shape[0]), _lengths(columns, gray.shape[1]))
    return np.rint(sums / sizes).astype(np.uint8).tobytes()


def _lengths(starts: np.ndarray, size: int) -> np.ndarray:
    return np.maximum(np.diff(starts, append=size), 1)


class Copies(NamedTuple):
    """Numbers of images and identities that show copies.

    Attributes:
        num_alike_identities: number of identities with two or more images that are all alike.
        num_comparable: number of identities with two or more images.
        num_repeated_images: number of images with the same sketch as an earlier image.
    """

    num_alike_identities: int
    num_comparable: int
    num_repeated_images: int


def count_copies(identities: np.ndarray, sketches: Sequence[bytes]) -> Copies:
    """Count identities with images that are all alike, and repeated images.

    Args:
        identities: identity of each image, ``[n]``, with the images of an identity next to each other.
        sketches: sketch of each image, from :func:`sketch`.

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
