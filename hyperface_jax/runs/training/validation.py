"""Held-out pairs that are verified during a training run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation import verify
from hyperface_jax.io import images
from hyperface_jax.io.files import one_line
from hyperface_jax.io.verification_files import VerificationSet, read_verification_set
from hyperface_jax.recognition.backbones import COLOR_ORDER, IResNet, embed
from hyperface_jax.recognition.data import center_square

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from hyperface_jax.runs.training.settings import Train


class Validation(NamedTuple):
    """A verification set in memory.

    Attributes:
        name: name of the set.
        pixels: uint8 RGB images, ``[2 * num_pairs, size, size, 3]``; the two images of a pair are
            adjacent.
        is_same: whether each pair shows one person, ``[num_pairs]``.
    """

    name: str
    pixels: np.ndarray
    is_same: np.ndarray

    def accuracy(self, model: IResNet, *, mesh: Mesh | None, batch_size: int) -> float:
        """Return the ten-fold accuracy, with the embeddings of mirrored images added."""
        inputs = images.normalize(self.pixels, COLOR_ORDER[model.config.variant])
        unit = embed(model, inputs, mesh=mesh, batch_size=batch_size, flip=True).unit
        return verify(unit[0::2], unit[1::2], self.is_same).accuracy


def read_validation(config: Train, size: int) -> list[Validation]:
    """Read and decode the verification sets; their images are cut square and scaled to ``size``.

    Raises:
        InputError: a set or one of its images cannot be read, or ``images`` is given but no set needs
            it.
    """
    found = [(path, read_verification_set(path, config.images)) for path in config.validate]
    are_lists = any(isinstance(pairs.images[0], Path) for _, pairs in found)
    if config.images is not None and not are_lists:
        raise InputError(
            f"`images={one_line(config.images)}`: is for lists of pairs, but every `validate` here "
            "holds its own images; drop it"
        )
    return [_decoded(path, pairs, size) for path, pairs in found]


def _decoded(path: Path, pairs: VerificationSet, size: int) -> Validation:
    decoded = [
        center_square(images.decode(pairs.read(i), name=f"{path}: image {i}"), size)
        for i in range(len(pairs.images))
    ]
    return Validation(pairs.name, np.stack(decoded), np.asarray(pairs.is_same))
