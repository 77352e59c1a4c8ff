"""Bilinear resampling that agrees with OpenCV, by which published recognizers got their faces.

Unlike Pillow, OpenCV rounds to the nearest gray level when it warps, blends the border with what lies
outside, and does not average over source pixels when it shrinks an image.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_BITS = 11
"""Of the fixed-point weights with which OpenCV resizes."""


def resize_linear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale an image as ``cv2.resize`` does, to one gray level or better.

    Args:
        image: uint8, ``[h, w, c]``.
        height: of the result, pixels.
        width: of the result, pixels.

    Returns:
        uint8, ``[height, width, c]``.
    """
    left, right, across = _taps(image.shape[1], width)
    top, bottom, down = _taps(image.shape[0], height)

    def line(index: np.ndarray) -> np.ndarray:
        part = image[index].astype(np.int32)
        return (part[:, left] * across[0, :, None] + part[:, right] * across[1, :, None]) >> 4

    above, below = (
        (line(index) * weight[:, None, None]) >> 16
        for index, weight in zip((top, bottom), down, strict=True)
    )
    return ((above + below + 2) >> 2).astype(np.uint8)


def _taps(size: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both source pixels of each new one, and their weights, ``[2, new]``."""
    place = ((np.arange(new) + 0.5) * (size / new) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    share = np.where((first < 0) | (first >= size - 1), np.float32(0), place - first)
    first = np.clip(first, 0, size - 1)
    weights = np.rint(np.stack([1 - share, share]) * 2**_BITS).astype(np.int32)
    return first, np.minimum(first + 1, size - 1), weights


def warp(image: np.ndarray, forward: np.ndarray, size: int) -> np.ndarray:
    """Warp an image as ``cv2.warpAffine`` does, to one gray level, black outside.

    Args:
        image: uint8, ``[h, w, c]``.
        forward: ``[2, 3]``, takes a pixel (x, y) of the image to its place in the result.
        size: side of the result, pixels.

    Returns:
        uint8, ``[size, size, c]``.
    """
    inverse = np.linalg.inv(np.vstack([forward, [0, 0, 1]]))[:2]
    # SciPy counts (row, column), landmarks are (x, y).
    matrix, offset = inverse[::-1, 1::-1], inverse[::-1, 2]
    warped = np.empty((size, size, image.shape[2]), np.uint8)
    for channel in range(image.shape[2]):
        plane = ndimage.affine_transform(
            image[..., channel].astype(np.float32),
            matrix,
            offset=tuple(offset),  # pyright: ignore[reportArgumentType]
            output_shape=(size, size),
            order=1,
            mode="grid-constant",
        )
        warped[..., channel] = np.rint(plane)
    return warped
