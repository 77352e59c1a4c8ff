"""Starts of a search next to known constructions, with a few points taken away or added."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from hyperface_jax.codes import SphericalCode, best_known
from hyperface_jax.codes.catalogue import catalogue
from hyperface_jax.packing.contact_pairs import unit_rows

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_FEWEST, _MOST = 0.75, 1.5
_MOST_CODES = 8
_HOLES = 500


def near_codes(num_points: int, dim: int) -> list[SphericalCode]:
    """Return the best construction, and codes of the dimension with nearly as many points.

    Returns:
        At most 9 codes of ``num_points`` times 0.75 to 1.5, the best construction first.
    """
    best = best_known(num_points, dim)
    sizes = _FEWEST * num_points, _MOST * num_points
    near = [c for c in catalogue() if c.dim == dim and sizes[0] <= c.num_points <= sizes[1]]
    near.sort(key=lambda code: abs(math.log(code.num_points / num_points)))
    return [best, *[code for code in near if code.name != best.name][:_MOST_CODES]]


def fitted(code: SphericalCode, num_points: int, rng: np.random.Generator) -> Array:
    """Take points away at random or next to each other, or add points where there is room.

    Returns:
        ``[num_points, d]`` float64 unit rows.
    """
    points = unit_rows(np.asarray(code.block(0, code.num_points), np.float64))
    surplus = len(points) - num_points
    if surplus > 0:
        order = rng.permutation(len(points))
        if rng.random() < 0.5:
            order = np.argsort(points @ rng.normal(size=points.shape[1]))
        return points[order[surplus:]]
    for _ in range(-surplus):
        drawn = unit_rows(rng.normal(size=(_HOLES, points.shape[1])))
        points = np.vstack([points, drawn[np.argmin((drawn @ points.T).max(axis=1))]])
    return points
