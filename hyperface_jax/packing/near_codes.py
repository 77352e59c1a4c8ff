"""Starts of a search next to known constructions, with points taken away, or added in their holes."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from hyperface_jax.codes import SphericalCode, best_known
from hyperface_jax.codes.catalogue import catalogue
from hyperface_jax.packing.contact_pairs import unit_rows
from hyperface_jax.packing.groups import one_of_the_first
from hyperface_jax.packing.holes import Holes, deep_holes, fillable

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_FEWEST, _MOST = 0.3, 1.5
_MOST_CODES = 12
_HOLES = 500
_FILLED = 0.75
_DIGITS, _SLACK = 2, 0.006
"""Digits to which holes are equally deep, and how much nearer than that they may come to each other."""
_DEEPEST = 0.5
"""Chance of the deepest holes, or else of the next, and so on."""
_AGAIN = 0.15
"""Chance of the first filling of a code, or else of the next: new ones are slow, so they are kept."""
_KEPT = 512


def near_codes(num_points: int, dim: int) -> list[SphericalCode]:
    """Return the best construction, and codes of the dimension with nearly as many points.

    Returns:
        The best construction, whole if it has more points, and at most 12 others of ``num_points`` times
        0.3 to 1.5.
    """
    best = best_known(num_points, dim)
    whole = [c for c in catalogue() if (c.dim, c.name) == (dim, best.name)]
    best = max([best, *whole], key=lambda code: code.num_points)
    sizes = _FEWEST * num_points, _MOST * num_points
    near = [c for c in catalogue() if c.dim == dim and sizes[0] <= c.num_points <= sizes[1]]
    near.sort(key=lambda code: abs(math.log(code.num_points / num_points)))
    return [best, *[code for code in near if code.name != best.name][:_MOST_CODES]]


def fitted(code: SphericalCode, num_points: int, rng: np.random.Generator) -> Array:
    """Take points away at random or next to each other, or add points where there is room.

    Points are added in the largest set of equally deep holes that is found, and then one by one.

    Returns:
        ``[num_points, d]`` float64 unit rows.
    """
    points = _points(code)
    surplus = len(points) - num_points
    if surplus > 0:
        order = rng.permutation(len(points))
        if rng.random() < 0.5:
            order = np.argsort(points @ rng.normal(size=points.shape[1]))
        return points[order[surplus:]]
    if surplus < 0 and rng.random() < _FILLED:
        number = int(rng.geometric(_AGAIN))
        points = np.vstack([points, _filling(code, -surplus, number)])
    while len(points) < num_points:
        drawn = unit_rows(rng.normal(size=(_HOLES, points.shape[1])))
        points = np.vstack([points, drawn[np.argmin((drawn @ points.T).max(axis=1))]])
    return points


@lru_cache(maxsize=2 * _MOST_CODES)
def _points(code: SphericalCode) -> Array:
    points = unit_rows(np.asarray(code.block(0, code.num_points), np.float64))
    points.flags.writeable = False
    return points


@lru_cache(maxsize=2 * _MOST_CODES)
def _holes(code: SphericalCode) -> Holes:
    return deep_holes(_points(code), np.random.default_rng(0))


@lru_cache(maxsize=_KEPT)
def _filling(code: SphericalCode, count: int, number: int) -> Array:
    """Choose at most so many holes that are about as deep, or deeper; each number is another draw."""
    holes, rng = _holes(code), np.random.default_rng(number)
    depths = np.unique(np.round(holes.cosines, _DIGITS))
    highest = one_of_the_first(depths.tolist(), _DEEPEST, rng) + _SLACK
    deep = holes.points[holes.cosines <= highest]
    return deep[fillable(deep, highest, count, rng)]
