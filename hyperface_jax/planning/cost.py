"""Cost of a step on a machine in memory, FLOPs, bytes and seconds, by arithmetic alone.

Nothing here uses a device. FLOPs, rows, chunks and groups are those that the solvers use. Speed is a
model: products run at a share of the peak, and transfers of the ring overlap with computation. Tiles
of scores stay on chip, but not on GPUs, where they go through memory between the products.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from hyperface_jax import meshes
from hyperface_jax.errors import InputError
from hyperface_jax.packing.blocks import block_shape
from hyperface_jax.packing.minibatch import (
    MiniBatch,
    check_groups,
    default_batch_size,
    default_num_groups,
)
from hyperface_jax.pairwise import Precision, api, ring
from hyperface_jax.pairwise.blockwise import default_block_size
from hyperface_jax.pairwise.platforms import LIVE_TILES
from hyperface_jax.planning.machines import Machine

Method = Literal["annealed", "stochastic"]

_FLOAT = 4
_INDICES = 3
_SCALAR_SUMS = 2
_LIVE_TILES = 3
_LIVE_CHUNKS = 4
_TILE_BYTES: dict[Precision, float] = {"float32": 28, "bf16_x3": 52, "tf32": 28, "bf16": 22}
"""Bytes that a GPU moves for every score of a tile. The product writes it (4); the weights read it and
are written (4 + 4, or 2 in bfloat16), the statistics of rows and of columns read it (4 + 4), and both
sums of forces read the weights (2 x 4, or 2 x 2). Three passes write three products and read two of
them again, and read the weights to write them in two parts (24 more)."""
_SCORE_BYTES: dict[Precision, float] = {"float32": 12, "bf16_x3": 28, "tf32": 12, "bf16": 12}
"""The same for a sweep that only finds the largest scores."""
_OPTIMIZER_PASSES = 12
_SHUFFLE_PASSES = 6
_FETCH_PASSES = 3


class Memory(NamedTuple):
    """Memory of a device, in bytes, by purpose."""

    points: float
    best_points: float
    momentum: float
    second_moment: float
    indices: float
    """Identity of each row, identity of each best row, and gallery row of each row."""
    force: float
    travelling: float
    """Chunks of rows and accumulators that travel around the ring."""
    workspace: float
    """Tiles and blocks in use, rows being exchanged, and the optimizer's copies."""
    gallery: float
    """Rows of the gallery, those that travel, and the row taken as nearest to each point."""

    @property
    def state(self) -> float:
        """Bytes of the solver's state, as stored in a checkpoint."""
        return sum(self[:5])

    @property
    def total(self) -> float:
        """Peak memory in bytes."""
        return sum(self)


class StepCost(NamedTuple):
    """Cost of one step on one device."""

    rows: int
    flops: float
    """FLOPs of the matrix products."""
    memory: Memory
    sent_bytes: float
    compute_seconds: float
    """Time of the matrix products."""
    tile_seconds: float
    """Time in which tiles of scores are written to memory and read again, between the products."""
    traffic_seconds: float
    """Time of the other reads and writes of the device's memory, which overlap with the products."""
    communication_seconds: float
    latency_seconds: float
    seconds: float
    bottleneck: str
    """``"compute"``, ``"memory bandwidth"``, ``"communication"`` or ``"latency"``."""


class _Parts(NamedTuple):
    """Work of a device in one step or sweep."""

    flops: float
    scores: float
    """Scores in all tiles."""
    traffic: float
    overlapped: float
    """Bytes over the busiest link while products are computed."""
    exposed: float
    """Bytes over the busiest link while nothing is computed."""
    sent: float
    hops: float


class Shape(NamedTuple):
    """Layout of rows on the devices."""

    rows: int
    dim: int
    num_groups: int
    block: int
    num_chunks: int

    @property
    def points_bytes(self) -> float:
        """Bytes of a device's points."""
        return _FLOAT * self.rows * self.dim

    @property
    def padded(self) -> int:
        """Number of rows of a device, padded to whole blocks."""
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
    num_gallery: int = 0,
) -> StepCost:
    """Model one step without a keep-out set and frozen points, and without a search of the gallery.

    Args:
        num_points: number of points n.
        dim: dimension d.
        machine: the devices, from :func:`parse_devices`.
        method: ``"annealed"`` for all pairs, or ``"stochastic"`` for the pairs of random blocks.
        batch_size: points per block (stochastic); None takes the solver's choice.
        num_groups: number of groups that shuffle separately (stochastic); None takes the solver's
            choice.
        precision: precision of the products.
        num_gallery: number of gallery rows m; 0 means no gallery. Every step fetches the row of each
            point, for which all rows of the gallery travel around the devices.

    Returns:
        The cost for one of D devices. FLOPs: ``3 n^2 d / D`` (plus ``n^2 d / D^2`` for an even D), or
        ``3 n B d / D``; with a factor of 4 instead of 3 where a block fits in one tile. The cost of
        exchanging rows between groups is spread over the steps between exchanges.

    Raises:
        InputError: the devices cannot share the points.
    """
    if method == "annealed":
        shape = shape_of(num_points, dim, machine)
        parts, memory = _full_step(shape, machine), _full_memory(shape, machine)
    else:
        batch_size, shape = stochastic_shape(num_points, dim, machine, batch_size, num_groups)
        parts = _block_step(shape, machine, batch_size)
        memory = _block_memory(shape, machine, batch_size)
    if num_gallery:
        parts = _with_fetch(parts, shape, machine, num_gallery)
        memory = memory._replace(gallery=_gallery_bytes(shape, machine, num_gallery))
    return _priced(shape, parts, memory, machine, precision)


def _shard_rows(num_rows: int, num_groups: int, machine: Machine) -> int:
    """Return the number of rows of a device."""
    num_parts = max(num_groups, machine.num_devices)
    size = num_rows if num_parts == 1 else meshes.padded_size(num_rows, num_parts)
    return size // machine.num_devices


def _fetch_chunks(shape: Shape, columns: int) -> int:
    """Return the number of chunks in which a shard of the gallery travels, as in :func:`.ring.take`."""
    return 1 if columns <= shape.rows else ring.count_chunks(columns, default_block_size(columns))


def _gallery_bytes(shape: Shape, machine: Machine, num_gallery: int) -> float:
    columns = _shard_rows(num_gallery, shape.num_groups, machine)
    travelling = 2 * (machine.num_devices > 1) / _fetch_chunks(shape, columns)
    return _FLOAT * shape.dim * columns * (1 + travelling) + shape.points_bytes


def _with_fetch(parts: _Parts, shape: Shape, machine: Machine, num_gallery: int) -> _Parts:
    """Add the fetch of one gallery row for each point."""
    num_devices = machine.num_devices
    columns = _shard_rows(num_gallery, shape.num_groups, machine)
    travelled = columns * _FLOAT * (shape.dim + 1) * num_devices * (num_devices > 1)
    visits = num_devices * _fetch_chunks(shape, columns)
    return parts._replace(
        # At each device that a chunk of the gallery visits, all points look for their rows in it.
        traffic=parts.traffic + _FETCH_PASSES * visits * shape.points_bytes,
        exposed=parts.exposed + travelled,
        sent=parts.sent + travelled,
        hops=parts.hops + visits * (num_devices > 1),
    )


def shape_of(num_points: int, dim: int, machine: Machine, num_groups: int = 1) -> Shape:
    """Return how the solvers distribute ``num_points`` rows over a machine."""
    rows = _shard_rows(num_points, num_groups, machine)
    block = default_block_size(rows, machine.largest_block)
    return Shape(rows, dim, num_groups, block, ring.count_chunks(rows, block))


def stochastic_shape(
    num_points: int, dim: int, machine: Machine, batch_size: int | None, num_groups: int | None
) -> tuple[int, Shape]:
    """Return the batch size and the layout for mini-batches, with defaults filled in.

    Raises:
        InputError: the devices cannot share the points.
    """
    num_devices = machine.num_devices
    batch_size = min(batch_size or default_batch_size(num_points), num_points)
    num_groups = num_groups or default_num_groups(num_points, batch_size, num_devices)
    try:
        check_groups(num_groups, num_points, num_devices)
    except ValueError as error:
        raise InputError(f"stochastic on {num_devices} devices: {error}") from error
    return batch_size, shape_of(num_points, dim, machine, num_groups)


def _own_pairs(num_rows: int, block: int, dim: int, *, has_force: bool, is_twice: bool) -> float:
    """Count the FLOPs of a set paired with itself: tiles on and above the diagonal, or all tiles."""
    tiled = num_rows if is_twice else block
    size = -(-num_rows // tiled) * tiled
    scored = 2 * size * size if is_twice else size * (size + block)
    return dim * (scored + 2 * size * size * has_force)


def _full_sweep(shape: Shape, machine: Machine, *, has_force: bool) -> float:
    """Count the FLOPs of a device in a sweep around the ring."""
    size, dim, num_devices = shape.padded, shape.dim, machine.num_devices
    is_twice = num_devices == 1 and shape.rows**2 <= api.DENSE_PAIRS
    one_side = 2 * (1 + has_force)
    both_sides = 2 * one_side if is_twice else 2 * (1 + 2 * has_force)
    met = (num_devices - 1) // 2 * both_sides + (num_devices % 2 == 0) * one_side
    own = _own_pairs(shape.rows, shape.block, dim, has_force=has_force, is_twice=is_twice)
    return own + met * size * size * dim


def _full_step(shape: Shape, machine: Machine) -> _Parts:
    flops = _full_sweep(shape, machine, has_force=True)
    tiles = flops / (6 * shape.block**2 * shape.dim)
    # A two-sided tile reads its columns, and reads and writes their accumulators.
    traffic = 3 * _FLOAT * shape.block * shape.dim * tiles
    traffic += _OPTIMIZER_PASSES * shape.points_bytes
    accumulators = shape.rows * _FLOAT * (shape.dim + 2)
    return _ringed(shape, machine, flops, flops / (6 * shape.dim), traffic, accumulators)


def _ringed(
    shape: Shape,
    machine: Machine,
    flops: float,
    scores: float,
    traffic: float,
    accumulators: float,
) -> _Parts:
    """Add the transfers of half a trip around the ring."""
    num_devices = machine.num_devices
    if num_devices == 1:
        return _Parts(flops, scores, traffic, 0, 0, 0, 0)
    rows = shape.rows * _FLOAT * (shape.dim + 1)
    hops = (num_devices - 1) // 2
    # Sums return home across a torus, or a switch, with a longest path of about sqrt(D) links.
    homeward = min(hops, math.ceil(math.sqrt(num_devices)))
    return _Parts(
        flops,
        scores,
        traffic,
        overlapped=hops * (rows + accumulators),
        exposed=rows + homeward * accumulators,
        sent=(hops + 1) * rows + (hops + (hops > 0)) * accumulators,
        hops=shape.num_chunks * (hops + 1 + homeward) + _SCALAR_SUMS,
    )


def _full_memory(shape: Shape, machine: Machine) -> Memory:
    num_devices, points = machine.num_devices, shape.points_bytes
    travelling = 0.0
    if num_devices > 1:
        live = _LIVE_CHUNKS if num_devices > 2 else _LIVE_CHUNKS / 2
        travelling = live * points / shape.num_chunks
    return _memory(shape, travelling, points + _tiles_bytes(shape.rows, machine))


def _tiles_bytes(num_rows: int, machine: Machine) -> float:
    """Return the memory of the tiles in use."""
    if machine.stores_tiles:
        return LIVE_TILES * _FLOAT * min(num_rows, machine.largest_block) ** 2
    return _LIVE_TILES * _FLOAT * default_block_size(num_rows) ** 2


def _memory(shape: Shape, travelling: float, workspace: float) -> Memory:
    points, column = shape.points_bytes, _FLOAT * shape.rows
    return Memory(
        points, points, points, column, _INDICES * column, points, travelling, workspace, 0
    )


def _block_step(shape: Shape, machine: Machine, batch_size: int) -> _Parts:
    num_blocks, size = device_blocks(shape, machine, batch_size)
    block = default_block_size(size, machine.largest_block)
    is_twice = size * size <= api.DENSE_PAIRS
    flops = num_blocks * _own_pairs(size, block, shape.dim, has_force=True, is_twice=is_twice)
    tiles = flops / (6 * block**2 * shape.dim)
    traffic = 3 * _FLOAT * block * shape.dim * tiles
    traffic += (_OPTIMIZER_PASSES + _SHUFFLE_PASSES) * shape.points_bytes
    scores = flops / (6 * shape.dim)
    num_devices, every = machine.num_devices, MiniBatch.exchange_every
    if shape.num_groups == 1 or num_devices == 1:
        return _Parts(flops, scores, traffic, 0, 0, 0, _SCALAR_SUMS * (num_devices > 1))
    leaves = shape.rows * _FLOAT * (2 * shape.dim + _INDICES)
    sent = leaves * (num_devices - 1) / num_devices / every
    # In an all-to-all on a torus, half of all data crosses the middle.
    crowded = sent * max(1.0, math.sqrt(num_devices) / 8)
    hops = _SCALAR_SUMS + 5 * math.sqrt(num_devices) / every
    return _Parts(flops, scores, traffic, 0, crowded, sent, hops)


def device_blocks(shape: Shape, machine: Machine, batch_size: int) -> tuple[int, int]:
    """Return the number of blocks per device and their size."""
    groups = shape.num_groups // machine.num_devices
    num_blocks, size = block_shape(shape.rows // groups, batch_size)
    return groups * num_blocks, size


def _block_memory(shape: Shape, machine: Machine, batch_size: int) -> Memory:
    _, size = device_blocks(shape, machine, batch_size)
    most = batch_size if machine.stores_tiles else size
    in_use = 2 * _FLOAT * size * shape.dim + _tiles_bytes(most, machine)
    groups, points = shape.num_groups, shape.points_bytes
    if (own_groups := groups // machine.num_devices) > 1:
        in_use += 2 * points / own_groups
    # Rows that a group cannot distribute evenly stay behind, which costs the exchange a copy.
    is_even = shape.rows * machine.num_devices // groups % groups == 0
    copies = 1 if groups == 1 or is_even else 2
    return _memory(shape, 0, max(copies * points, in_use))


def _priced(
    shape: Shape,
    parts: _Parts,
    memory: Memory,
    machine: Machine,
    precision: Precision,
    score_bytes: dict[Precision, float] = _TILE_BYTES,
) -> StepCost:
    compute = parts.flops / machine.flops_per_second(precision)
    moved = score_bytes[precision] * parts.scores * machine.stores_tiles
    tiles = moved / machine.memory_bandwidth
    traffic = machine.traffic_factor * parts.traffic / machine.memory_bandwidth
    overlapped = parts.overlapped / machine.link_bandwidth
    exposed = parts.exposed / machine.link_bandwidth
    latency = parts.hops * machine.hop_seconds
    times = {
        "compute": compute,
        "memory bandwidth": tiles + traffic,
        "communication": overlapped + exposed,
        "latency": latency,
    }
    return StepCost(
        shape.rows,
        parts.flops,
        memory,
        parts.sent,
        compute_seconds=compute,
        tile_seconds=tiles,
        traffic_seconds=traffic,
        communication_seconds=overlapped + exposed,
        latency_seconds=latency,
        seconds=max(compute + tiles, traffic, overlapped) + exposed + latency,
        bottleneck=max(times, key=lambda name: times[name]),
    )


def measurement_seconds(
    shape: Shape,
    machine: Machine,
    measured_rows: int | None,
    precision: Precision = "float32",
) -> float:
    """Model one search for the max cosine: of all rows, or of some rows to all others."""
    if measured_rows is not None:
        measured = -(-measured_rows // machine.num_devices)
        return _search_seconds(shape, machine, measured, shape.rows, precision)
    flops = _full_sweep(shape, machine, has_force=False)
    traffic = flops / (2 * shape.block) * _FLOAT
    accumulators = _FLOAT * shape.rows
    parts = _ringed(shape, machine, flops, flops / (2 * shape.dim), traffic, accumulators)
    return _scored(shape, parts, machine, precision)


def gallery_search_seconds(
    shape: Shape, machine: Machine, num_gallery: int, precision: Precision = "float32"
) -> float:
    """Model one search for the gallery row nearest to each point: ``2 n m d`` FLOPs."""
    columns = _shard_rows(num_gallery, shape.num_groups, machine)
    return _search_seconds(shape, machine, shape.rows, columns, precision)


def _search_seconds(
    shape: Shape, machine: Machine, rows: int, columns: int, precision: Precision
) -> float:
    """Model one search of some rows of a device among columns that travel around all devices."""
    num_devices = machine.num_devices
    flops = 2.0 * rows * columns * num_devices * shape.dim
    moved = num_devices * columns * _FLOAT * (shape.dim + 1) * (num_devices > 1)
    read = _FLOAT * shape.dim * columns * num_devices * max(rows / shape.block, 1)
    chunks = ring.count_chunks(columns, default_block_size(columns, machine.largest_block))
    hops = chunks * num_devices * (num_devices > 1)
    parts = _Parts(flops, flops / (2 * shape.dim), moved + read, moved, 0, moved, hops)
    return _scored(shape, parts, machine, precision)


def _scored(shape: Shape, parts: _Parts, machine: Machine, precision: Precision) -> float:
    return _priced(shape, parts, _memory(shape, 0, 0), machine, precision, _SCORE_BYTES).seconds
