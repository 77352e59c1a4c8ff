"""Last digits of a packing: a primal-dual interior-point method in float64.

A gradient method on a soft maximum stops within 1e-3 to 1e-6 of a local optimum, because the largest
cosine is a maximum of many nearly equal ones. Written as ``min t`` subject to ``<x_i, x_j> <= t`` it
is a smooth program whose optimum is usually a vertex, so Newton steps on its optimality conditions
reach the rounding error of float64. The log barrier handles by itself what an active set has to
decide: which pairs touch, points that touch nothing (rattlers), and more contacts than degrees of
freedom (E8, the 600-cell).

References:
    J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed. (2006), chapter 19.
    A. Donev, S. Torquato, F. H. Stillinger, R. Connelly, A linear programming algorithm to test for
    jamming in hard-sphere packings, J. Comput. Phys. 197 (2004), for contact counts and rattlers.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    Array = np.ndarray[Any, np.dtype[Any]]

MAX_VARIABLES = 5000
"""Largest ``(n - num_frozen) (d - 1)`` accepted: one dense Cholesky of that order a Newton step."""

_BLOCK_ROWS = 1024
_WINDOW = 0.2  # pairs further than this below the maximum are left out of a Newton step
_MAX_MOVE = _WINDOW / 8  # radians a step: a pair left out cannot cross the window in one step
_CENTERED = 5.0
_BOUNDARY = 0.99
_MULTIPLIER_SPREAD = 1e4
_MIN_SLACK = 1e-18


@dataclass(frozen=True, eq=False)
class PolishResult:
    """A polished configuration and how well it satisfies the optimality conditions.

    Attributes:
        x: ``[n, d]`` float64. Frozen rows are those of the input, the others are unit rows.
        max_cosine: Largest cosine over all pairs that are not both frozen.
        iterations: Newton steps taken.
        num_contacts: Pairs within ``1000 * tolerance`` of ``max_cosine``.
        converged: Whether the optimality conditions hold to ``tolerance`` (complementarity) and
            ``sqrt(tolerance)`` (stationarity, whose effect on the cosine is of second order).
        residual: Sum of the two at the last iterate, in units of cosine: the multiplier-weighted
            mean slack, and the norm of the multiplier-weighted sum of contact gradients.
    """

    x: Array
    max_cosine: float
    iterations: int
    num_contacts: int
    converged: bool
    residual: float


def polish(
    x: ArrayLike,
    *,
    num_frozen: int = 0,
    max_iterations: int = 300,
    tolerance: float = 1e-12,
) -> PolishResult:
    """Take a nearly optimal configuration to its local optimum of ``max_(i<j) <x_i, x_j>``.

    Follows the central path of ``min t`` subject to ``<x_i, x_j> <= t``: damped Newton steps on the
    log barrier in tangent coordinates, the barrier shrunk each time the iterate is centred. The
    best configuration seen is returned, so the result is never worse than the input. The optimum
    is a local one, near the input but not always the nearest.

    A step costs ``O(((n - num_frozen) d)^3)`` time and ``O(((n - num_frozen) d)^2)`` memory, and 15
    (symmetric codes) to 150 (large disordered ones) steps are usual: on one core E8's 240 roots take
    2 s, 150 points in ``R^16`` about 20 s.

    Args:
        x: ``[n, d]`` unit rows (to 1e-3), ``d >= 2``, no two equal, with a maximum cosine within
            about 1e-2 of the optimum. Any float dtype.
        num_frozen: The first ``num_frozen`` rows do not move, bit for bit. Pairs of two frozen rows
            are no part of the objective.
        max_iterations: Most Newton steps.
        tolerance: Accuracy wanted in the cosine, at least 1e-13.

    Returns:
        The polished configuration.

    Raises:
        InputError: An argument is out of range, or ``(n - num_frozen) (d - 1)`` is above
            :data:`MAX_VARIABLES`.

    Examples:
        >>> rough = np.array([[1.0, 0.0], [-0.5, 0.86], [-0.51, -0.86]])
        >>> result = polish(rough / np.linalg.norm(rough, axis=1, keepdims=True))
        >>> round(result.max_cosine, 12), result.num_contacts, result.converged
        (-0.5, 3, True)
    """
    given = np.array(x, dtype=np.float64)
    _validate(given, num_frozen, max_iterations, tolerance)
    points = _normalize(given)
    state = _start(points, num_frozen)
    num_variables = (len(points) - num_frozen) * (points.shape[1] - 1)
    damping = 0.1 / (len(points) - num_frozen)
    best, best_value = points, float(state.cosines.max())
    final_gap = 0.1 * tolerance
    gap = state.barrier * len(state.slack)
    iterations = 0
    while iterations < max_iterations:
        iterations += 1
        step, damping = _newton_step(state, num_frozen, damping)
        moved, length = _line_search(state, step, num_frozen)
        value = float(moved.cosines.max())
        if value < best_value:
            best, best_value = moved.x, value
        centered = min(length, step.dual_length) > 0.9 and step.decrement < _CENTERED
        stuck = length == 0
        if gap <= final_gap and (stuck or (centered and step.decrement < 1)):
            state = moved
            break
        if centered or stuck:
            gap = max(min(0.1 * gap, gap**1.5), final_gap)
        damping *= 1 / 3 if length > 0.9 else 3 if length < 0.3 else 1
        damping = max(damping, 1e-12 / num_variables)
        state = moved._replace(barrier=gap / len(moved.slack))
    return _result(given, best, state, num_frozen, iterations, tolerance)


class _State(NamedTuple):
    """A strictly feasible point: every listed pair has ``slack = bound - cosine > 0``.

    ``x`` is ``[n, d]``; ``rows`` and ``columns`` are the listed pairs ``i < j``, ``[p]`` each, with
    ``cosines``, ``slack`` and ``multipliers`` ``[p]``; on the central path
    ``multipliers * slack == barrier``.
    """

    x: Array
    bound: float
    rows: Array
    columns: Array
    cosines: Array
    slack: Array
    multipliers: Array
    barrier: float


class _Step(NamedTuple):
    """A Newton step: moves ``[n, d]`` (zero where frozen), and changes of the bound and multipliers.

    ``decrement`` is the decrease of the barrier function that it promises, in units of the barrier.
    """

    moves: Array
    bound: float
    slack: Array
    multipliers: Array
    dual_length: float
    decrement: float


def _validate(x: Array, num_frozen: int, max_iterations: int, tolerance: float) -> None:
    if x.ndim != 2 or x.shape[0] < 2 or x.shape[1] < 2:
        raise InputError(f"x must be [n, d] with n and d at least 2, got shape {x.shape}")
    num_points, dim = x.shape
    if not np.all(np.abs(np.linalg.norm(x, axis=1) - 1) < 1e-3):
        raise InputError("x must have finite unit rows: normalize it first")
    if not 0 <= operator.index(num_frozen) < num_points:
        raise InputError(f"num_frozen must be from 0 to {num_points - 1}, got {num_frozen}")
    if operator.index(max_iterations) < 1:
        raise InputError(f"max_iterations must be at least 1, got {max_iterations}")
    if not 1e-13 <= tolerance < 1:
        raise InputError(f"tolerance must be at least 1e-13 and below 1, got {tolerance}")
    num_variables = (num_points - num_frozen) * (dim - 1)
    if num_variables > MAX_VARIABLES:
        raise InputError(
            f"x has {num_variables} free coordinates, (n - num_frozen) (d - 1), and polish takes at"
            f" most {MAX_VARIABLES}: freeze more rows, or keep the gradient method's result"
        )


def _normalize(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _pairs_above(x: Array, num_frozen: int, threshold: float) -> tuple[Array, Array, Array]:
    """Pairs ``i < j`` with a free point and a cosine above ``threshold``, and their cosines ``[p]``.

    The threshold is lowered to the maximum if nothing is above it. ``O(n^2 d)`` time, ``O(n)`` rows
    of a block at a time.
    """
    found: list[tuple[Array, Array, Array]] = []
    for start in range(0, len(x), _BLOCK_ROWS):
        first = max(start + 1, num_frozen)  # pairs of two frozen rows are skipped
        cosines = x[start : start + _BLOCK_ROWS] @ x[first:].T
        rows, columns = np.nonzero(cosines > threshold)
        upper = columns + first > rows + start
        rows, columns = rows[upper], columns[upper]
        found.append((rows + start, columns + first, cosines[rows, columns]))
    rows, columns, cosines = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return rows, columns, cosines
