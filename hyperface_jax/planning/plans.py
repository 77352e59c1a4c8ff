"""A plan for a run on a machine: method, steps and settings, and their cost."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple, get_args

from hyperface_jax.errors import InputError
from hyperface_jax.packing.contacts import CONTACT_SWEEPS
from hyperface_jax.packing.methods import Annealed, default_num_steps
from hyperface_jax.packing.minibatch import MiniBatch, default_measurement
from hyperface_jax.packing.products import default_coarse_steps, fine_precision
from hyperface_jax.pairwise import Precision, Sweep
from hyperface_jax.planning.cost import (
    Method,
    Shape,
    StepCost,
    device_blocks,
    gallery_search_seconds,
    measurement_seconds,
    shape_of,
    step_cost,
    stochastic_shape,
)
from hyperface_jax.planning.machines import Machine

_GIB = 2**30
_USABLE = 0.9
"""Share of the memory that a program can use; the runtime and fragmentation take the rest."""
_LONGEST_RUN = 24 * 3600.0
_MOST_DEVICES = 2**20


class PlannedRun(NamedTuple):
    """A planned run on a machine, with its cost."""

    method: Method
    num_steps: int
    batch_size: int | None
    num_groups: int | None
    block_size: int | None
    """Points per block (stochastic); in small groups, blocks are smaller than ``batch_size``."""
    coarse_steps: int
    """Number of steps at the start with bfloat16 products, as in :class:`.Method`."""
    precision: Precision
    """Precision of the products of the other steps."""
    step: StepCost
    """Cost of one of the other steps."""
    coarse_step: StepCost
    """Cost of the same step with bfloat16 products."""
    num_measurements: int
    measured_rows: int | None
    """Number of rows in each measurement (stochastic); None means all rows."""
    num_searches: int
    """Number of searches of the gallery during the steps; 0 without a gallery."""
    search_seconds: float
    """Total time of these searches."""
    measurement_seconds: float
    """Total time of all measurements, including those of the start and of the result. With mini-batches,
    it includes pushing the closest pairs apart at the end."""
    checkpoint_bytes: float
    """Size of one checkpoint in bytes, for all devices together."""
    seconds: float
    """Time of the whole run, without compilation and file access."""


def plan_run(
    num_points: int,
    dim: int,
    machine: Machine,
    *,
    method: Method | None = None,
    num_steps: int | None = None,
    batch_size: int | None = None,
    coarse_steps: int | None = None,
    num_gallery: int = 0,
) -> PlannedRun:
    """Choose the method and the number of steps of a run, and compute its cost.

    Args:
        num_points: number of points n, at least 2.
        dim: dimension d, at least 2.
        machine: the devices, from :func:`parse_devices`.
        method: ``"annealed"`` or ``"stochastic"``. None takes all pairs if such a run fits in memory
            and takes less than a day, else mini-batches, with steps limited to a day.
        num_steps: number of steps; None takes the solver's choice.
        batch_size: points per block (stochastic); None takes the solver's choice.
        coarse_steps: number of steps at the start with bfloat16 products (annealed); None takes the
            solver's choice on such a machine.
        num_gallery: number of rows of the gallery; 0 means no gallery.

    Raises:
        InputError: the settings make no sense, or the run does not fit in memory. In the latter case,
            the message says how many devices would be enough.
    """
    _check(num_points, dim, method, num_steps, batch_size, coarse_steps, num_gallery)
    settings = num_points, dim, machine, num_gallery, num_steps
    if method is None and batch_size is None:
        plan = _annealed(*settings, coarse_steps)
        if _fits(plan.step, machine) and plan.seconds < _LONGEST_RUN:
            return plan
    if method == "annealed":
        plan = _annealed(*settings, coarse_steps)
    else:
        longest = math.inf if method == "stochastic" else _LONGEST_RUN
        plan = _stochastic(*settings, batch_size, longest)
    if not _fits(plan.step, machine):
        raise InputError(_too_large(num_points, dim, machine, plan, num_gallery))
    return plan


def _check(
    num_points: int,
    dim: int,
    method: str | None,
    num_steps: int | None,
    batch_size: int | None,
    coarse_steps: int | None,
    num_gallery: int,
) -> None:
    if method not in (None, *get_args(Method)):
        raise InputError(f"`method={method}`: choose {' or '.join(get_args(Method))}")
    if method == "annealed" and batch_size is not None:
        raise InputError(f"`batch_size={batch_size}`: it is for `method=stochastic`")
    for name, value, minimum in (
        ("num_points", num_points, 2),
        ("dim", dim, 2),
        ("num_steps", num_steps, 1),
        ("batch_size", batch_size, 2),
        ("coarse_steps", coarse_steps, 0),
        ("num_gallery", num_gallery, 0),
    ):
        if value is not None and value < minimum:
            raise InputError(f"`{name}={value}`: must be at least {minimum}")


def _annealed(
    num_points: int,
    dim: int,
    machine: Machine,
    num_gallery: int,
    num_steps: int | None,
    coarse_steps: int | None,
) -> PlannedRun:
    steps = num_steps or default_num_steps(num_points, dim)
    if coarse_steps is None:
        chosen = default_coarse_steps(num_points, dim, steps)
        coarse_steps = chosen if machine.is_accelerator else 0
    coarse_steps = min(coarse_steps, steps)
    precision = fine_precision(machine.is_accelerator, Sweep())
    fine, coarse = (
        step_cost(num_points, dim, machine, precision=p, num_gallery=num_gallery)
        for p in (precision, "bf16")
    )
    shape = shape_of(num_points, dim, machine)
    searches = _Searches(shape, machine, num_gallery, Annealed.gallery_every)
    measuring = 2 * measurement_seconds(shape, machine, None) + searches.seconds(2)
    searching = searches.of_steps(0, coarse_steps, "bf16")
    searching += searches.of_steps(coarse_steps, steps, precision)
    return PlannedRun(
        method="annealed",
        num_steps=steps,
        batch_size=None,
        num_groups=None,
        block_size=None,
        coarse_steps=coarse_steps,
        precision=precision,
        step=fine,
        coarse_step=coarse,
        num_measurements=0,
        measured_rows=None,
        num_searches=searches.number(0, steps),
        search_seconds=searching,
        measurement_seconds=measuring,
        checkpoint_bytes=machine.num_devices * fine.memory.state,
        seconds=coarse_steps * coarse.seconds
        + (steps - coarse_steps) * fine.seconds
        + searching
        + measuring,
    )


def _stochastic(
    num_points: int,
    dim: int,
    machine: Machine,
    num_gallery: int,
    num_steps: int | None,
    batch_size: int | None,
    longest: float,
) -> PlannedRun:
    batch_size, shape = stochastic_shape(num_points, dim, machine, batch_size, None)
    precision = fine_precision(machine.is_accelerator, Sweep())
    step, coarse = (
        step_cost(
            num_points,
            dim,
            machine,
            method="stochastic",
            batch_size=batch_size,
            precision=p,
            num_gallery=num_gallery,
        )
        for p in (precision, "bf16")
    )
    searches = _Searches(shape, machine, num_gallery, MiniBatch.gallery_every)
    finishing = CONTACT_SWEEPS * measurement_seconds(shape, machine, None) + searches.seconds(1)
    left = longest - finishing
    each = step.seconds + searches.seconds(1, precision) / searches.every
    steps = num_steps or _block_steps(num_points, dim, batch_size, each, left)
    checks, rows = default_measurement(num_points, batch_size, steps)
    measuring = checks * measurement_seconds(shape, machine, rows, precision) + finishing
    measuring += measurement_seconds(shape, machine, rows) + searches.seconds(checks, precision)
    searching = searches.of_steps(0, steps, precision)
    return PlannedRun(
        method="stochastic",
        num_steps=steps,
        batch_size=batch_size,
        num_groups=shape.num_groups,
        block_size=device_blocks(shape, machine, batch_size)[1],
        coarse_steps=0,
        precision=precision,
        step=step,
        coarse_step=coarse,
        num_measurements=checks,
        measured_rows=rows,
        num_searches=searches.number(0, steps),
        search_seconds=searching,
        measurement_seconds=measuring,
        checkpoint_bytes=machine.num_devices * step.memory.state,
        seconds=steps * step.seconds + searching + measuring,
    )


class _Searches(NamedTuple):
    """Searches for the gallery row nearest to each point, in one of every few steps."""

    shape: Shape
    machine: Machine
    num_gallery: int
    every: int

    def number(self, first: int, stop: int) -> int:
        """Count the searches in a range of steps."""
        if not self.num_gallery:
            return 0
        return -(-stop // self.every) + -first // self.every

    def seconds(self, count: int, precision: Precision = "float32") -> float:
        """Return the time of so many searches."""
        if not self.num_gallery:
            return 0.0
        return count * gallery_search_seconds(self.shape, self.machine, self.num_gallery, precision)

    def of_steps(self, first: int, stop: int, precision: Precision) -> float:
        """Return the time of the searches in a range of steps."""
        return self.seconds(self.number(first, stop), precision)


def _block_steps(
    num_points: int, dim: int, batch_size: int, step_seconds: float, longest: float
) -> int:
    """Choose the solver's number of steps, or fewer if they and their measurements take too long."""
    sweeps = default_num_steps(num_points, dim)
    steps = sweeps * max(num_points // batch_size, 1)
    if longest < 1.25 * steps * step_seconds:
        steps = max(int(longest / (1.25 * step_seconds)), sweeps)
    return steps


def _fits(step: StepCost, machine: Machine) -> bool:
    return step.memory.total <= _USABLE * machine.memory_bytes


def _too_large(
    num_points: int, dim: int, machine: Machine, plan: PlannedRun, num_gallery: int
) -> str:
    needed = plan.step.memory.total / _GIB
    usable = _USABLE * machine.memory_bytes / _GIB
    enough = _enough_devices(num_points, dim, machine, plan, num_gallery)
    near = f" near {num_gallery} gallery rows" if num_gallery else ""
    return (
        f"{num_points} points in {dim} dimensions{near} need {needed:.1f} GiB per device, but "
        f"{machine.name}:{machine.num_devices} has {usable:.1f} GiB for it: "
        + (f"use {machine.name}:{enough}" if enough else "no number of devices would be enough")
    )


def _enough_devices(
    num_points: int, dim: int, machine: Machine, plan: PlannedRun, num_gallery: int
) -> int | None:
    """Find the smallest number of devices that can hold a run, by doubling and then bisection."""

    def fits(count: int) -> bool:
        more = replace(machine, num_devices=count)
        try:
            step = step_cost(
                num_points,
                dim,
                more,
                method=plan.method,
                batch_size=plan.batch_size,
                num_gallery=num_gallery,
            )
        except InputError:
            return False
        return _fits(step, more)

    low, high = machine.num_devices, 2 * machine.num_devices
    while not fits(high):
        low, high = high, 2 * high
        if high > _MOST_DEVICES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
