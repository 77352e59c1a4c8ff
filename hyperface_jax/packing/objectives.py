"""Energies as functions for custom training loops, with value and gradient from one sweep."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from hyperface_jax.packing.energies import DEFAULT_SWEEP, ClosestPair, Energy, check_energy
from hyperface_jax.packing.inputs import unit_rows
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.pairwise import Sweep
from hyperface_jax.pairwise import max_cosine as highest
from hyperface_jax.typing import Points, RowsLike, Scalar


def as_objective(
    energy: Energy, problem: PackingProblem | None = None, *, sweep: Sweep = DEFAULT_SWEEP
) -> Callable[..., Scalar]:
    """Turn an energy into a function that ``jax.grad`` differentiates at the cost of one sweep.

    Args:
        energy: any energy of this package, or a custom one.
        problem: a problem that adds its gallery term, its keep-out term and its frozen points. It can
            also be passed at each call instead, so that galleries and weights can be traced.
        sweep: how pairs are visited.

    Returns:
        ``f(x, step=0, problem=problem) -> value``, with unit rows ``x`` of shape ``[n, d]``. Its
        gradient with respect to ``x`` is the Euclidean one (project it, or use :mod:`.transforms`);
        with respect to everything else it is zero. Only reverse mode works, and only first derivatives.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from hyperface_jax.packing import SoftMax
        >>> objective = as_objective(SoftMax(inverse_temperature=10.0))
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> jax.grad(objective)(x).shape
        (3, 2)
    """
    check_energy(energy)
    given = problem

    def objective(x: Points, step: Any = 0, problem: PackingProblem | None = None) -> Scalar:
        return _objective(energy, sweep, x, step, given if problem is None else problem)

    return objective


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _objective(
    energy: Energy, sweep: Sweep, x: Points, step: Any, problem: PackingProblem | None
) -> Scalar:
    return _evaluated(energy, sweep, x, step, problem)[0]


def _objective_forward(
    energy: Energy, sweep: Sweep, x: Points, step: Any, problem: PackingProblem | None
) -> tuple[Scalar, Points]:
    return _evaluated(energy, sweep, x, step, problem)


def _objective_backward(energy: Energy, sweep: Sweep, force: Points, cotangent: Scalar) -> Any:
    del energy, sweep
    return cotangent * force, None, None


_objective.defvjp(_objective_forward, _objective_backward)


def _evaluated(
    energy: Energy, sweep: Sweep, x: Points, step: Any, problem: PackingProblem | None
) -> tuple[Scalar, Points]:
    frozen = None if problem is None else problem.frozen
    evaluation = energy.evaluate(x, frozen=frozen, step=step, sweep=sweep)
    if problem is not None:
        found = problem.regularize(x, evaluation, sweep=sweep)
        return found.value, found.force
    return evaluation.value, evaluation.force


def max_cosine(x: RowsLike, y: RowsLike | None = None, *, sweep: Sweep = DEFAULT_SWEEP) -> Scalar:
    """Find the exact largest cosine of two rows, in full precision and at any size.

    Args:
        x: unit rows, ``[n, d]``; rows that do not have unit length are normalized.
        y: rows to pair them with, ``[m, d]``; None pairs ``x`` with itself.
        sweep: how pairs are visited, and over which devices.

    Returns:
        The cosine. If ``y`` is None, it can be differentiated with respect to ``x`` (in reverse mode):
        the closest pair gets the whole gradient.

    Cost: ``n^2 d`` FLOPs, or ``2 n m d``; O((n + m) d) memory.

    Examples:
        >>> round(float(max_cosine([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])), 4)
        0.7071
    """
    rows = unit_rows("x", x)
    if y is None:
        return _max_cosine(rows, sweep)
    return _max_between(rows, unit_rows("y", y, rows.shape[1]), sweep)


@partial(jax.jit, static_argnums=1)
def _max_cosine(x: Points, sweep: Sweep) -> Scalar:
    return as_objective(ClosestPair(), sweep=sweep)(x)


@partial(jax.jit, static_argnums=2)
def _max_between(x: Points, y: Any, sweep: Sweep) -> Scalar:
    return jax.numpy.max(sweep(x, y, reduction=highest()))
