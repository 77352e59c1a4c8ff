"""Many independent packings of one small problem, side by side under one ``vmap``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.packing.solver import (
    PackingOutput,
    PackingSolver,
    PackingState,
    StepRecord,
    annealed,
    finish,
)

if TYPE_CHECKING:
    from hyperface_jax.packing.initializers import Initializer
    from hyperface_jax.typing import PRNGKey

_GROUP_BYTES = 2**28


def init_restarts(
    solver: PackingSolver, problem: PackingProblem, key: PRNGKey, num_restarts: int
) -> PackingState:
    """Create ``num_restarts`` independent starts, stacked along a leading axis.

    Restart ``r`` starts from ``fold_in(key, r)``: it is the same whatever their number.
    """
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(num_restarts))
    return jax.vmap(lambda k: solver.init_state(problem, k))(keys)


@partial(jax.jit, static_argnums=(0, 3), donate_argnums=2)
def advance_restarts(
    solver: PackingSolver, problem: PackingProblem, states: PackingState, num_steps: int
) -> tuple[PackingState, StepRecord]:
    """Run ``num_steps`` steps of every restart; the records have leading axes ``[restarts, steps]``.

    As many restarts run side by side as have their score matrices in 256 MiB; the groups follow one
    another.
    """

    def run(state):
        return lax.scan(lambda s, _: solver.step(problem, s), state, length=num_steps)

    group = max(1, _GROUP_BYTES // (4 * problem.num_points**2))
    return lax.map(run, states, batch_size=min(group, states.step.shape[0]))


def best_restart(states: PackingState) -> PackingState:
    """Select the restart with the lowest exact objective."""
    best = jnp.argmin(states.best_objective)
    return jax.tree.map(lambda leaf: leaf[best], states)


def solve_restarts(
    problem: PackingProblem,
    key: PRNGKey,
    *,
    num_restarts: int,
    num_iterations: int | None = None,
    initializer: Initializer | None = None,
) -> PackingOutput:
    """Find the best of ``num_restarts`` independent packings.

    Args:
        problem: what to pack.
        key: seed of all starts.
        num_restarts: how many; their points are all in memory at once.
        num_iterations: steps of each; None chooses from n and d.
        initializer: start; None means uniform points, or the gallery where there is one.

    Returns:
        The best packing. Its history holds the lowest max cosine over the restarts at every step.

    Cost: ``4 r n^2 d`` FLOPs a step, O(r n d) memory and at most 256 MiB for scores.
    """
    problem, solver = annealed(problem, num_iterations=num_iterations, initializer=initializer)
    states = init_restarts(solver, problem, key, num_restarts)
    states, records = advance_restarts(solver, problem, states, solver.num_iterations)
    lowest = jnp.argmin(records.max_cosine, axis=0)
    columns = jnp.arange(lowest.shape[0])
    history = jax.tree.map(lambda leaf: leaf[lowest, columns], records)
    return finish(solver, problem, best_restart(states), [history])
