"""Pictures of a closed loop: the gallery, real persons next to drawn ones, and what came out worst."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.reports.contact_sheet import contact_sheet
from hyperface_jax.runs.demonstration.arms import PACKED, UNPACKED
from hyperface_jax.runs.demonstration.closed_loop import SYNTHESIS
from hyperface_jax.runs.demonstration.real_persons import persons
from hyperface_jax.runs.synthesis.pictures import closest_identities, farthest_faces
from hyperface_jax.synthesis.shards import read_data_set
from hyperface_jax.toyfaces.faces import draw_persons, random_faces
from hyperface_jax.toyfaces.parametric import parametric_64

if TYPE_CHECKING:
    from hyperface_jax.runs.demonstration.closed_loop import ClosedLoop
    from hyperface_jax.runs.synthesis.pictures import Shown

TILE = 64
"""Height and width of a face, which is drawn at this size where the recognizers need not see it."""
_COLUMNS = 12
_PERSONS, _REAL, _DRAWN = 8, 4, 6
_WORST = 6


def gallery_sheet(loop: ClosedLoop) -> np.ndarray:
    """Lay out the first faces of the gallery."""
    numbers = np.arange(min(3 * _COLUMNS, loop.size.gallery))
    faces = random_faces(loop.seed, numbers, size=TILE)
    rows = [list(faces[start : start + _COLUMNS]) for start in range(0, len(faces), _COLUMNS)]
    return contact_sheet(rows, tile=TILE)


def persons_sheet(loop: ClosedLoop) -> np.ndarray:
    """Lay out unseen persons, one per row: real images, a gap, and images drawn from their direction."""
    role, num = "reference", 2 * _REAL
    directions = persons(loop.seed, role, _PERSONS, num).directions()
    images = draw_persons(loop.seed, role, _PERSONS, num, preset="easy", size=TILE)
    model = parametric_64()
    conditions = np.repeat(directions, _DRAWN, axis=0)
    rng = np.random.default_rng(loop.seed)
    noise = rng.standard_normal((len(conditions), *model.noise_shape), np.float32)
    drawn = model(conditions, noise).reshape(_PERSONS, _DRAWN, TILE, TILE, 3)
    real = contact_sheet([list(row[:_REAL]) for row in images], tile=TILE)
    gap = np.full((len(real), TILE // 3, 3), 255, np.uint8)
    return np.concatenate([real, gap, contact_sheet([list(row) for row in drawn], tile=TILE)], 1)


def closest_pairs(loop: ClosedLoop) -> dict[str, list[Shown]]:
    """Return the identities whose drawn faces are closest, without packing and with it."""
    folders = {way: loop.path / SYNTHESIS / way for way in (UNPACKED, PACKED)}
    return {
        way: closest_identities(read_data_set(folder), _WORST) for way, folder in folders.items()
    }


def off_target(loop: ClosedLoop) -> list[Shown]:
    """Return the faces of packed identities that are farthest from their targets."""
    return farthest_faces(read_data_set(loop.path / SYNTHESIS / PACKED), _WORST)
