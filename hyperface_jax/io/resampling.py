"""Bilinear resampling that agrees with OpenCV, which prepared the faces of published recognizers.

Unlike Pillow, OpenCV rounds to the nearest gray level when it warps an image, blends the border with
the color outside, and does not average over source pixels when it shrinks an image.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_BITS = 11
"""Number of bits of the fixed-point weights with which OpenCV resizes."""


def resize_linear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale an image as ``cv2.resize`` does, to within one gray level.

    Args:
        image: uint8 image, ``[h, w, c]``.
        height: height of the result, in pixels.
        width: width of the result, in pixels.

    Returns:
        uint8 image, ``[height, width, c]``.
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
    """Return the two source pixels of each new pixel, and their weights, ``[2, new]``."""
    place = ((np.arange(new) + 0.5) * (size / new) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    share = np.where((first < 0) | (first >= size - 1), np.float32(0), place - first)
    first = np.clip(first, 0, size - 1)
    weights = np.rint(np.stack([1 - share, share]) * 2**_BITS).astype(np.int32)
    return first, np.minimum(first + 1, size - 1), weights


def warp(image: np.ndarray, forward: np.ndarray, size: int) -> np.ndarray:
    """Warp an image as ``cv2.warpAffine`` does, to within one gray level, black outside.

    Args:
        image: uint8 image, ``[h, w, c]``.
        forward: transformation ``[2, 3]`` that maps a pixel (x, y) of the image to its place in the
            result.
        size: height and width of the result, in pixels.

    Returns:
        uint8 image, ``[size, size, c]``.
    """
    inverse = np.linalg.inv(np.vstack([forward, [0, 0, 1]]))[:2]
    # SciPy takes (row, column), but landmarks are (x, y).
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
