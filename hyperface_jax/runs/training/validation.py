"""Held-out pairs that are verified during training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hyperface_jax.evaluation import verify
from hyperface_jax.io import images
from hyperface_jax.io.verification_files import read_verification_set
from hyperface_jax.recognition.backbones import COLOR_ORDER, IResNet, embed
from hyperface_jax.recognition.data import center_square

if TYPE_CHECKING:
    from jax.sharding import Mesh


class Validation(NamedTuple):
    """A verification set in memory.

    Attributes:
        name: of the set.
        pixels: uint8 RGB ``[2 pairs, size, size, 3]``, the two images of a pair one after the other.
        is_same: ``[pairs]``.
    """

    name: str
    pixels: np.ndarray
    is_same: np.ndarray

    def accuracy(self, model: IResNet, *, mesh: Mesh | None, batch_size: int) -> float:
        """Return the ten-fold accuracy, mirrored images added."""
        inputs = images.normalize(self.pixels, COLOR_ORDER[model.config.variant])
        unit = embed(model, inputs, mesh=mesh, batch_size=batch_size, flip=True).unit
        return verify(unit[0::2], unit[1::2], self.is_same).accuracy


def read_validation(path: Path, root: Path | None, size: int) -> Validation:
    """Read and decode a verification set, cut square and scaled to ``size``.

    Raises:
        InputError: the set or one of its images cannot be read.
    """
    pairs = read_verification_set(path, root)
    decoded = [
        center_square(images.decode(pairs.read(i), name=f"{path}: image {i}"), size)
        for i in range(len(pairs.images))
    ]
    return Validation(pairs.name, np.stack(decoded), np.asarray(pairs.is_same))
