"""AdaFace's augmentations of aligned faces, for uint8 images and with an explicit random generator.

An augmentation is a function that takes an image and a ``np.random.Generator`` and returns an image of
the same shape. To add one, write that function, and add a probability to :class:`Augmentation` and a row
to its table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance

from hyperface_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

    Step = Callable[[np.ndarray, Generator], np.ndarray]

_MIN_SCALE = 0.2
_MAX_RATIO = 4 / 3
_NUM_CROP_TRIES = 10
_JITTER = 0.5
_FILTERS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BOX,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)
_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def flip(image: np.ndarray, rng: Generator) -> np.ndarray:
    """Mirror left and right."""
    del rng
    return image[:, ::-1]


def crop(image: np.ndarray, rng: Generator) -> np.ndarray:
    """Black out all but a random rectangle, without moving or scaling it.

    The rectangle covers 0.2 to 1 of the image's area and has an aspect ratio (width / height) of 3/4 to
    4/3. If ten draws in a row do not fit into the image, it is returned unchanged.
    """
    height, width = image.shape[:2]
    for _ in range(_NUM_CROP_TRIES):
        area = height * width * rng.uniform(_MIN_SCALE, 1)
        ratio = math.exp(rng.uniform(-math.log(_MAX_RATIO), math.log(_MAX_RATIO)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            result = np.zeros_like(image)
            window = slice(top, top + h), slice(left, left + w)
            result[window] = image[window]
            return result
    return image


def low_resolution(image: np.ndarray, rng: Generator) -> np.ndarray:
    """Shrink both sides by a factor of 0.2 to 1 and enlarge again, each time with a random filter.

    Pillow's filters average when they shrink an image. Of OpenCV's filters, which AdaFace uses, only
    ``INTER_AREA`` does.
    """
    height, width = image.shape[:2]
    share = rng.uniform(_MIN_SCALE, 1)
    down, up = rng.integers(len(_FILTERS), size=2)
    small = max(int(share * width), 1), max(int(share * height), 1)
    shrunk = Image.fromarray(image).resize(small, _FILTERS[down])
    return np.array(shrunk.resize((width, height), _FILTERS[up]))


def photometric(image: np.ndarray, rng: Generator) -> np.ndarray:
    """Scale brightness, contrast and saturation by a factor of 0.5 to 1.5 each, in random order."""
    factors = rng.uniform(1 - _JITTER, 1 + _JITTER, size=len(_ENHANCERS))
    result = Image.fromarray(image)
    for i in rng.permutation(len(_ENHANCERS)):
        result = _ENHANCERS[i](result).enhance(factors[i])
    return np.array(result)


@dataclass(frozen=True)
class Augmentation:
    """The probability of each augmentation; the defaults are AdaFace's.

    Attributes:
        flip: probability of :func:`flip`.
        crop: probability of :func:`crop`.
        low_resolution: probability of :func:`low_resolution`.
        photometric: probability of :func:`photometric`.

    References:
        Kim, Jain, Liu, "AdaFace: Quality Adaptive Margin for Face Recognition", CVPR 2022, section 4.
    """

    flip: float = 0.5
    crop: float = 0.2
    low_resolution: float = 0.2
    photometric: float = 0.2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise InputError(f"{field.name}: {value} is not a probability; use 0 to 1")

    def _table(self) -> tuple[tuple[float, Step], ...]:
        return (
            (self.flip, flip),
            (self.crop, crop),
            (self.low_resolution, low_resolution),
            (self.photometric, photometric),
        )

    def __call__(self, image: np.ndarray, rng: Generator) -> np.ndarray:
        """Augment an image.

        Args:
            image: uint8 RGB, ``[h, w, 3]``; it is not modified.
            rng: the only source of randomness.

        Returns:
            uint8 RGB, ``[h, w, 3]``.
        """
        for probability, step in self._table():
            if rng.random() < probability:
                image = step(image, rng)
        return image


NO_AUGMENTATION = Augmentation(flip=0, crop=0, low_resolution=0, photometric=0)
"""Settings that leave images unchanged."""
