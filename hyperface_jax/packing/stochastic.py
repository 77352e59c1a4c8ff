"""Mini-batch solver (HyperFace, Algorithm 2), with reshuffled blocks so that every point moves.

Each step shuffles the points into blocks of ``batch_size`` and lets pairs interact inside their
block only: ``n B d`` work instead of ``n^2 d``. For an energy that sums a pair function the expected
force is the full one (a pair shares a block with the same probability as any other), so descent
minimises the same energy. A max-min is no such sum: the paper's Theorem 1 covers the pair sums of
:mod:`.energies` (and the sum inside the soft maximum's logarithm), not the max cosine itself.

The exact max cosine would take a full sweep, so it is measured once a scan and the best of those
points is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from hyperface_jax.packing.energies import Evaluation, PairEnergy, Sweep, row_max
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.packing.solver import (
    PackingSolver,
    PackingState,
    StepRecord,
    annealed,
    keep_best,
    move,
)
from hyperface_jax.pairwise import PairSum
from hyperface_jax.pairwise import sweep as default_sweep

if TYPE_CHECKING:
    from hyperface_jax.packing.initializers import Initializer
    from hyperface_jax.typing import Points, PRNGKey

_EXACT_CHECKS = 50
# A point meets its nearest neighbour in some blocks only: normalising each block's force by itself
# would let the gallery's steady pull win all the others.
_SECOND_MOMENT_DECAY = 0.9


def evaluate_blocks(
    energy: PairEnergy,
    x: Points,
    key: PRNGKey,
    batch_size: int,
    *,
    frozen: Points | None = None,
    step: Any = 0,
    shift: Any = None,
    sweep: Sweep = default_sweep,
) -> Evaluation:
    """Estimate an energy and its force from random blocks of ``batch_size`` points.

    The sums are scaled by ``(n - 1) / (B - 1)`` to estimate those over all pairs, and each block also
    meets a random ``B`` of the frozen points. A last block that is not full is filled up with points
    that have been drawn already, whose second force is dropped, so that every point meets exactly
    ``B - 1`` others.

    Args:
        energy: a pair-sum energy.
        x: unit rows, ``[n, d]``.
        key: seed of the shuffle.
        batch_size: points of a block, 2 <= B <= n.
        frozen: unit rows that take part but do not move, ``[m, d]``.
        step: the step number, for energies with a schedule.
        shift: a cosine near the current maximum.
        sweep: how the pairs of a block are visited.

    Returns:
        The estimate. ``row_max`` is over the pairs that met: a lower bound on the exact one.
        Cost: ``3 n B d`` FLOPs (``+ 4 n min(B, m) d``), O(n d) memory.
    """
    order_key, frozen_key = jax.random.split(key)
    num_points = x.shape[0]
    order = jax.random.permutation(order_key, num_points)
    num_blocks = -(-num_points // batch_size)
    filled = jnp.concatenate([order, order[: num_blocks * batch_size - num_points]])
    blocks = filled.reshape(num_blocks, batch_size)
    shift = jnp.max(row_max(x, frozen, sweep=sweep)) if shift is None else shift

    def own(block):
        return energy.sums(x[block], step=step, shift=shift, sweep=sweep)

    own_sums = _unshuffled(lax.map(own, blocks), order, (num_points - 1) / (batch_size - 1))
    if frozen is None:
        return energy.combine(own_sums, step=step, shift=shift)
    met = jax.random.choice(frozen_key, frozen, (min(batch_size, frozen.shape[0]),), replace=False)
    frozen_sums = energy.sums(x, met, step=step, shift=shift, sweep=sweep)
    frozen_sums = _scaled(frozen_sums, frozen.shape[0] / met.shape[0])
    return energy.combine(own_sums, frozen_sums, num_frozen=frozen.shape[0], step=step, shift=shift)


def _scaled(sums: PairSum, factor: float) -> PairSum:
    return PairSum(sums.value * factor, sums.force * factor, sums.max_cosine)


def _unshuffled(sums: PairSum, order: Any, factor: float) -> PairSum:
    """Bring block sums back into the order of the points, the fill of the last block dropped."""

    def back(values: Any):
        flat = values.reshape(-1, *values.shape[2:])[: order.shape[0]]
        return jnp.zeros_like(flat).at[order].set(flat, unique_indices=True)

    return _scaled(jax.tree.map(back, sums), factor)


@dataclass(frozen=True)
class StochasticSolver(PackingSolver):
    """Mini-batch solver; a :class:`PackingSolver` whose steps see ``batch_size`` points each.

    Attributes:
        batch_size: points of a block.
    """

    batch_size: int = 1024

    def block_step(
        self, problem: PackingProblem, state: PackingState
    ) -> tuple[PackingState, StepRecord]:
        """Move every point once, along the force of its block."""
        if not isinstance(problem.energy, PairEnergy):
            raise TypeError(f"energy={problem.energy!r}: mini-batches need a pair-sum energy")
        state = self.search_gallery(problem, state)
        evaluation = evaluate_blocks(
            problem.energy,
            state.x,
            jax.random.fold_in(state.key, state.step),
            min(self.batch_size, problem.num_points),
            frozen=problem.frozen,
            step=state.step,
            shift=state.max_cosine,
            sweep=self.sweep,
        )
        regularised = problem.regularise(
            state.x,
            evaluation,
            step=state.step,
            sweep=self.sweep,
            gallery_index=state.gallery_index,
        )
        return move(self.optimizer, state, regularised)

    def advance(
        self, problem: PackingProblem, state: PackingState, num_steps: int
    ) -> tuple[PackingState, StepRecord]:
        """Run ``num_steps`` block steps as one scan, then one exact sweep of the result."""
        return _advance(self, problem, state, num_steps)

    def exact(self, problem: PackingProblem, state: PackingState) -> PackingState:
        """Measure the points exactly and keep them if they are the best so far."""
        rows = row_max(state.x, problem.frozen, sweep=self.sweep)
        unforced = Evaluation(jnp.zeros(()), jnp.zeros_like(state.x), rows)
        figures = problem.regularise(state.x, unforced, sweep=self.sweep)
        return keep_best(state, figures.objective, figures.max_cosine)


def _advance_impl(
    solver: StochasticSolver, problem: PackingProblem, state: PackingState, num_steps: int
):
    state, records = lax.scan(lambda s, _: solver.block_step(problem, s), state, length=num_steps)
    state = solver.exact(problem, state)
    # Only the last record's max cosine is exact; the others saw the pairs of their blocks.
    exact = jnp.full_like(records.max_cosine, jnp.nan).at[-1].set(state.max_cosine)
    return state, records._replace(max_cosine=exact)


_advance = jax.jit(_advance_impl, static_argnums=(0, 3), donate_argnums=2)


def default_batch_size(num_points: int) -> int:
    """Choose an eighth of the points, between 256 and 4096."""
    return min(max(num_points // 8, 256), 4096, num_points)


def stochastic(
    problem: PackingProblem,
    *,
    batch_size: int | None = None,
    num_iterations: int | None = None,
    initializer: Initializer | None = None,
    sweep: Sweep = default_sweep,
) -> tuple[PackingProblem, StochasticSolver]:
    """Return the annealed problem and a mini-batch solver for it.

    Args:
        problem: what to pack.
        batch_size: points of a block; None chooses from n.
        num_iterations: block steps; None takes as many as cost the sweeps of the full solver.
        initializer: start of the free points.
        sweep: how the pairs of a block are visited.
    """
    batch_size = min(batch_size or default_batch_size(problem.num_points), problem.num_points)
    if batch_size < 2:
        raise ValueError(f"batch_size={batch_size}: a block needs at least 2 points")
    if num_iterations is None:
        _, full = annealed(problem)
        num_iterations = full.num_iterations * max(problem.num_points // batch_size, 1)
    problem, full = annealed(
        problem,
        num_iterations=num_iterations,
        initializer=initializer,
        sweep=sweep,
        b2=_SECOND_MOMENT_DECAY,
    )
    solver = StochasticSolver(
        full.optimizer,
        num_iterations,
        max(num_iterations // _EXACT_CHECKS, 1),
        full.initializer,
        sweep,
        batch_size=batch_size,
    )
    return problem, solver
