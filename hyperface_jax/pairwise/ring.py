"""Pairs across devices: shards travel around a ring and meet the shard of every device.

This module wraps the local folds of :mod:`.blockwise`. It decides which shards meet where, but never
how a tile is reduced. Shards travel in chunks, so that a device holds its own rows, its accumulators
and a few chunks, but never a second shard. Every transfer starts before a computation that does not
depend on it, so that the two overlap.

A symmetric sweep goes halfway around the ring: each pair of shards meets once, and the result serves
both. The sums of the traveling shard follow one hop behind it and return home from the last device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from hyperface_jax.meshes import ROWS
from hyperface_jax.pairwise.blockwise import Folds, default_block_size
from hyperface_jax.pairwise.reductions import Reduction, empty
from hyperface_jax.pairwise.rows import NumberedRows, numbered
from hyperface_jax.typing import Gallery, Indices, Points

_MAX_CHUNKS = 64
_MIN_CHUNK = 2048


MakeFolds = Callable[[int], Any]
"""A function from a device's number of rows to the folds that reduce them, blockwise or in a kernel."""


def symmetric(x: Points, make_folds: MakeFolds, mesh: Mesh) -> Any:
    """Reduce over all pairs of ``x`` with itself, with its rows sharded over ``mesh``.

    Cost: each of the D devices computes ``n^2 d / D`` FLOPs for the scores (and ``n^2 d / D^2`` more
    for an even D), and receives ``n / 2`` rows and as many accumulators.
    """

    def shard(x: Points) -> Any:
        rows = numbered(x, _first_row(x))
        folds = make_folds(x.shape[0])
        carry = folds.within(empty(folds.reduction, x), rows)
        if mesh.size > 1:
            meet = partial(_half_round, folds, rows, mesh.size)
            carry = _over_chunks(meet, carry, rows, folds.block_size)
        return folds.reduction.finalize(carry)

    return _mapped(shard, mesh, 1)(x)


def among(rows: NumberedRows, y: Gallery | NumberedRows, make_folds: MakeFolds, mesh: Mesh) -> Any:
    """Reduce over all pairs of a row of ``rows`` and a row of ``y`` with a different id, both sharded.

    Cost: each of the D devices computes ``2 n m d / D`` FLOPs for the scores and receives ``m`` rows.
    """

    def shard(rows: NumberedRows, y: Gallery | NumberedRows) -> Any:
        folds = make_folds(rows.x.shape[0])

        def add(carry: Any, columns: NumberedRows) -> Any:
            return folds.onto(carry, rows, _at_hand(columns))

        meet = partial(_whole_round, add, mesh.size)
        columns = y if isinstance(y, NumberedRows) else numbered(y, _first_row(y))
        carry = _over_chunks(meet, empty(folds.reduction, rows.x), columns, folds.block_size)
        return folds.reduction.finalize(carry)

    return _mapped(shard, mesh, 2)(rows, y)


def take(y: Gallery, index: Indices, mesh: Mesh) -> Points:
    """Select rows of a sharded array by their global index, ``[n, d]``; missing rows are zeros.

    Cost: each device receives ``m`` rows, and looks for its ``n / D`` rows in every part that arrives.
    So a shard travels whole, unless it is larger than what the device takes.
    """

    def shard(y: Gallery, index: Indices) -> Points:
        def add(found: Points, columns: NumberedRows) -> Points:
            return _picked(found, index, columns)

        meet = partial(_whole_round, add, mesh.size)
        start = lax.pcast(jnp.zeros((index.shape[0], y.shape[1]), y.dtype), ROWS, to="varying")
        columns = NumberedRows(y, _first_row(y) + jnp.arange(y.shape[0], dtype=jnp.int32))
        if y.shape[0] <= index.shape[0]:
            return meet(start, 0, columns)
        return _over_chunks(meet, start, columns, default_block_size(y.shape[0]))

    return _mapped(shard, mesh, 2)(y, index)


def _whole_round(add: Any, num_devices: int, carry: Any, chunk: Any, columns: NumberedRows) -> Any:
    """Let one chunk of every device visit all devices, with ``add(carry, columns)`` at each."""
    del chunk

    def hop(_: Any, state: Any) -> Any:
        carry, columns = state
        arriving = _pass_on(columns, num_devices)
        return add(carry, columns), arriving

    return lax.fori_loop(0, num_devices, hop, (carry, columns))[0]


def _half_round(
    folds: Folds,
    rows: NumberedRows,
    num_devices: int,
    carry: Any,
    chunk: Any,
    columns: NumberedRows,
) -> Any:
    """Let one chunk of every device visit half of the other devices."""
    hops = (num_devices - 1) // 2
    nothing = empty(folds.reduction, columns.x)

    def hop(_: Any, state: Any) -> Any:
        carry, columns, travelling = state
        leaving = _pass_on(columns, num_devices)
        arriving = _pass_on(travelling, num_devices)
        carry, met = folds.both(carry, rows, nothing, _at_hand(columns))
        return carry, leaving, folds.reduction.merge(arriving, met)

    columns = _pass_on(columns, num_devices)
    if hops:
        state = carry, columns, nothing
        carry, columns, travelling = lax.fori_loop(0, hops, hop, state)
        home = _pass_on(travelling, num_devices, -hops)
        carry = _merged_at(folds.reduction, carry, home, chunk)
    if num_devices % 2 == 0:
        # Opposite devices receive each other's rows at the same time, so each updates only its own.
        carry = folds.onto(carry, rows, columns)
    return carry


def _merged_at(reduction: Reduction, carry: Any, part: Any, chunk: Any) -> Any:
    size = jax.tree.leaves(part)[0].shape[0]
    start = chunk * size
    own = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, size), carry)
    merged = reduction.merge(own, part)
    return jax.tree.map(lambda a, b: lax.dynamic_update_slice_in_dim(a, b, start, 0), carry, merged)


def _over_chunks(meet: Any, carry: Any, rows: NumberedRows, block_size: int) -> Any:
    """Call ``meet(carry, chunk number, chunk)`` for every chunk of ``rows`` in turn."""
    num_chunks = count_chunks(rows.x.shape[0], block_size)
    size = rows.x.shape[0] // num_chunks

    def one(carry: Any, chunk: Any) -> Any:
        part = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, chunk * size, size), rows)
        return meet(carry, chunk, part), None

    return lax.scan(one, carry, jnp.arange(num_chunks))[0]


def count_chunks(num_rows: int, block_size: int) -> int:
    """Choose the most chunks, up to 64, that are whole blocks and long enough to hide a transfer."""
    num_blocks = num_rows // block_size if num_rows % block_size == 0 else 1
    most = max(min(_MAX_CHUNKS, num_rows // _MIN_CHUNK), 1)
    return next(count for count in range(most, 0, -1) if num_blocks % count == 0)


def _pass_on(tree: Any, num_devices: int, hops: int = 1) -> Any:
    """Send to the device ``hops`` places before, and receive from the one ``hops`` places after."""
    pairs = [(i, (i - hops) % num_devices) for i in range(num_devices)]
    return jax.tree.map(lambda a: lax.ppermute(a, ROWS, pairs), tree)


def _at_hand(columns: NumberedRows) -> NumberedRows:
    """Make a copy of traveling rows to compute with.

    The operand of a transfer is in a TPU's main memory, and the fold would read it from there for
    every tile. Absent rows are zero already; the selection only keeps XLA from seeing a plain copy.
    """
    is_present = (columns.ids >= 0)[:, None]
    return columns._replace(x=jnp.where(is_present, columns.x, 0))


def _picked(found: Points, index: Indices, columns: NumberedRows) -> Points:
    local = index - columns.ids[0]
    is_here = (local >= 0) & (local < columns.x.shape[0])
    return jnp.where(is_here[:, None], columns.x[jnp.where(is_here, local, 0)], found)


def _first_row(x: Points) -> Any:
    return lax.axis_index(ROWS) * x.shape[0]


def _mapped(shard: Any, mesh: Mesh, num_arguments: int) -> Any:
    spec = PartitionSpec(ROWS)
    return jax.shard_map(shard, mesh=mesh, in_specs=(spec,) * num_arguments, out_specs=spec)
