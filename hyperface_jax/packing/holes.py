"""Deep holes of a code, and large sets of them that can be filled together.

A hole is a point whose largest cosine to a code is a local minimum. A good code often has many equally
deep ones, and a set of them, far from each other, makes a larger code that is as good: the 320 points in
15 dimensions with cosines of at most 1/3 have holes at 0.365, of which 96 can be filled at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from hyperface_jax.packing.contact_pairs import unit_rows

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_STARTS, _STEPS = 1000, 150
_HOT, _COLD = 10.0, 3000.0
_MAX_STEP, _STEP_FACTOR = 0.1, 3.0
_ALIKE = 0.999
_SWAPS, _PATIENCE, _TENURE = 1500, 400, 8
_SIDEWAYS = 0.9


class Holes(NamedTuple):
    """Different holes of a code, the deepest first.

    Attributes:
        points: ``[h, d]``, unit rows.
        cosines: ``[h]``, the largest cosine of each to the code.
    """

    points: Array
    cosines: Array


def deep_holes(code: Array, rng: np.random.Generator) -> Holes:
    """Find holes of a code by descent from random points.

    Args:
        code: ``[n, d]``, unit rows.
        rng: source of randomness.

    Cost: 150 products of ``[1000, d]`` and ``[d, n]``; positions are good to about 1e-3.
    """
    code = code.astype(np.float32)
    x = unit_rows(rng.normal(size=(_STARTS, code.shape[1]))).astype(np.float32)
    for step in range(_STEPS):
        beta = _HOT * (_COLD / _HOT) ** (step / (_STEPS - 1))
        cosines = x @ code.T
        slope = np.exp(beta * (cosines - cosines.max(axis=1, keepdims=True))) @ code
        slope -= (slope * x).sum(axis=1, keepdims=True) * x
        length = np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), np.float32(1e-12))
        x = unit_rows(x - min(_MAX_STEP, _STEP_FACTOR / beta) * slope / length)
    return _different(x.astype(np.float64), (x @ code.T).max(axis=1).astype(np.float64))


def _different(x: Array, cosines: Array) -> Holes:
    order = np.argsort(cosines)
    x, cosines = x[order], cosines[order]
    is_alike = np.triu(x @ x.T > _ALIKE, 1)
    is_new = np.ones(len(x), bool)
    for i in range(len(x)):
        if is_new[i]:
            is_new &= ~is_alike[i]
    return Holes(x[is_new], cosines[is_new])


def fillable(holes: Array, highest: float, count: int, rng: np.random.Generator) -> Array:
    """Choose holes no two of which have a cosine above a limit, as many as can be found.

    A tabu search for a large clique: a hole that excludes the fewest of the chosen ones takes their
    place.

    Args:
        holes: ``[h, d]``, unit rows.
        highest: largest cosine of two chosen holes.
        count: number of holes that is enough.
        rng: source of randomness.

    Returns:
        The numbers of at most ``count`` holes.
    """
    excludes = holes @ holes.T > highest
    np.fill_diagonal(excludes, False)
    is_chosen, best = np.zeros((2, len(holes)), bool)
    excluded_by, free_at = np.zeros((2, len(holes)), np.int64)
    improved = 0
    for swap in range(_SWAPS):
        lost = np.where(is_chosen | (free_at > swap), len(holes), excluded_by)
        fewest = lost.min()
        if is_chosen.any() and (fewest == len(holes) or (fewest > 1 and rng.random() < _SIDEWAYS)):
            gone = rng.choice(np.flatnonzero(is_chosen), size=1)
        elif fewest == len(holes):
            continue
        else:
            new = rng.choice(np.flatnonzero(lost == fewest))
            gone = np.flatnonzero(is_chosen & excludes[new])
            is_chosen[new] = True
            excluded_by += excludes[new]
        is_chosen[gone] = False
        excluded_by -= excludes[gone].sum(axis=0)
        free_at[gone] = swap + rng.integers(_TENURE, 2 * _TENURE)
        if is_chosen.sum() > best.sum():
            best, improved = is_chosen.copy(), swap
        if best.sum() >= count or swap - improved >= _PATIENCE:
            break
    return np.flatnonzero(best)
