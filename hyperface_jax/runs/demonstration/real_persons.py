"""The real persons of a closed loop: their embeddings, and images of some to train on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from hyperface_jax.faces.flax_recognizer import load_recognizer
from hyperface_jax.packing.starts import farthest_rows
from hyperface_jax.runs.demonstration.arms import FARTHEST_REAL, REAL
from hyperface_jax.runs.demonstration.closed_loop import RECOGNITION
from hyperface_jax.toyfaces.faces import draw_persons, embed_persons
from hyperface_jax.toyfaces.population import persons_at, split_key, write_folder
from hyperface_jax.toyfaces.pretrained import RECOGNIZER

if TYPE_CHECKING:
    from pathlib import Path

    from hyperface_jax.runs.demonstration.closed_loop import ClosedLoop
    from hyperface_jax.toyfaces.faces import PersonFaces

_ROLE = "recognition"
_FOLDERS = {REAL: "real-images", FARTHEST_REAL: "far-images"}


def persons(
    seed: int, role: str, num: int, images_per_id: int, preset: str = "easy"
) -> PersonFaces:
    """Draw real persons of a role and embed their images with the shipped recognizer."""
    images = draw_persons(seed, role, num, images_per_id, preset=preset)
    return embed_persons(load_recognizer(RECOGNIZER), images)


def real_images(loop: ClosedLoop, way: str) -> Path:
    """Return a folder with as many images of real persons as other arms have; draw missing ones.

    Args:
        loop: the closed loop.
        way: ``REAL`` for persons at random, or ``FARTHEST_REAL`` for the farthest of a crowd.
    """
    path = loop.folder(RECOGNITION) / _FOLDERS[way]
    if not path.exists():
        key, size = split_key(loop.seed, _ROLE), loop.size
        latents = persons_at(key, _numbers(loop, way)).latents
        counts = [size.images_per_id] * size.num_ids
        # Use the circumstances that the generator was trained on, so that only the persons differ.
        write_folder(path, latents, counts, key=key, preset="portrait")
    return path


def _numbers(loop: ClosedLoop, way: str) -> np.ndarray:
    """Return the numbers of the persons of an arm."""
    num = loop.size.num_ids
    if way == REAL:
        return np.arange(num)
    crowd = persons(loop.seed, _ROLE, loop.size.num_crowd, 2).directions()
    return np.asarray(farthest_rows(jnp.asarray(crowd), num, first=0))
