"""The method of multipliers for packings that are too large for Newton steps, in float64.

The largest cosine is ``max_mu sum mu c`` over weights of the pairs that sum to 1. Subtracting
``|mu - multipliers|^2 / (2 stiffness)`` makes it smooth; its gradient is a sum over the few pairs with a
positive weight. L-BFGS minimizes it, the weights found become the multipliers, and so on. At the end,
Gauss-Newton steps make the cosines of the contacts equal: symmetric codes are exact to the last digits.

References:
    R. T. Rockafellar, Augmented Lagrangians and applications of the proximal point algorithm in convex
    programming, Math. Oper. Res. 1 (1976).
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from hyperface_jax.packing.contact_pairs import AllPairs, carried, slopes, unit_rows

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_ROUNDS = 40
_STEPS_A_ROUND = 150
_MOST_STEPS = 1500
_MEMORY = 15
_WINDOW = 0.05
_STIFF = 3.0
_STIFFER = 2.0
_WORSE = 1.5
_STIFFEST = 1e-8
_FLAT = 1e-13
_ROW_LENGTH = 1000.0
_EQUALIZING_STEPS = 4
_LSQR_STEPS = 200


class Relaxed(NamedTuple):
    """Points ``[n, d]``; close pairs, their cosines and multipliers, ``[p]`` each; L-BFGS steps."""

    x: Array
    rows: Array
    columns: Array
    cosines: Array
    multipliers: Array
    iterations: int


def relax_multipliers(
    x: Array, pairs: AllPairs, multipliers: Array, rows: Array, columns: Array, tolerance: float
) -> Relaxed:
    """Lower the max cosine from a start with multipliers of its close pairs.

    Args:
        x: ``[n, d]`` unit rows, float64, frozen rows first.
        pairs: which cosines count.
        multipliers: ``[p]``, positive, for the pairs ``(rows, columns)``, ``[p]`` each.
        rows: first points of the close pairs.
        columns: second points of the close pairs.
        tolerance: desired accuracy of the cosine.

    Returns:
        The best points of a round, never worse than the start.

    Cost: ``O(n^2 d)`` time a round, and O(p d) an L-BFGS step, of which there are at most 1,500.
    """
    num_variables = pairs.num_blocks * (x.shape[1] - 1)
    cosines = _cosines(x, rows, columns)
    now = Relaxed(x, rows, columns, cosines, multipliers / multipliers.sum(), 0)
    best, worst, steps = now, _mean_slack(now), 0
    stiffness = _STIFF / (num_variables * max(_spread(cosines, num_variables), tolerance))
    stiffest = max(stiffness, 1 / (num_variables * _STIFFEST))
    for _ in range(_ROUNDS):
        after = _round(now, pairs, stiffness)
        slack, steps = _mean_slack(after), steps + after.iterations
        if after.cosines.max() < best.cosines.max():
            best = after
        if slack <= tolerance or steps >= _MOST_STEPS:
            break
        if slack > worst / 4:
            stiffness = min(_STIFFER * stiffness, stiffest)
        if slack < _WORSE * worst:  # otherwise, too soft a maximum let the points drift
            now, worst = after, slack
    return _equalized(best, pairs)._replace(iterations=steps)


def _equalized(state: Relaxed, pairs: AllPairs) -> Relaxed:
    """Make the cosines of pairs with a positive multiplier equal, if that lowers the largest."""
    from scipy.sparse.linalg import LinearOperator, lsqr

    for _ in range(_EQUALIZING_STEPS):
        top = state.cosines.max()
        active = np.flatnonzero(state.multipliers)
        found = slopes(state.x, pairs, state.rows[active], state.columns[active])
        shape = (len(active), pairs.num_blocks * (state.x.shape[1] - 1) + 1)
        products: dict[str, Any] = {"matvec": found.pushed, "rmatvec": found.pulled}
        operator: Any = LinearOperator(shape, **products)
        slack = top - state.cosines[active]
        z = lsqr(operator, -slack, atol=1e-15, btol=1e-15, iter_lim=_LSQR_STEPS)[0]
        x = pairs.moved(state.x, found.moves(z))
        if pairs.highest(x) >= top:
            break
        state = state._replace(x=x, cosines=_cosines(x, state.rows, state.columns))
    return state


def _spread(cosines: Array, num_variables: int) -> float:
    """Return how far the cosines of the contacts lie below the largest."""
    rank = min(num_variables, len(cosines) - 1)
    return float(cosines.max() + np.partition(-cosines, rank)[rank])


def _mean_slack(state: Relaxed) -> float:
    return float(state.multipliers @ (state.cosines.max() - state.cosines))


def _cosines(x: Array, rows: Array, columns: Array) -> Array:
    return np.einsum("pd,pd->p", x[rows], x[columns])


def _round(state: Relaxed, pairs: AllPairs, stiffness: float) -> Relaxed:
    """Minimize the smooth maximum with the multipliers of ``state``, then list the pairs again."""
    from scipy.optimize import minimize

    shape, frozen = state.x[pairs.num_frozen :].shape, state.x[: pairs.num_frozen]
    options = {"maxiter": _STEPS_A_ROUND, "maxcor": _MEMORY, "ftol": 0.0, "gtol": _FLAT}
    found = minimize(
        _smooth,
        # The first step has unit length: long rows make it a small angle.
        _ROW_LENGTH * state.x[pairs.num_frozen :].ravel(),
        (shape, frozen, state, stiffness),
        jac=True,
        method="L-BFGS-B",
        options=options,
    )
    x = np.concatenate([frozen, unit_rows(found.x.reshape(shape))])
    weights = _weights(_cosines(x, state.rows, state.columns), state.multipliers, stiffness)
    top = pairs.highest(x)
    rows, columns, cosines = pairs.above(x, top - min(_WINDOW, 1 - top))
    kept = carried(weights, (state.rows, state.columns), (rows, columns), len(x), 0.0)
    total = kept.sum()
    kept = kept / total if total else np.full(len(kept), 1 / len(kept))
    return Relaxed(x, rows, columns, cosines, kept, int(found.nit))


def _smooth(
    flat: Array, shape: tuple[int, int], frozen: Array, state: Relaxed, stiffness: float
) -> tuple[float, Array]:
    """Return the smooth maximum at rows of any length, and its gradient."""
    from scipy.sparse import csr_array

    y = flat.reshape(shape)
    length = np.linalg.norm(y, axis=1, keepdims=True)
    x = np.concatenate([frozen, y / length])
    cosines = _cosines(x, state.rows, state.columns)
    weights = _weights(cosines, state.multipliers, stiffness)
    active = np.flatnonzero(weights)
    i, j, w = state.rows[active], state.columns[active], weights[active]
    square = (len(x), len(x))
    one = csr_array((w, (i, j)), shape=square)
    slope = (one @ x + one.T @ x)[len(frozen) :]
    own = x[len(frozen) :]
    slope = (slope - np.sum(slope * own, axis=1, keepdims=True) * own) / length
    value = weights @ cosines - np.sum((weights - state.multipliers) ** 2) / (2 * stiffness)
    return float(value), slope.ravel()


def _weights(cosines: Array, multipliers: Array, stiffness: float) -> Array:
    """Project ``multipliers + stiffness * cosines`` onto the weights that sum to 1."""
    scores = multipliers + stiffness * (cosines - cosines.max())
    level = scores.max() - 1  # its positive parts sum to at least 1
    kept = scores[scores > level]
    while True:
        level = (kept.sum() - 1) / len(kept)
        smaller = kept[kept > level]
        if len(smaller) == len(kept):
            return np.maximum(scores - level, 0.0)
        kept = smaller
