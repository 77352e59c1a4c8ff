"""A plan for a run on a machine: method, steps and settings, with what they cost."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple, get_args

from hyperface_jax.errors import InputError
from hyperface_jax.packing.contacts import CONTACT_SWEEPS
from hyperface_jax.packing.methods import default_num_steps
from hyperface_jax.packing.minibatch import default_measurement
from hyperface_jax.planning.cost import (
    Method,
    StepCost,
    device_blocks,
    measurement_seconds,
    shape_of,
    step_cost,
    stochastic_shape,
)
from hyperface_jax.planning.machines import Machine

_GIB = 2**30
_USABLE = 0.9
"""Share of the memory that a program gets: the runtime and fragmentation take the rest."""
_LONGEST_RUN = 24 * 3600.0
_MOST_DEVICES = 2**20
_COARSE_SHARE = 0.8


class PlannedRun(NamedTuple):
    """A run on a machine."""

    method: Method
    num_steps: int
    batch_size: int | None
    num_groups: int | None
    block_size: int | None
    """Points that meet in a step (stochastic): a small group makes blocks smaller than a batch."""
    coarse_steps: int
    """Steps at the start with bfloat16 products, as in :class:`.Method`."""
    step: StepCost
    coarse_step: StepCost
    """The same step with bfloat16 products."""
    num_measurements: int
    measured_rows: int | None
    """Rows of each measurement (stochastic); None for all of them."""
    measurement_seconds: float
    """All measurements together, those of the start and of the result included; of mini-batches also
    pushing the closest pairs apart at the end."""
    checkpoint_bytes: float
    """One checkpoint, of all devices together."""
    seconds: float
    """The whole run, without compilation and files."""


def plan_run(
    num_points: int,
    dim: int,
    machine: Machine,
    *,
    method: Method | None = None,
    num_steps: int | None = None,
    batch_size: int | None = None,
    coarse_steps: int | None = None,
) -> PlannedRun:
    """Choose method and length of a run, and say what it costs.

    Args:
        num_points: n, at least 2.
        dim: d, at least 2.
        machine: from :func:`parse_devices`.
        method: None takes all pairs where such a run fits in memory and takes less than a day,
            else mini-batches, cut to a day.
        num_steps: steps; None takes the solver's choice.
        batch_size: points of a block (stochastic); None takes the solver's choice.
        coarse_steps: steps at the start with bfloat16 products (annealed); None takes four fifths of
            them, and none on a CPU.

    Raises:
        InputError: if the settings make no sense, or the run does not fit in memory; then it says
            how many devices would do.
    """
    _check(num_points, dim, method, num_steps, batch_size, coarse_steps)
    settings = num_points, dim, machine
    if method is None and batch_size is None:
        plan = _annealed(*settings, num_steps, coarse_steps)
        if _fits(plan.step, machine) and plan.seconds < _LONGEST_RUN:
            return plan
    if method == "annealed":
        plan = _annealed(*settings, num_steps, coarse_steps)
    else:
        longest = math.inf if method == "stochastic" else _LONGEST_RUN
        plan = _stochastic(*settings, num_steps, batch_size, longest)
    if not _fits(plan.step, machine):
        raise InputError(_too_large(num_points, dim, machine, plan))
    return plan


def _check(
    num_points: int,
    dim: int,
    method: str | None,
    num_steps: int | None,
    batch_size: int | None,
    coarse_steps: int | None,
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
    ):
        if value is not None and value < minimum:
            raise InputError(f"`{name}={value}`: must be at least {minimum}")


def _annealed(
    num_points: int,
    dim: int,
    machine: Machine,
    num_steps: int | None,
    coarse_steps: int | None,
) -> PlannedRun:
    steps = num_steps or default_num_steps(num_points, dim)
    if coarse_steps is None:
        coarse_steps = 0 if machine.name == "cpu" else int(_COARSE_SHARE * steps)
    coarse_steps = min(coarse_steps, steps)
    exact = step_cost(num_points, dim, machine)
    coarse = step_cost(num_points, dim, machine, precision="bf16")
    measuring = 2 * measurement_seconds(shape_of(num_points, dim, machine), machine, None)
    return PlannedRun(
        method="annealed",
        num_steps=steps,
        batch_size=None,
        num_groups=None,
        block_size=None,
        coarse_steps=coarse_steps,
        step=exact,
        coarse_step=coarse,
        num_measurements=0,
        measured_rows=None,
        measurement_seconds=measuring,
        checkpoint_bytes=machine.num_devices * exact.memory.state,
        seconds=coarse_steps * coarse.seconds + (steps - coarse_steps) * exact.seconds + measuring,
    )


def _stochastic(
    num_points: int,
    dim: int,
    machine: Machine,
    num_steps: int | None,
    batch_size: int | None,
    longest: float,
) -> PlannedRun:
    batch_size, shape = stochastic_shape(num_points, dim, machine, batch_size, None)
    step, coarse = (
        step_cost(num_points, dim, machine, method="stochastic", batch_size=batch_size, precision=p)
        for p in ("float32", "bf16")
    )
    finishing = CONTACT_SWEEPS * measurement_seconds(shape, machine, None)
    left = longest - finishing
    steps = num_steps or _block_steps(num_points, dim, batch_size, step.seconds, left)
    checks, rows = default_measurement(num_points, batch_size, steps)
    measuring = (1 + checks) * measurement_seconds(shape, machine, rows) + finishing
    return PlannedRun(
        method="stochastic",
        num_steps=steps,
        batch_size=batch_size,
        num_groups=shape.num_groups,
        block_size=device_blocks(shape, machine, batch_size)[1],
        coarse_steps=0,
        step=step,
        coarse_step=coarse,
        num_measurements=checks,
        measured_rows=rows,
        measurement_seconds=measuring,
        checkpoint_bytes=machine.num_devices * step.memory.state,
        seconds=steps * step.seconds + measuring,
    )


def _block_steps(
    num_points: int, dim: int, batch_size: int, step_seconds: float, longest: float
) -> int:
    """Choose as many steps as the solver does, or as fit into the time with their measurements."""
    sweeps = default_num_steps(num_points, dim)
    steps = sweeps * max(num_points // batch_size, 1)
    if longest < 1.25 * steps * step_seconds:
        steps = max(int(longest / (1.25 * step_seconds)), sweeps)
    return steps


def _fits(step: StepCost, machine: Machine) -> bool:
    return step.memory.total <= _USABLE * machine.memory_bytes


def _too_large(num_points: int, dim: int, machine: Machine, plan: PlannedRun) -> str:
    needed = plan.step.memory.total / _GIB
    usable = _USABLE * machine.memory_bytes / _GIB
    enough = _enough_devices(num_points, dim, machine, plan)
    return (
        f"{num_points} points in {dim} dimensions need {needed:.1f} GiB a device and "
        f"{machine.name}:{machine.num_devices} has {usable:.1f} GiB for it: "
        + (f"use {machine.name}:{enough}" if enough else "no number of devices would do")
    )


def _enough_devices(num_points: int, dim: int, machine: Machine, plan: PlannedRun) -> int | None:
    """Find the fewest devices that hold a run, by doubling and then halving the interval."""

    def fits(count: int) -> bool:
        more = replace(machine, num_devices=count)
        try:
            step = step_cost(num_points, dim, more, method=plan.method, batch_size=plan.batch_size)
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
