"""Mini-batch solver (HyperFace, Algorithm 2), with reshuffled blocks so that every point moves.

Each step shuffles the points into blocks of ``batch_size`` and lets pairs interact inside their
block only: ``n B d`` work instead of ``n^2 d``. For an energy that sums a pair function the expected
force is the full one (a pair shares a block with the same probability as any other), so descent
minimises the same energy. A max-min is no such sum: the paper's Theorem 1 covers the pair sums of
:mod:`.energies` (and the sum inside the soft maximum's logarithm), not the max cosine itself.

The exact max cosine would take a full sweep, so it is measured now and then, of a sample where the run
is short, and the best of those points is kept. At the end one full sweep measures all and pushes the
closest pairs apart, which small blocks hardly ever bring together: see :mod:`.contacts`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from hyperface_jax import sharding
from hyperface_jax.packing.blocks import evaluate_blocks, exchange
from hyperface_jax.packing.contacts import CONTACT_SHARE, relax_contacts
from hyperface_jax.packing.energies import DEFAULT_SWEEP, Evaluation, PairEnergy, row_max
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.packing.rowwise import join_rows, split_rows
from hyperface_jax.packing.solver import (
    PackingSolver,
    PackingState,
    StepRecord,
    annealed,
    default_initializer,
    default_num_iterations,
    keep_best,
    scan,
    scan_steps,
)
from hyperface_jax.pairwise import Sweep, first_rows, max_cosine

if TYPE_CHECKING:
    from hyperface_jax.packing.initializers import Initializer
    from hyperface_jax.pairwise.parts import Report
    from hyperface_jax.typing import Points, Scalar

_EXACT_CHECKS = 50
_GROUPS = 24
_BLOCKS_OF_A_GROUP = 8
_EXCHANGE = 2**31 - 1
"""Folded into the key of an exchange, to keep it apart from that of the blocks."""
# A point meets its nearest neighbour in some blocks only: normalising each block's force by itself
# would let the gallery's steady pull win all the others.
_SECOND_MOMENT_DECAY = 0.9


@dataclass(frozen=True)
class StochasticSolver(PackingSolver):
    """Mini-batch solver; a :class:`PackingSolver` whose steps see ``batch_size`` points each.

    Attributes:
        batch_size: points of a block at most.
        num_groups: groups of rows that shuffle apart; the devices of the mesh share them. The result
            depends on their number, not on that of the devices.
        exchange_every: steps between two exchanges of rows between the groups.
        measure_every: steps between two measurements; the last step is always followed by one.
        measured_rows: rows whose max cosine over all others is measured; None measures all, exactly.
        relax: whether to push the closest pairs apart at the end, see :mod:`.contacts`.
    """

    batch_size: int = 1024
    num_groups: int = 1
    exchange_every: int = 10
    measure_every: int = 1
    measured_rows: int | None = None
    relax: bool = True

    def num_rows(self, num_points: int) -> int:
        """Return the rows of the state's arrays: the points, filled up to whole groups."""
        if self.num_groups == 1:
            return num_points
        return sharding.padded_size(num_points, self.num_groups)

    def first_max_cosine(self, problem: PackingProblem, x: Points) -> Scalar:
        """Measure a sample of the start: a shift for the first step."""
        del problem
        return self._sampled(x, self.batch_size)

    def _sampled(self, x: Points, num_rows: int) -> Scalar:
        """Find the largest cosine of some rows of every group to all others."""
        rows = first_rows(x, num_rows, self.num_groups)
        return jnp.max(self.sweep.among(rows, x, reduction=max_cosine()))

    def step(self, problem: PackingProblem, state: PackingState) -> tuple[PackingState, StepRecord]:
        """Move every point once, along the force of its block."""
        if not isinstance(problem.energy, PairEnergy):
            raise TypeError(f"energy={problem.energy!r}: mini-batches need a pair-sum energy")
        state = self.search_gallery(problem, state)
        evaluation = evaluate_blocks(
            problem.energy,
            state.x,
            jax.random.fold_in(state.key, state.step),
            min(self.batch_size, problem.num_points),
            num_groups=self.num_groups,
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
        return self.move(state._replace(max_cosine=evaluation.max_cosine), regularised)

    def scan_length(self, step: int) -> int:
        """Return the steps of the scan from ``step`` to the next measurement or exchange at most."""
        length = min(super().scan_length(step), self.measure_every - step % self.measure_every)
        if self.num_groups == 1:
            return length
        return min(length, self.exchange_every - step % self.exchange_every)

    def advance(
        self, problem: PackingProblem, state: PackingState, num_steps: int
    ) -> tuple[PackingState, StepRecord]:
        """Exchange rows if it is their turn, run ``num_steps`` block steps, and measure if it is due.

        The exchange and the scan are compiled apart, so that neither needs the memory of the other.
        The state passed in is donated.
        """
        step = int(state.step)
        if self.num_groups > 1 and step % self.exchange_every == 0:
            state = self.exchanged(state)
        state, records = scan(self, problem, state, num_steps)
        end = step + num_steps
        # The steps themselves saw the pairs of their blocks only.
        max_cosine = jnp.full_like(records.max_cosine, jnp.nan)
        if end % self.measure_every == 0 or end == self.num_iterations:
            state, highest = _measured(self, problem, state)
            max_cosine = max_cosine.at[-1].set(highest)
        return state, records._replace(max_cosine=max_cosine)

    def exchanged(self, state: PackingState) -> PackingState:
        """Deal the rows of every group out to all groups, with all that belongs to a row."""
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), _EXCHANGE)
        moving = state.x, state.row, state.gallery_index, state.opt_state
        rows, rest = split_rows(moving, state.x.shape[0])
        dealt = [_exchanged(leaf, key, self.num_groups, self.sweep.mesh) for leaf in rows]
        x, row, gallery_index, opt_state = join_rows(dealt, rest)
        return state._replace(x=x, row=row, gallery_index=gallery_index, opt_state=opt_state)

    def measured(self, problem: PackingProblem, state: PackingState) -> tuple[PackingState, Scalar]:
        """Measure the points, all or a sample, and keep them if they are the best so far."""
        if self.measured_rows is None:
            highest = jnp.max(row_max(state.x, problem.frozen, sweep=self.sweep))
        else:
            highest = self._sampled(state.x, self.measured_rows)
        unforced = Evaluation(jnp.zeros(()), state.x, jnp.full_like(state.x[:, 0], highest))
        figures = problem.regularise(state.x, unforced, sweep=self.sweep)
        state = keep_best(state, figures.objective, figures.max_cosine)
        return self.sharded(state), highest

    def finished(
        self, problem: PackingProblem, x: Points, report: Report | None = None
    ) -> tuple[Points, Any]:
        """Push the closest pairs apart, unless a keep-out set could be in the way, and measure all."""
        share = CONTACT_SHARE if self.relax and problem.keep_out is None else 0.0
        return relax_contacts(x, problem.frozen, share=share, sweep=self.sweep, report=report)


_measured = jax.jit(StochasticSolver.measured, static_argnums=0, donate_argnums=2)
_exchanged = jax.jit(exchange, static_argnums=(2, 3), donate_argnums=0)


def default_batch_size(num_points: int) -> int:
    """Choose an eighth of the points, between 256 and 4096."""
    return min(max(num_points // 8, 256), 4096, num_points)


def default_num_groups(num_points: int, batch_size: int, num_devices: int = 1) -> int:
    """Choose one group for a small problem on one device, else at least 24.

    24 groups, or a multiple, run on 1, 2, 3, 4, 6, 8, 12 and 24 devices alike. A group should hold
    several blocks, or its points would meet the same others until the next exchange.
    """
    fits = num_points >= _GROUPS * max(_BLOCKS_OF_A_GROUP * batch_size, _GROUPS)
    return math.lcm(_GROUPS if fits else 1, num_devices)


def default_measurement(
    num_points: int, batch_size: int, num_iterations: int
) -> tuple[int, int | None]:
    """Choose how often to measure, and how many rows: a quarter of the run's work at most.

    Returns:
        The number of measurements, and the rows of each: None for all of them.
    """
    sweeps = 0.25 * 3 * batch_size * num_iterations / num_points
    if sweeps >= 1:
        return int(min(sweeps, _EXACT_CHECKS)), None
    return 1, max(int(sweeps * num_points / 2), min(num_points, batch_size))


def stochastic(
    problem: PackingProblem,
    *,
    batch_size: int | None = None,
    num_iterations: int | None = None,
    initializer: Initializer | None = None,
    num_groups: int | None = None,
    sweep: Sweep = DEFAULT_SWEEP,
    relax: bool = True,
) -> tuple[PackingProblem, StochasticSolver]:
    """Return the annealed problem and a mini-batch solver for it.

    Args:
        problem: what to pack.
        batch_size: points of a block at most; None chooses from n.
        num_iterations: block steps; None takes as many as cost the sweeps of the full solver.
        initializer: start of the free points.
        num_groups: groups that shuffle apart; None chooses from n and the number of devices.
        sweep: how the pairs of a block are visited, and over which devices.
        relax: whether to push the closest pairs apart at the end: about 1.2 sweeps over all pairs.

    Raises:
        ValueError: if a block has fewer than 2 points, or the groups cannot be shared evenly by the
            devices.
    """
    num_points = problem.num_points
    batch_size = min(batch_size or default_batch_size(num_points), num_points)
    if batch_size < 2:
        raise ValueError(f"batch_size={batch_size}: a block needs at least 2 points")
    num_devices = sweep.num_devices
    num_groups = num_groups or default_num_groups(num_points, batch_size, num_devices)
    check_groups(num_groups, num_points, num_devices)
    if num_iterations is None:
        sweeps = default_num_iterations(num_points, problem.dim)
        num_iterations = sweeps * max(num_points // batch_size, 1)
    initializer = initializer or default_initializer(problem)
    problem, full = annealed(
        problem.on(sweep.mesh, num_groups),
        num_iterations=num_iterations,
        initializer=initializer,
        sweep=sweep,
        b2=_SECOND_MOMENT_DECAY,
    )
    num_checks, measured_rows = default_measurement(num_points, batch_size, num_iterations)
    measure_every = max(num_iterations // num_checks, 1)
    solver = StochasticSolver(
        full.optimizer,
        num_iterations,
        min(measure_every, scan_steps(3.0 * num_points * batch_size * problem.dim)),
        full.initializer,
        sweep,
        measure_every=measure_every,
        batch_size=batch_size,
        num_groups=num_groups,
        measured_rows=measured_rows,
        relax=relax,
    )
    return problem, solver


def check_groups(num_groups: int, num_points: int, num_devices: int) -> None:
    """Raise ``ValueError`` unless the devices can share the groups, and these can exchange points."""
    if num_groups % num_devices:
        raise ValueError(
            f"num_groups={num_groups}: {num_devices} devices cannot share them evenly; use a number "
            "of devices that divides it"
        )
    if num_points < num_groups**2:
        raise ValueError(
            f"num_groups={num_groups}: {num_points} points are too few to exchange among them; use "
            "the full-batch solver or fewer devices"
        )
