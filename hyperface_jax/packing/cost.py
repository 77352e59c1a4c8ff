"""Cost of a packing run on a machine: memory, FLOPs, bytes and seconds, by arithmetic alone.

Nothing here touches a device. FLOPs, rows, chunks and groups are those the solvers use; what a
machine makes of them is a model: products run at a share of the peak, tiles of scores stay on chip,
transfers of the ring hide behind the computation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

from hyperface_jax import sharding
from hyperface_jax.errors import InputError
from hyperface_jax.packing.solver import default_num_iterations
from hyperface_jax.packing.stochastic import (
    StochasticSolver,
    _blocks,
    _check_groups,
    default_batch_size,
    default_measurement,
    default_num_groups,
)
from hyperface_jax.pairwise import Precision, api, ring
from hyperface_jax.pairwise.blockwise import default_block_size

Method = Literal["annealed", "stochastic"]

_GIB = 2**30
_FLOAT = 4
_INDICES = 3
_USABLE = 0.9
"""Share of the memory that a program gets: the runtime and fragmentation take the rest."""
_LONGEST_RUN = 24 * 3600.0
_MOST_DEVICES = 2**20
_SCALAR_SUMS = 2
_LIVE_TILES = 3
_LIVE_CHUNKS = 4
_OPTIMISER_PASSES = 12
_SHUFFLE_PASSES = 6


# Machines


@dataclass(frozen=True)
class Machine:
    """Devices of one kind.

    Attributes:
        name: the kind, as :func:`parse_devices` takes it.
        num_devices: how many.
        peak_flops: of dense bfloat16 products, FLOP/s a device.
        memory_bytes: of a device.
        memory_bandwidth: bytes/s a device.
        link_bandwidth: bytes/s of one link in one direction.
        efficiency: share of the peak that products reach.
        float32_passes: how many times longer a float32 product takes than a bfloat16 one.
        tf32_passes: the same for the default precision of float32 inputs.
        hop_seconds: latency of one transfer, in seconds.
        is_fused: pairs are visited by the GPU kernel, which computes each tile once a side.
        linked_devices: most devices that such links connect.
        devices_per_host: devices of one process.
    """

    name: str
    num_devices: int
    peak_flops: float
    memory_bytes: float
    memory_bandwidth: float
    link_bandwidth: float
    efficiency: float
    float32_passes: float
    tf32_passes: float = 1.0
    hop_seconds: float = 1e-5
    is_fused: bool = False
    linked_devices: int = 1
    devices_per_host: int = 8

    @property
    def is_pod_slice(self) -> bool:
        """Whether these are TPUs of several hosts."""
        return self.name in _TPUS and self.num_devices > self.devices_per_host

    def flops_per_second(self, precision: Precision = "float32") -> float:
        """Return the FLOP/s that a device sustains in products of this precision."""
        passes = {"float32": self.float32_passes, "tf32": self.tf32_passes, "bf16": 1.0}
        return self.peak_flops * self.efficiency / passes[precision]


_ASSUMED_EFFICIENCY = 0.5
"""Share of the peak for kinds on which nothing has been measured."""
_TPUS = ("v5e", "v5p", "v6e")


def _accelerator(
    name: str, tflops: float, gib: float, memory: float, link: float, linked: int
) -> Machine:
    is_tpu = name in _TPUS
    return Machine(
        name,
        num_devices=1,
        peak_flops=tflops * 1e12,
        memory_bytes=gib * _GIB,
        memory_bandwidth=memory * 1e9,
        link_bandwidth=link * 1e9,
        efficiency=_ASSUMED_EFFICIENCY,
        float32_passes=6.0 if is_tpu else 15.0,
        tf32_passes=1.0 if is_tpu else 2.0,
        is_fused=not is_tpu,
        linked_devices=linked,
        devices_per_host=4 if name == "v5p" else 8,
    )


_CPU = Machine(
    "cpu",
    num_devices=1,
    peak_flops=2.099e11,
    memory_bytes=25.28e9,
    memory_bandwidth=3.56e10,
    link_bandwidth=1.25e9,
    efficiency=0.678,
    float32_passes=1.0,
    devices_per_host=1,
)

KINDS = {
    machine.name: machine
    for machine in (
        _accelerator("v5e", 197, 16, 819, 45, 256),
        _accelerator("v5p", 459, 95, 2765, 90, 8960),
        _accelerator("v6e", 918, 32, 1640, 90, 256),
        _accelerator("a100", 312, 80, 2000, 300, 8),
        _accelerator("h100", 989, 80, 3350, 450, 8),
        _accelerator("h200", 989, 141, 4800, 450, 8),
        _accelerator("b200", 2250, 180, 8000, 900, 8),
        _CPU,
    )
}
"""One device of every kind: TFLOP/s in bfloat16, GiB, GB/s of memory, GB/s of a link and direction.

TPUs: the specification pages of Cloud TPU (cloud.google.com/tpu/docs), whose interconnect figure is
of all links in both directions; about 90 % of it is taken. A float32 product takes six bfloat16
passes. GPUs: NVIDIA's data sheets, dense, SXM: A100 80 GB, H100 and H200, and B200 with 180 of its
192 GB; NVLink within one host. TF32 runs at half the bfloat16 rate, true float32 at a fifteenth.

cpu: measured by ``python -m benchmarks.scaling`` on 2 cores of an AMD EPYC, the ``fit`` of
``benchmarks/results/amd-epyc-2-cores/scaling.json``: 142 GFLOP/s, 0.68 of a plain float32 product;
single shapes take 0.80 to 1.33 times what that rate says. Its link, a 10 Gbit/s network, and
everything about several CPUs are assumed.
"""


def parse_devices(text: str) -> Machine:
    """Turn ``"v5e:256"`` into a machine; a bare kind is one device.

    Raises:
        InputError: for an unknown kind or a count that is none.

    Examples:
        >>> parse_devices("v5e:256").num_devices
        256
    """
    kind, _, count = text.partition(":")
    if kind not in KINDS:
        raise InputError(f"devices {text!r}: unknown kind {kind!r}, choose {', '.join(KINDS)}")
    if ":" not in text:
        return KINDS[kind]
    if not count.isascii() or not count.isdigit() or int(count) < 1:
        raise InputError(f"devices {text!r}: the count must be 1 or more, as in {kind}:8")
    return replace(KINDS[kind], num_devices=int(count))


# One step


class Memory(NamedTuple):
    """Bytes of a device by what they hold."""

    points: float
    best_points: float
    momentum: float
    second_moment: float
    indices: float
    """Whose each row is, that of the best rows, and its gallery row."""
    force: float
    travelling: float
    """Chunks of rows and accumulators on their way round the ring."""
    workspace: float
    """Tiles and blocks in use, rows being exchanged, and copies of the optimiser."""

    @property
    def state(self) -> float:
        """Bytes of the solver's state, which a checkpoint holds."""
        return sum(self[:5])

    @property
    def total(self) -> float:
        """Bytes at the peak."""
        return sum(self)


class StepCost(NamedTuple):
    """One step on one device."""

    rows: int
    flops: float
    """Of the matrix products."""
    memory: Memory
    sent_bytes: float
    compute_seconds: float
    """Matrix products."""
    traffic_seconds: float
    """Reads and writes of the device's memory; they overlap with the products."""
    communication_seconds: float
    latency_seconds: float
    seconds: float
    bottleneck: str
    """``"compute"``, ``"memory bandwidth"``, ``"communication"`` or ``"latency"``."""


class _Parts(NamedTuple):
    """What a device does in one go."""

    flops: float
    traffic: float
    overlapped: float
    """Bytes over the busiest link while products run."""
    exposed: float
    """Bytes over the busiest link while nothing else runs."""
    sent: float
    hops: float


class _Shape(NamedTuple):
    """How rows lie on the devices."""

    rows: int
    dim: int
    num_groups: int
    block: int
    num_chunks: int

    @property
    def points_bytes(self) -> float:
        return _FLOAT * self.rows * self.dim

    @property
    def padded(self) -> int:
        return -(-self.rows // self.block) * self.block


def step_cost(
    num_points: int,
    dim: int,
    machine: Machine,
    *,
    method: Method = "annealed",
    batch_size: int | None = None,
    num_groups: int | None = None,
    precision: Precision = "float32",
) -> StepCost:
    """Model one step without gallery, keep-out set and frozen points.

    Args:
        num_points: n.
        dim: d.
        machine: from :func:`parse_devices`.
        method: ``"annealed"``, all pairs, or ``"stochastic"``, the pairs of random blocks.
        batch_size: points of a block (stochastic); None takes the solver's choice.
        num_groups: groups that shuffle apart (stochastic); None takes the solver's choice.
        precision: of the products.

    Returns:
        The cost for one device. FLOPs: ``3 n^2 d / D`` (and ``n^2 d / D^2`` for an even D), or
        ``3 n B d / D``; 4 instead of 3 in the GPU's kernel and where a block fits one tile. An
        exchange of rows between groups is spread over the steps between two.

    Raises:
        InputError: if the devices cannot share the points.
    """
    if method == "annealed":
        shape = _shape(num_points, dim, machine)
        return _priced(
            shape, _full_step(shape, machine), _full_memory(shape, machine), machine, precision
        )
    batch_size, shape = _stochastic_shape(num_points, dim, machine, batch_size, num_groups)
    parts = _block_step(shape, machine, batch_size)
    return _priced(shape, parts, _block_memory(shape, machine, batch_size), machine, precision)


def _shape(num_points: int, dim: int, machine: Machine, num_groups: int = 1) -> _Shape:
    num_devices = machine.num_devices
    num_parts = max(num_groups, num_devices)
    size = num_points if num_parts == 1 else sharding.padded_size(num_points, num_parts)
    rows = size // num_devices
    block = default_block_size(rows)
    return _Shape(rows, dim, num_groups, block, ring._num_chunks(rows, block))


def _stochastic_shape(
    num_points: int, dim: int, machine: Machine, batch_size: int | None, num_groups: int | None
) -> tuple[int, _Shape]:
    num_devices = machine.num_devices
    batch_size = min(batch_size or default_batch_size(num_points), num_points)
    num_groups = num_groups or default_num_groups(num_points, batch_size, num_devices)
    try:
        _check_groups(num_groups, num_points, num_devices)
    except ValueError as error:
        raise InputError(f"stochastic on {num_devices} devices: {error}") from error
    return batch_size, _shape(num_points, dim, machine, num_groups)


def _is_fused(machine: Machine, dim: int) -> bool:
    return machine.is_fused and dim <= api._MAX_PALLAS_DIM


def _own_pairs(num_rows: int, block: int, dim: int, *, has_force: bool, is_twice: bool) -> float:
    """Count the FLOPs of a set with itself: tiles on and above the diagonal, or all of them."""
    tiled = num_rows if is_twice else block
    size = -(-num_rows // tiled) * tiled
    scored = 2 * size * size if is_twice else size * (size + block)
    return dim * (scored + 2 * size * size * has_force)


def _full_sweep(shape: _Shape, machine: Machine, *, has_force: bool) -> float:
    """Count the FLOPs of a device in a sweep round the ring."""
    size, dim, is_twice = shape.padded, shape.dim, _is_fused(machine, shape.dim)
    num_devices = machine.num_devices
    if num_devices == 1 and shape.rows**2 <= api._DENSE_PAIRS:
        is_twice = True
    one_side = 2 * (1 + has_force)
    both_sides = 2 * one_side if is_twice else 2 * (1 + 2 * has_force)
    met = (num_devices - 1) // 2 * both_sides + (num_devices % 2 == 0) * one_side
    own = _own_pairs(shape.rows, shape.block, dim, has_force=has_force, is_twice=is_twice)
    return own + met * size * size * dim


def _full_step(shape: _Shape, machine: Machine) -> _Parts:
    flops = _full_sweep(shape, machine, has_force=True)
    tiles = flops / (6 * shape.block**2 * shape.dim)
    # A two-sided tile reads its columns, and reads and writes their accumulators.
    traffic = 3 * _FLOAT * shape.block * shape.dim * tiles
    traffic += _OPTIMISER_PASSES * shape.points_bytes
    return _ringed(shape, machine, flops, traffic, shape.rows * _FLOAT * (shape.dim + 2))


def _ringed(
    shape: _Shape, machine: Machine, flops: float, traffic: float, accumulators: float
) -> _Parts:
    """Add the transfers of half a round."""
    num_devices = machine.num_devices
    if num_devices == 1:
        return _Parts(flops, traffic, 0, 0, 0, 0)
    rows = shape.rows * _FLOAT * (shape.dim + 1)
    hops = (num_devices - 1) // 2
    # Homeward sums cross a torus, or a switch, whose longest way is about sqrt(D) links.
    homeward = min(hops, math.ceil(math.sqrt(num_devices)))
    return _Parts(
        flops,
        traffic,
        overlapped=hops * (rows + accumulators),
        exposed=rows + homeward * accumulators,
        sent=(hops + 1) * rows + (hops + (hops > 0)) * accumulators,
        hops=shape.num_chunks * (hops + 1 + homeward) + _SCALAR_SUMS,
    )


def _full_memory(shape: _Shape, machine: Machine) -> Memory:
    num_devices, points = machine.num_devices, shape.points_bytes
    travelling = 0.0
    if num_devices > 1:
        live = _LIVE_CHUNKS if num_devices > 2 else _LIVE_CHUNKS / 2
        travelling = live * points / shape.num_chunks
    tiles = 0 if _is_fused(machine, shape.dim) else _LIVE_TILES * _FLOAT * shape.block**2
    return _memory(shape, travelling, points + tiles)


def _memory(shape: _Shape, travelling: float, workspace: float) -> Memory:
    points, column = shape.points_bytes, _FLOAT * shape.rows
    return Memory(points, points, points, column, _INDICES * column, points, travelling, workspace)


def _block_step(shape: _Shape, machine: Machine, batch_size: int) -> _Parts:
    num_blocks, size = _device_blocks(shape, machine, batch_size)
    block = default_block_size(size)
    is_twice = _is_fused(machine, shape.dim) or size * size <= api._DENSE_PAIRS
    flops = num_blocks * _own_pairs(size, block, shape.dim, has_force=True, is_twice=is_twice)
    tiles = flops / (6 * block**2 * shape.dim)
    traffic = 3 * _FLOAT * block * shape.dim * tiles
    traffic += (_OPTIMISER_PASSES + _SHUFFLE_PASSES) * shape.points_bytes
    num_devices, every = machine.num_devices, StochasticSolver.exchange_every
    if shape.num_groups == 1 or num_devices == 1:
        return _Parts(flops, traffic, 0, 0, 0, _SCALAR_SUMS * (num_devices > 1))
    leaves = shape.rows * _FLOAT * (2 * shape.dim + _INDICES)
    sent = leaves * (num_devices - 1) / num_devices / every
    # All to all on a torus: half of everything crosses its middle.
    crowded = sent * max(1.0, math.sqrt(num_devices) / 8)
    hops = _SCALAR_SUMS + 5 * math.sqrt(num_devices) / every
    return _Parts(flops, traffic, 0, crowded, sent, hops)


def _device_blocks(shape: _Shape, machine: Machine, batch_size: int) -> tuple[int, int]:
    """Return the number of blocks of a device and their size."""
    groups = shape.num_groups // machine.num_devices
    num_blocks, size = _blocks(shape.rows // groups, batch_size)
    return groups * num_blocks, size


def _block_memory(shape: _Shape, machine: Machine, batch_size: int) -> Memory:
    _, size = _device_blocks(shape, machine, batch_size)
    tile = default_block_size(size)
    tiles = 0 if _is_fused(machine, shape.dim) else _LIVE_TILES * _FLOAT * tile**2
    in_use = 2 * _FLOAT * size * shape.dim + tiles
    groups, points = shape.num_groups, shape.points_bytes
    if (own_groups := groups // machine.num_devices) > 1:
        in_use += 2 * points / own_groups
    # Rows that a group cannot deal out evenly stay behind, which costs the exchange a copy.
    is_even = shape.rows * machine.num_devices // groups % groups == 0
    copies = 1 if groups == 1 or is_even else 2
    return _memory(shape, 0, max(copies * points, in_use))


def _priced(
    shape: _Shape, parts: _Parts, memory: Memory, machine: Machine, precision: Precision
) -> StepCost:
    compute = parts.flops / machine.flops_per_second(precision)
    traffic = parts.traffic / machine.memory_bandwidth
    overlapped = parts.overlapped / machine.link_bandwidth
    exposed = parts.exposed / machine.link_bandwidth
    latency = parts.hops * machine.hop_seconds
    times = {
        "compute": compute,
        "memory bandwidth": traffic,
        "communication": overlapped + exposed,
        "latency": latency,
    }
    return StepCost(
        shape.rows,
        parts.flops,
        memory,
        parts.sent,
        compute_seconds=compute,
        traffic_seconds=traffic,
        communication_seconds=overlapped + exposed,
        latency_seconds=latency,
        seconds=max(compute, traffic, overlapped) + exposed + latency,
        bottleneck=max(times, key=lambda name: times[name]),
    )


# A run


class Plan(NamedTuple):
    """A run on a machine."""

    method: Method
    num_iterations: int
    batch_size: int | None
    num_groups: int | None
    block_size: int | None
    """Points that meet in a step (stochastic): a small group makes blocks smaller than a batch."""
    coarse_steps: int
    """Steps at the start with bfloat16 products, as in :class:`PackingSolver`."""
    step: StepCost
    coarse_step: StepCost
    """The same step with bfloat16 products."""
    num_measurements: int
    measured_rows: int | None
    """Rows of each measurement (stochastic); None for all of them."""
    measurement_seconds: float
    """All measurements together, those of the start and of the result included."""
    checkpoint_bytes: float
    """One checkpoint, of all devices together."""
    seconds: float
    """The whole run, without compilation and files."""


def choose_plan(
    num_points: int,
    dim: int,
    machine: Machine,
    *,
    method: Method | None = None,
    num_iterations: int | None = None,
    batch_size: int | None = None,
    coarse_steps: int = 0,
) -> Plan:
    """Choose method and length of a run, and say what it costs.

    Args:
        num_points: n, at least 2.
        dim: d, at least 2.
        machine: from :func:`parse_devices`.
        method: None takes all pairs where such a run fits in memory and takes less than a day,
            else mini-batches, cut to a day.
        num_iterations: steps; None takes the solver's choice.
        batch_size: points of a block (stochastic); None takes the solver's choice.
        coarse_steps: steps at the start with bfloat16 products (annealed).

    Raises:
        InputError: if the settings make no sense, or the run does not fit in memory; then it says
            how many devices would do.
    """
    _check(num_points, dim, method, num_iterations, batch_size, coarse_steps)
    settings = num_points, dim, machine
    if method is None and batch_size is None:
        plan = _annealed(*settings, num_iterations, coarse_steps)
        if _fits(plan.step, machine) and plan.seconds < _LONGEST_RUN:
            return plan
    if method == "annealed":
        plan = _annealed(*settings, num_iterations, coarse_steps)
    else:
        longest = math.inf if method == "stochastic" else _LONGEST_RUN
        plan = _stochastic(*settings, num_iterations, batch_size, longest)
    if not _fits(plan.step, machine):
        raise InputError(_too_large(num_points, dim, machine, plan))
    return plan


def _check(
    num_points: int,
    dim: int,
    method: str | None,
    num_iterations: int | None,
    batch_size: int | None,
    coarse_steps: int,
) -> None:
    if method not in (None, *get_args(Method)):
        raise InputError(f"method {method!r}: choose {' or '.join(get_args(Method))}")
    if method == "annealed" and batch_size is not None:
        raise InputError(f"batch size {batch_size}: it is for the method stochastic")
    for name, value, minimum in (
        ("num_points", num_points, 2),
        ("dim", dim, 2),
        ("steps", num_iterations, 1),
        ("batch size", batch_size, 2),
        ("coarse steps", coarse_steps, 0),
    ):
        if value is not None and value < minimum:
            raise InputError(f"{name} {value}: must be at least {minimum}")


def _annealed(
    num_points: int, dim: int, machine: Machine, num_iterations: int | None, coarse_steps: int
) -> Plan:
    steps = num_iterations or default_num_iterations(num_points, dim)
    coarse_steps = min(coarse_steps, steps)
    exact = step_cost(num_points, dim, machine)
    coarse = step_cost(num_points, dim, machine, precision="bf16")
    measuring = 2 * _measurement_seconds(_shape(num_points, dim, machine), machine, None)
    return Plan(
        method="annealed",
        num_iterations=steps,
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
    num_iterations: int | None,
    batch_size: int | None,
    longest: float,
) -> Plan:
    batch_size, shape = _stochastic_shape(num_points, dim, machine, batch_size, None)
    step, coarse = (
        step_cost(num_points, dim, machine, method="stochastic", batch_size=batch_size, precision=p)
        for p in ("float32", "bf16")
    )
    steps = num_iterations or _block_steps(num_points, dim, batch_size, step.seconds, longest)
    checks, rows = default_measurement(num_points, batch_size, steps)
    measuring = (2 + checks) * _measurement_seconds(shape, machine, rows)
    return Plan(
        method="stochastic",
        num_iterations=steps,
        batch_size=batch_size,
        num_groups=shape.num_groups,
        block_size=_device_blocks(shape, machine, batch_size)[1],
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
    sweeps = default_num_iterations(num_points, dim)
    steps = sweeps * max(num_points // batch_size, 1)
    if longest < 1.25 * steps * step_seconds:
        steps = max(int(longest / (1.25 * step_seconds)), sweeps)
    return steps


def _measurement_seconds(shape: _Shape, machine: Machine, measured_rows: int | None) -> float:
    """Model one search for the largest cosine, of all rows or of some to all."""
    if measured_rows is None:
        flops = _full_sweep(shape, machine, has_force=False)
        traffic = flops / (2 * shape.block) * _FLOAT
        parts = _ringed(shape, machine, flops, traffic, _FLOAT * shape.rows)
    else:
        num_devices = machine.num_devices
        measured = -(-measured_rows // num_devices)
        flops = 2.0 * measured * shape.rows * num_devices * shape.dim
        moved = num_devices * (shape.points_bytes + _FLOAT * shape.rows) * (num_devices > 1)
        hops = shape.num_chunks * num_devices * (num_devices > 1)
        parts = _Parts(flops, moved + shape.points_bytes, moved, 0, moved, hops)
    memory = _memory(shape, 0, 0)
    return _priced(shape, parts, memory, machine, "float32").seconds


def _fits(step: StepCost, machine: Machine) -> bool:
    return step.memory.total <= _USABLE * machine.memory_bytes


def _too_large(num_points: int, dim: int, machine: Machine, plan: Plan) -> str:
    needed = plan.step.memory.total / _GIB
    usable = _USABLE * machine.memory_bytes / _GIB
    enough = _enough_devices(num_points, dim, machine, plan)
    return (
        f"{num_points} points in {dim} dimensions need {needed:.1f} GiB a device and "
        f"{machine.name}:{machine.num_devices} has {usable:.1f} GiB for it: "
        + (f"use {machine.name}:{enough}" if enough else "no number of devices would do")
    )


def _enough_devices(num_points: int, dim: int, machine: Machine, plan: Plan) -> int | None:
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
