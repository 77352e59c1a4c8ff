"""Mini-batches (HyperFace, Algorithm 2), with reshuffled blocks so that every point moves.

Each step shuffles the points into blocks of ``batch_size`` and lets points interact only within their
block: ``n B d`` work instead of ``n^2 d``. All pairs share a block with the same probability. So for an
energy that sums a pair function, the expected force is the full one, and descent minimizes the same
energy. The max cosine is not such a sum: the paper's Theorem 1 covers the pair sums of
:mod:`.energies` (and the sum inside the soft maximum's logarithm), not the max cosine itself.

The exact max cosine would take a full sweep. It is therefore measured only now and then (on a sample,
if the run is short), and the best measured iterate is kept. At the end, one full sweep measures all
points and pushes the closest pairs apart, which small blocks rarely bring together: see
:mod:`.contacts`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from hyperface_jax.errors import InputError
from hyperface_jax.packing.blocks import evaluate_blocks, exchange
from hyperface_jax.packing.contacts import CONTACT_SHARE, relax_contacts
from hyperface_jax.packing.energies import Energy, Evaluation, PairEnergy, check_energy, row_max
from hyperface_jax.packing.inputs import whole
from hyperface_jax.packing.methods import (
    Annealed,
    PackingState,
    Seen,
    default_num_steps,
    unmeasured,
)
from hyperface_jax.packing.problem import Evaluated, PackingProblem
from hyperface_jax.packing.rowwise import join_rows, split_rows
from hyperface_jax.pairwise import Sweep, first_rows, max_cosine
from hyperface_jax.typing import PerRow, Points, Scalar

_EXACT_CHECKS = 50
_GROUPS = 24
_BLOCKS_OF_A_GROUP = 8
_LEAST_B2, _MEETINGS = 0.9, 5
_EXCHANGE = 2**31 - 1
"""Folded into the key of an exchange, so that it differs from the key of the blocks."""


@dataclass(frozen=True, kw_only=True)
class MiniBatch(Annealed):
    """Random blocks of points instead of all pairs, for packings of a hundred thousand points or more.

    Attributes:
        batch_size: largest number of points in a block; None chooses it from n.
        num_groups: number of groups of rows that shuffle separately; they are distributed over the
            devices of the mesh. The result depends on this number, not on the number of devices.
            None chooses it from n and the number of devices.
        exchange_every: number of steps between exchanges of rows between the groups.
        measure_every: number of steps between measurements; one always follows the last step. None
            measures as often as a quarter of the run's work allows.
        measured_rows: number of rows of which each measurement finds the max cosine to all others.
            If both this and ``measure_every`` are None, as many as a quarter of the run's work allows;
            if only this is None, all rows.
        relax: whether to push the closest pairs apart at the end, at the cost of about 1.2 sweeps over
            all pairs. With a keep-out set, the points are only measured.
        pair_energy: any energy that sums a pair function, to replace the annealed soft maximum.
        b2: decay of the average squared force of each point. A point meets its nearest neighbor in one
            of ``n / B`` steps. If a force were normalized by itself, the steady pull of a gallery would
            win in all others, and identities would end on the same row. None remembers five meetings
            near a gallery, ``1 - B / (5 n)``, and takes 0.9 elsewhere.

    ``num_steps`` counts block steps; None takes as many as cost the same as a full-batch run.
    """

    batch_size: int | None = None
    num_groups: int | None = None
    exchange_every: int = 10
    measure_every: int | None = None
    measured_rows: int | None = None
    relax: bool = True
    pair_energy: PairEnergy | None = None

    def __post_init__(self):
        super().__post_init__()
        for name in ("batch_size", "num_groups", "measure_every", "measured_rows"):
            if getattr(self, name) is not None:
                least = 2 if name == "batch_size" else 1
                self._set(name, whole(name, getattr(self, name), least=least))
        if self.pair_energy is not None:
            check_energy(self.pair_energy)
            if not isinstance(self.pair_energy, PairEnergy):
                raise InputError(f"pair_energy={self.pair_energy!r}: must sum a pair function")

    def may_start_coarse(self, dim: int) -> bool:
        """Return False: no step measures all pairs, so none would make up for the rounding."""
        del dim
        return False

    def resolve(
        self, num_points: int, dim: int, num_devices: int = 1, *, near_gallery: bool = False
    ) -> MiniBatch:
        """Choose the block size, the groups, the number of steps, the decay and the measurements."""
        batch_size = min(self.batch_size or default_batch_size(num_points), num_points)
        if batch_size < 2:
            raise InputError(f"batch_size={batch_size}: a block needs at least 2 points")
        num_groups = self.num_groups or default_num_groups(num_points, batch_size, num_devices)
        check_groups(num_groups, num_points, num_devices)
        num_steps = self.num_steps
        if num_steps is None:
            sweeps = default_num_steps(num_points, dim)
            num_steps = sweeps * max(num_points // batch_size, 1)
        measure_every, measured_rows = self.measure_every, self.measured_rows
        if measure_every is None:
            checks, sampled = default_measurement(num_points, batch_size, num_steps)
            measure_every = max(num_steps // checks, 1)
            measured_rows = sampled if measured_rows is None else measured_rows
        return replace(
            self,
            batch_size=batch_size,
            num_groups=num_groups,
            num_steps=num_steps,
            measure_every=measure_every,
            measured_rows=measured_rows,
            b2=_decay(batch_size / num_points, near_gallery) if self.b2 is None else self.b2,
            coarse_steps=self.num_coarse - self.num_coarse % self.exchange_every,
            **self._schedules(dim, num_steps),
        )

    def make_energy(self) -> Energy:
        """Return a soft maximum with the annealed temperature, or the given energy."""
        return super().make_energy() if self.pair_energy is None else self.pair_energy

    def num_parts(self, num_devices: int) -> int:
        """Return the number of groups."""
        del num_devices
        return self._groups

    def flops(self, num_points: int, dim: int) -> float:
        """Return the number of FLOPs of a block step."""
        return 3.0 * num_points * self._block * dim

    def first_max_cosine(self, problem: PackingProblem, x: Points, sweep: Sweep) -> Scalar:
        """Measure the max cosine of a sample of the start."""
        del problem
        return self._sampled(x, self._block, sweep)

    @property
    def prepare_every(self) -> int | None:
        """Number of steps between exchanges; None if there is a single group."""
        return None if self._groups == 1 else self.exchange_every

    def prepare(self, state: PackingState, sweep: Sweep) -> PackingState:
        """Distribute the rows of every group over all groups."""
        moving = state.x, state.row, state.gallery_index, state.opt_state
        rows, rest = split_rows(moving, state.x.shape[0])
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), _EXCHANGE)
        # One compiled call per leaf, because each needs memory for further copies of its leaf.
        dealt = [_exchanged(leaf, key, self._groups, sweep.mesh) for leaf in rows]
        x, row, gallery_index, opt_state = join_rows(dealt, rest)
        return state._replace(x=x, row=row, gallery_index=gallery_index, opt_state=opt_state)

    def evaluate(self, problem: PackingProblem, state: PackingState, sweep: Sweep) -> Evaluation:
        """Estimate the energy from random blocks."""
        energy = self.make_energy()
        assert isinstance(energy, PairEnergy)
        return evaluate_blocks(
            energy,
            state.x,
            jax.random.fold_in(state.key, state.step),
            min(self._block, problem.num_points),
            num_groups=self._groups,
            frozen=problem.frozen,
            step=state.step,
            shift=state.max_cosine,
            sweep=sweep,
        )

    def look(
        self,
        problem: PackingProblem,
        before: PackingState,
        after: PackingState,
        figures: Evaluated,
        sweep: Sweep,
    ) -> Seen:
        """Measure the points after the step, or a sample of them, if a measurement is due."""
        del before
        every = self.measure_every or self.steps
        is_due = (after.step % every == 0) | (after.step == self.steps)

        def measure() -> tuple[Scalar, Scalar]:
            return self._measured(problem, after.x, sweep)

        def skip() -> tuple[Scalar, Scalar]:
            return unmeasured(after.x), figures.max_cosine

        objective, highest = lax.cond(is_due, measure, skip)
        return Seen(after.x, after.row, objective, highest, is_due)

    def finish(
        self, problem: PackingProblem, x: Points, nearest: PerRow, sweep: Sweep
    ) -> tuple[Points, PerRow]:
        """Push the closest pairs apart, unless there is a keep-out set that they might violate."""
        if not self.relax or problem.keep_out is not None:
            return x, nearest
        return relax_contacts(
            x,
            nearest,
            problem.frozen,
            share=CONTACT_SHARE,
            num_points=problem.num_points,
            sweep=sweep,
        )

    def _measured(self, problem: PackingProblem, x: Points, sweep: Sweep) -> tuple[Scalar, Scalar]:
        if self.measured_rows is None:
            highest = jnp.max(row_max(x, problem.frozen, sweep=sweep))
        else:
            highest = self._sampled(x, self.measured_rows, sweep)
        return problem.objective(x, highest, sweep=sweep), highest

    def _sampled(self, x: Points, num_rows: int, sweep: Sweep) -> Scalar:
        """Find the largest cosine between a sample of rows from every group and all other rows."""
        rows = first_rows(x, num_rows, self._groups)
        return jnp.max(sweep.among(rows, x, reduction=max_cosine()))

    @property
    def _groups(self) -> int:
        return self.num_groups or 1

    @property
    def _block(self) -> int:
        if self.batch_size is None:
            raise ValueError("batch_size=None: resolve the method first")
        return self.batch_size


_exchanged = partial(jax.jit, static_argnums=(2, 3), donate_argnums=0)(exchange)


def _decay(share: float, near_gallery: bool) -> float:
    """Return the decay of squared forces for blocks of a share of the points."""
    return max(_LEAST_B2, 1 - share / _MEETINGS) if near_gallery else _LEAST_B2


def default_batch_size(num_points: int) -> int:
    """Choose an eighth of the points, limited to between 256 and 4096."""
    return min(max(num_points // 8, 256), 4096, num_points)


def default_num_groups(num_points: int, batch_size: int, num_devices: int = 1) -> int:
    """Choose one group for a small problem on one device, else at least 24.

    24 groups, or a multiple, can be shared by 1, 2, 3, 4, 6, 8, 12 or 24 devices with the same result.
    A group should hold several blocks; otherwise its points would interact with the same points until
    the next exchange.
    """
    fits = num_points >= _GROUPS * max(_BLOCKS_OF_A_GROUP * batch_size, _GROUPS)
    return math.lcm(_GROUPS if fits else 1, num_devices)


def default_measurement(num_points: int, batch_size: int, num_steps: int) -> tuple[int, int | None]:
    """Choose how often to measure and how many rows, for at most a quarter of the run's work.

    Returns:
        The number of measurements, and the number of rows of each, or None for all rows.
    """
    sweeps = 0.25 * 3 * batch_size * num_steps / num_points
    if sweeps >= 1:
        return int(min(sweeps, _EXACT_CHECKS)), None
    return 1, max(int(sweeps * num_points / 2), min(num_points, batch_size))


def check_groups(num_groups: int, num_points: int, num_devices: int) -> None:
    """Raise ``InputError`` unless the devices can share the groups, and these can exchange points."""
    if num_groups % num_devices:
        raise InputError(
            f"num_groups={num_groups}: {num_devices} devices cannot share them evenly; use a number "
            "of devices that divides it"
        )
    if num_points < num_groups**2:
        raise InputError(
            f"num_groups={num_groups}: {num_points} points are too few to exchange among them; use "
            "the full batch or fewer devices"
        )
