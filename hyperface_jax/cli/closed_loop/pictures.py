"""Contact sheets of a closed loop: the gallery, the arms, and real persons beside drawn ones."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.cli.closed_loop import stages
from hyperface_jax.io.images import encode
from hyperface_jax.reports.contact_sheet import contact_sheet

if TYPE_CHECKING:
    from hyperface_jax.cli.closed_loop.stages import Loop

TILE = 64
_COLUMNS = 12
_PERSONS, _REAL, _DRAWN = 8, 4, 6


def gallery_sheet(loop: Loop) -> np.ndarray:
    """Lay out the first faces of the gallery."""
    from hyperface_jax.toyfaces.faces import random_faces

    faces = random_faces(loop.seed, np.arange(min(3 * _COLUMNS, loop.size.gallery)))
    rows = [list(faces[start : start + _COLUMNS]) for start in range(0, len(faces), _COLUMNS)]
    return contact_sheet(rows, tile=TILE)


def persons_sheet(loop: Loop) -> np.ndarray:
    """Lay out unseen persons, one a row: real images, a gap, and what is drawn from their direction."""
    from hyperface_jax.toyfaces.diffusion import generator

    faces = stages.persons(loop.seed, "reference", _PERSONS, 2 * _REAL)
    model = generator()
    conditions = np.repeat(faces.directions(), _DRAWN, axis=0)
    rng = np.random.default_rng(loop.seed)
    noise = rng.standard_normal((len(conditions), *model.noise_shape), np.float32)
    drawn = model(conditions, noise).reshape(_PERSONS, _DRAWN, *faces.images.shape[2:])
    real = contact_sheet([list(row[:_REAL]) for row in faces.images], tile=TILE)
    gap = np.full((len(real), TILE // 3, 3), 255, np.uint8)
    return np.concatenate([real, gap, contact_sheet([list(row) for row in drawn], tile=TILE)], 1)


def data_uri(image: np.ndarray) -> str:
    """Return an image as the address of an ``<img>`` that needs no other file."""
    return "data:image/png;base64," + base64.b64encode(encode(image)).decode()


def file_uri(path: object) -> str:
    """Return a PNG file as the address of an ``<img>``."""
    from pathlib import Path

    return "data:image/png;base64," + base64.b64encode(Path(str(path)).read_bytes()).decode()
