"""The last digits of a packing, by a primal-dual interior-point method in float64.

A gradient method on a soft maximum stops within 1e-3 to 1e-6 of a local optimum, because the largest
cosine is a maximum of many nearly equal ones. Written as ``min t`` subject to ``<x_i, x_j> <= t``, the
problem is a smooth program. Its optimum is usually a vertex, so Newton steps on the optimality
conditions reach the rounding error of float64. The log barrier handles by itself what an active-set
method would have to decide: which pairs touch, which points touch nothing (rattlers), and what to do
with more contacts than degrees of freedom (E8, the 600-cell).

References:
    J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed. (2006), chapter 19.
    A. Donev, S. Torquato, F. H. Stillinger, R. Connelly, A linear programming algorithm to test for
    jamming in hard-sphere packings, J. Comput. Phys. 197 (2004), for contact counts and rattlers.
"""

from __future__ import annotations

import operator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from hyperface_jax.errors import InputError
from hyperface_jax.packing.blas import one_blas_thread
from hyperface_jax.packing.contact_pairs import (
    AllPairs,
    Pairs,
    Slopes,
    carried,
    normal_matrix,
    slopes,
    unit_rows,
)
from hyperface_jax.packing.multipliers import relax_multipliers

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

MAX_VARIABLES = 20_000
"""Largest ``(n - num_frozen) (d - 1)`` that is polished at all."""
MAX_EXACT = 2_000
"""Largest ``(n - num_frozen) (d - 1)`` polished by Newton steps unless these are asked for; a step
factors one dense matrix of that order."""

_CENTERED = 5.0
_BOUNDARY = 0.99
_MULTIPLIER_SPREAD = 1e4
_MIN_SLACK = 1e-18


@dataclass(frozen=True, eq=False)
class PolishResult:
    """A polished configuration and how well it satisfies the optimality conditions.

    Attributes:
        x: ``[n, d]`` float64. Frozen rows equal those of the input; the others are unit rows.
        max_cosine: Largest cosine over all pairs that are not both frozen.
        iterations: Number of Newton steps taken.
        num_contacts: Number of pairs within ``1000 * tolerance`` of ``max_cosine``.
        converged: Whether the optimality conditions hold to ``tolerance`` (complementarity) and to
            ``sqrt(tolerance)`` (stationarity, which has a second-order effect on the cosine).
        residual: Sum of both errors at the last iterate, in units of cosine: the multiplier-weighted
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
    exact: bool | None = None,
) -> PolishResult:
    """Take a nearly optimal configuration to a local minimum of ``max_(i<j) <x_i, x_j>``.

    This follows the central path of ``min t`` subject to ``<x_i, x_j> <= t`` by damped Newton steps on
    the log barrier in tangent coordinates, and shrinks the barrier each time the iterate is centered.
    It returns the best configuration seen, so the result is never worse than the input. The result
    satisfies the first-order conditions of an optimum near the input, but not always the nearest one.

    A step costs ``O(((n - num_frozen) d)^3)`` time and ``O(((n - num_frozen) d)^2)`` memory. Symmetric
    codes take about 15 steps, disordered ones 40 to 150. Above :data:`MAX_EXACT` free coordinates, the
    method of multipliers takes the place of Newton steps: it needs ``O(n^2 d)`` time a step, finds
    symmetric codes to the last digits too, and leaves disordered ones short of their optimum (by about
    1e-5 with 1,500 coordinates, more with 10,000), with ``converged`` false.

    Args:
        x: ``[n, d]`` unit rows (to 1e-3), ``d >= 2``, no two equal, with a maximum cosine within
            about 1e-2 of the optimum. Any float dtype.
        num_frozen: Number of frozen rows, which come first and do not change by a single bit. Pairs
            of two frozen rows are not part of the objective.
        max_iterations: Largest number of Newton steps.
        tolerance: Desired accuracy of the cosine, at least 1e-13.
        exact: Whether to take Newton steps, whatever they cost; None decides by the size.

    Returns:
        The polished configuration.

    Raises:
        InputError: An argument is out of range, two rows are equal, or
            ``(n - num_frozen) (d - 1)`` is above :data:`MAX_VARIABLES`.

    Examples:
        >>> rough = np.array([[1.0, 0.0], [-0.5, 0.86], [-0.51, -0.86]])
        >>> result = polish(rough / np.linalg.norm(rough, axis=1, keepdims=True))
        >>> round(result.max_cosine, 12), result.num_contacts, result.converged
        (-0.5, 3, True)
    """
    given = np.array(x, dtype=np.float64)
    _validate(given, num_frozen, max_iterations, tolerance)
    pairs = AllPairs(len(given), num_frozen)
    num_variables = pairs.num_blocks * (given.shape[1] - 1)
    points = unit_rows(given)
    is_small = num_variables <= MAX_EXACT
    if not (is_small if exact is None else exact):
        with one_blas_thread():
            state = _relaxed(points, pairs, tolerance)
        return _result(given, state.x, state, pairs, tolerance)
    with one_blas_thread() if is_small else nullcontext():
        best, state = central_path(
            points, pairs, max_iterations=max_iterations, tolerance=tolerance
        )
    return _result(given, best, state, pairs, tolerance)


def central_path(
    x: Array, pairs: Pairs, *, max_iterations: int = 300, tolerance: float = 1e-12
) -> tuple[Array, State]:
    """Follow the central path from unit rows.

    Args:
        x: ``[k, d]`` unit rows, float64; those that ``pairs`` counts as frozen come first.
        pairs: which cosines count, and how they depend on the rows.
        max_iterations: Largest number of Newton steps.
        tolerance: Desired accuracy of the cosine.

    Returns:
        The best rows seen, ``[k, d]``, and the last iterate.

    Raises:
        InputError: two points are equal.
    """
    state = _start(x, pairs)
    num_variables = pairs.num_blocks * (x.shape[1] - 1)
    damping = 0.1 / pairs.num_blocks
    best, best_value = x, float(state.cosines.max())
    final_gap = 0.1 * tolerance
    gap = state.barrier * len(state.slack)
    while state.iterations < max_iterations:
        step, damping = _newton_step(state, pairs, damping)
        moved, length = _line_search(state, step, pairs)
        moved = moved._replace(iterations=state.iterations + 1)
        value = float(moved.cosines.max())
        if value < best_value:
            best, best_value = moved.x, value
        centered = min(length, step.dual_length) > 0.9 and step.decrement < _CENTERED
        stuck = length == 0
        if gap <= final_gap and (stuck or (centered and step.decrement < 1)):
            return best, moved
        if centered or stuck:
            gap = max(min(0.1 * gap, gap**1.5), final_gap)
        damping *= 1 / 3 if length > 0.9 else 3 if length < 0.3 else 1
        damping = max(damping, 1e-12 / num_variables)
        state = moved._replace(barrier=gap / len(moved.slack))
    return best, state


class State(NamedTuple):
    """A strictly feasible point: every listed pair has ``slack = bound - cosine > 0``.

    ``x`` is ``[k, d]``. ``rows`` and ``columns``, ``[p]`` each, are the listed pairs; ``cosines``,
    ``slack`` and ``multipliers``, ``[p]`` each, belong to these pairs. On the central path,
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
    iterations: int = 0


class _Step(NamedTuple):
    """A Newton step: moves ``[n, d]`` (zero where frozen), and changes of the bound and multipliers.

    ``decrement`` is the predicted decrease of the barrier function, in units of the barrier.
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


def _window(bound: float) -> float:
    """Return how far below the bound a pair still enters a Newton step: at most twice the contact angle.

    The line search limits a step to an eighth of that distance, so no pair can jump over the window.
    """
    return min(0.2, 3 * (1 - bound))


def _start(x: Array, pairs: Pairs) -> State:
    """Start with a bound that exceeds the maximum by about the spread of the input's contacts.

    A vertex has one more contact than free coordinates, so the spread is the slack of that rank.
    """
    points = pairs.points(x)
    top = pairs.highest(points)
    if top >= 1 - 1e-9:
        raise InputError("x has two equal rows: move one, since no direction separates them")
    cosines = pairs.above(points, top - _window(top))[2]
    rank = pairs.num_blocks * (x.shape[1] - 1) + 1
    spread = min(1e-2, 0.1 * (1 - top))
    if rank < len(cosines):
        contacts_end = -float(np.partition(-cosines, rank - 1)[rank - 1])
        spread = min(max(top - contacts_end, 1e-5 * spread), spread)
    rows, columns, cosines = pairs.above(points, top + spread - _window(top))
    slack = top + spread - cosines
    barrier = float(1 / np.sum(1 / slack))
    return State(x, top + spread, rows, columns, cosines, slack, barrier / slack, barrier)


def _newton_step(state: State, pairs: Pairs, damping: float) -> tuple[_Step, float]:
    """Solve the linearized optimality conditions; return the step and the damping it used.

    With ``S`` the derivative of the slacks, ``W = multipliers / slack`` and ``e`` the bound's
    coordinate, it solves ``(S^T W S + damping) z = S^T (barrier / slack) - e``. The curvature of the
    cosines is left out: it is smaller than ``S^T W S`` by a factor of the slack, and without it the
    matrix is positive definite and the step goes downhill.
    """
    from scipy.linalg import cho_solve

    found = slopes(state.x, pairs, state.rows, state.columns)
    weights = state.multipliers / state.slack
    factor, damping = _factor(found, weights, damping)
    downhill = found.pulled(state.barrier / state.slack)
    downhill[-1] -= 1
    z = cho_solve((factor, True), downhill, check_finite=False)
    slack = found.pushed(z)
    multipliers = state.barrier / state.slack - state.multipliers - weights * slack
    dual_length = _length_to_boundary(state.multipliers, multipliers)
    decrement = float(downhill @ z) / state.barrier
    step = _Step(found.moves(z), float(z[-1]), slack, multipliers, dual_length, decrement)
    return step, damping


def _factor(found: Slopes, weights: Array, damping: float) -> tuple[Array, float]:
    """Factor ``S^T W S + damping`` by Cholesky, with more damping if rounding makes it indefinite."""
    from scipy.linalg import LinAlgError, cholesky

    while True:
        normal = normal_matrix(found, weights, damping)
        try:
            # The transpose of a symmetric matrix is Fortran-ordered, so LAPACK works in place.
            return cholesky(normal.T, lower=True, overwrite_a=True, check_finite=False), damping
        except LinAlgError:
            damping *= 10


def _line_search(state: State, step: _Step, pairs: Pairs) -> tuple[State, float]:
    """Backtrack until the barrier function decreases; length 0 and the same state if it never does."""
    longest_move = float(np.linalg.norm(step.moves, axis=1).max())
    length = _length_to_boundary(state.slack, step.slack)
    limit = min(0.025, (1 - state.bound) ** 0.5 / 8)
    length = min(length, limit / max(longest_move, limit))
    for _ in range(25):
        x = pairs.moved(state.x, length * step.moves)
        points = pairs.points(x)
        cosines = np.einsum("pd,pd->p", x[state.rows], points[state.columns])
        ratio = 1 + (length * step.bound - (cosines - state.cosines)) / state.slack
        if ratio.min() > 0.2 * (1 - _BOUNDARY):
            change = length * step.bound - state.barrier * np.sum(np.log(ratio))
            if change <= 1e-16 - 1e-4 * length * step.decrement * state.barrier:
                return _advance(state, step, x, points, length, pairs), length
        length /= 2
    return state, 0.0


def _advance(
    state: State, step: _Step, x: Array, points: Array, length: float, pairs: Pairs
) -> State:
    """List the pairs of the accepted point again, keeping the multipliers of pairs still listed."""
    bound = state.bound + length * step.bound
    rows, columns, cosines = pairs.above(points, bound - _window(bound))
    slack = np.maximum(bound - cosines, _MIN_SLACK)
    central = state.barrier / slack
    multipliers = carried(
        state.multipliers + step.dual_length * step.multipliers,
        (state.rows, state.columns),
        (rows, columns),
        len(points),
        central,
    )
    spread = _MULTIPLIER_SPREAD
    multipliers = np.clip(multipliers, central / spread, central * spread)
    return State(x, bound, rows, columns, cosines, slack, multipliers, state.barrier)


def _length_to_boundary(values: Array, changes: Array) -> float:
    """Return the largest step, at most 1, that keeps positive ``values`` at 1% of their size or more."""
    shrinking = changes < 0
    if not shrinking.any():
        return 1.0
    return min(1.0, _BOUNDARY * float(np.min(-values[shrinking] / changes[shrinking])))


def _relaxed(x: Array, pairs: AllPairs, tolerance: float) -> State:
    """Return the end of the method of multipliers in the form of the central path's."""
    start = _start(x, pairs)
    found = relax_multipliers(x, pairs, start.multipliers, start.rows, start.columns, tolerance)
    rows, columns, cosines = found.rows, found.columns, found.cosines
    bound = float(cosines.max())
    slack = bound - cosines
    return State(
        found.x, bound, rows, columns, cosines, slack, found.multipliers, 0.0, found.iterations
    )


def _result(
    given: Array, best: Array, state: State, pairs: AllPairs, tolerance: float
) -> PolishResult:
    stationarity = slopes(state.x, pairs, state.rows, state.columns).pulled(state.multipliers)
    stationarity[-1] -= 1
    infeasible = float(np.linalg.norm(stationarity))
    complementarity = float(state.multipliers @ state.slack)
    max_cosine = pairs.highest(best)
    contacts = pairs.above(best, np.nextafter(max_cosine - 1000 * tolerance, -np.inf))[2]
    reached = float(state.cosines.max()) <= max_cosine + tolerance
    x = best.copy()
    x[: pairs.num_frozen] = given[: pairs.num_frozen]
    return PolishResult(
        x=x,
        max_cosine=max_cosine,
        iterations=state.iterations,
        num_contacts=len(contacts),
        converged=reached and complementarity <= tolerance and infeasible <= tolerance**0.5,
        residual=complementarity + infeasible,
    )
