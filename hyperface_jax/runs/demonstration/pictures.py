"""Contact sheets of a closed loop: the gallery, and real persons next to drawn ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.reports.contact_sheet import contact_sheet
from hyperface_jax.runs.demonstration.stages import persons
from hyperface_jax.toyfaces.diffusion import generator
from hyperface_jax.toyfaces.faces import random_faces

if TYPE_CHECKING:
    from hyperface_jax.runs.demonstration.closed_loop import ClosedLoop

TILE = 64
_COLUMNS = 12
_PERSONS, _REAL, _DRAWN = 8, 4, 6


def gallery_sheet(loop: ClosedLoop) -> np.ndarray:
    """Lay out the first faces of the gallery."""
    faces = random_faces(loop.seed, np.arange(min(3 * _COLUMNS, loop.size.gallery)))
    rows = [list(faces[start : start + _COLUMNS]) for start in range(0, len(faces), _COLUMNS)]
    return contact_sheet(rows, tile=TILE)


def persons_sheet(loop: ClosedLoop) -> np.ndarray:
    """Lay out unseen persons, one per row: real images, a gap, and images drawn from their direction."""
    faces = persons(loop.seed, "reference", _PERSONS, 2 * _REAL)
    model = generator()
    conditions = np.repeat(faces.directions(), _DRAWN, axis=0)
    rng = np.random.default_rng(loop.seed)
    noise = rng.standard_normal((len(conditions), *model.noise_shape), np.float32)
    drawn = model(conditions, noise).reshape(_PERSONS, _DRAWN, *faces.images.shape[2:])
    real = contact_sheet([list(row[:_REAL]) for row in faces.images], tile=TILE)
    gap = np.full((len(real), TILE // 3, 3), 255, np.uint8)
    return np.concatenate([real, gap, contact_sheet([list(row) for row in drawn], tile=TILE)], 1)
