"""The end of a mini-batch run: one exact sweep, after which the closest pairs are pushed apart.

Mini-batches see few of the closest pairs, one of which determines the max cosine. A sweep over all
pairs finds the nearest other point of every point. The points in closest contact then move away from
everything that is nearer than the closest contact among the remaining points. Only a few rows are
compared with all others, so this costs a small part of a full sweep, and it lowers the max cosine to
about the closest contact among the remaining points.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from hyperface_jax import meshes, sphere
from hyperface_jax.meshes import ROWS
from hyperface_jax.packing.energies import DEFAULT_SWEEP, Hinge
from hyperface_jax.pairwise import NumberedRows, Sweep, max_cosine
from hyperface_jax.typing import Frozen, Indices, Mask, PerRow, Points, Scalar

CONTACT_SHARE = 0.01
"""Share of the points that counts as being in closest contact."""
_NUM_MOVES = 3
_ROUNDING = 1e-6
CONTACT_SWEEPS = 1 + (4 * _NUM_MOVES + 7) * CONTACT_SHARE
"""Cost of finding and relaxing contacts, in scores-only sweeps over all pairs."""


def relax_contacts(
    x: Points,
    nearest: PerRow,
    frozen: Frozen | None = None,
    *,
    share: float = CONTACT_SHARE,
    num_moves: int = _NUM_MOVES,
    num_points: int | None = None,
    sweep: Sweep = DEFAULT_SWEEP,
) -> tuple[Points, PerRow]:
    """Push the closest pairs apart, without ever raising the max cosine. This can be traced.

    Args:
        x: unit rows, ``[n, d]``; rows of zeros are padding.
        nearest: exact cosine of each point to its nearest other point, frozen ones included, ``[n]``.
        frozen: unit rows that do not move, ``[m, d]``.
        share: share of the points that move: those in closest contact.
        num_moves: number of moves of each of these points.
        num_points: number of rows that are points; None means all of them.
        sweep: how pairs are visited.

    Returns:
        The points, and the updated exact ``nearest``.

    Cost: ``(4 num_moves + 7) share`` sweeps over all pairs in most cases.
    """
    num_points = x.shape[0] if num_points is None else num_points
    num_rows = max(int(share * num_points), 2)
    if num_rows >= num_points:
        return x, nearest
    values, order = lax.top_k(_whole(nearest, sweep), num_rows + 1)
    index = _padded(order[:num_rows].astype(jnp.int32), x.shape[0], sweep)
    rows, highest = _pushed(sweep, num_moves, x, frozen, index, values[num_rows])

    def accept() -> tuple[Points, PerRow]:
        to_moving = _to_others(sweep, x, _rows(sweep, x, index).x)
        is_stale = to_moving > nearest - _ROUNDING
        is_stale = is_stale.at[index].set(True, mode="drop")
        moved = _with_rows(sweep, x, index, rows)
        return moved, _measured_again(sweep, moved, frozen, rows, nearest, is_stale, index.shape[0])

    return lax.cond(highest < values[0], accept, lambda: (x, nearest))


def _whole(values: PerRow, sweep: Sweep) -> PerRow:
    """Replicate one number per row on every device; a sort of sharded values would do so anyway."""
    if sweep.mesh is None:
        return values
    return lax.with_sharding_constraint(values, meshes.replicated(sweep.mesh))


def _padded(index: Indices, num_points: int, sweep: Sweep) -> Indices:
    """Split row indices over the devices, padded with an index that is out of range."""
    if sweep.mesh is None:
        return index
    size = meshes.padded_size(index.shape[0], sweep.mesh.size)
    index = jnp.pad(index, (0, size - index.shape[0]), constant_values=num_points)
    return lax.with_sharding_constraint(index, meshes.rows(sweep.mesh))


def _rows(sweep: Sweep, x: Points, index: Indices) -> NumberedRows:
    rows = sweep.take(x, index)
    return NumberedRows(rows, jnp.where(sphere.is_point(rows), index, -1))


def _to_others(sweep: Sweep, x: Points, others: Points) -> PerRow:
    return sweep(x, others, reduction=max_cosine())


def _pushed(
    sweep: Sweep,
    num_moves: int,
    x: Points,
    frozen: Frozen | None,
    index: Indices,
    level: Any,
) -> tuple[Points, Scalar]:
    """Push rows away from all points nearer than ``level``; return the best rows and their max cosine.

    Pushing one point by the excess of a cosine brings that cosine down to the level. If the other
    point is pushed as well, the cosine ends as far below the level as it was above.
    """
    excess = Hinge(level).reduction(step=0, shift=None, precision=sweep.precision)

    def evaluate(rows: NumberedRows) -> tuple[Points, Scalar]:
        others = _with_rows(sweep, x, index, rows.x)
        sums = sweep.among(rows, others, reduction=excess)
        force, highest = sums.force, sums.max_cosine
        if frozen is not None:
            more = sweep(rows.x, frozen, reduction=excess)
            force, highest = force + more.force, jnp.maximum(highest, more.max_cosine)
        return force, jnp.max(highest)

    def push(state: Any, _: Any) -> Any:
        rows, best, lowest = state
        force, highest = evaluate(rows)
        best = jnp.where(highest < lowest, rows.x, best)
        moved = sphere.retract(rows.x, -sphere.project(rows.x, force / 2))
        moved = jnp.where(sphere.is_point(rows.x)[:, None], moved, 0)
        return (NumberedRows(moved, rows.ids), best, jnp.minimum(lowest, highest)), None

    start = _rows(sweep, x, index)
    state = start, start.x, jnp.asarray(jnp.inf, x.dtype)
    (rows, best, lowest), _ = lax.scan(push, state, length=num_moves)
    highest = evaluate(rows)[1]
    return jnp.where(highest < lowest, rows.x, best), jnp.minimum(lowest, highest)


def _with_rows(sweep: Sweep, x: Points, index: Indices, rows: Points) -> Points:
    """Overwrite rows of ``x``; indices beyond the last row are dropped."""
    if sweep.mesh is None:
        return x.at[index].set(rows, mode="drop")

    def local(x: Points, index: Indices, rows: Points) -> Points:
        place = index - lax.axis_index(ROWS) * x.shape[0]
        place = jnp.where(place < 0, x.shape[0], place)
        return x.at[place].set(rows, mode="drop")

    own, whole = PartitionSpec(ROWS), PartitionSpec()
    put = jax.shard_map(local, mesh=sweep.mesh, in_specs=(own, whole, whole), out_specs=own)
    return put(x, index, rows)


def _measured_again(
    sweep: Sweep,
    x: Points,
    frozen: Frozen | None,
    moved: Points,
    nearest: PerRow,
    is_stale: Mask,
    block: int,
) -> PerRow:
    """Update the nearest cosines of rows that moved, or that had a moved row as their nearest one."""
    is_stale = _whole(is_stale, sweep)
    stale_first = jnp.argsort(~is_stale).astype(jnp.int32)
    num_stale = jnp.sum(is_stale, dtype=jnp.int32)
    place = jnp.arange(block, dtype=jnp.int32)

    def measure(state: Any) -> Any:
        first, values = state
        at = first + place
        row = stale_first[jnp.minimum(at, x.shape[0] - 1)]
        index = jnp.where(at < num_stale, row, x.shape[0])
        index = _padded(index, x.shape[0], sweep) if sweep.mesh is not None else index
        fresh = _whole(_of_rows(sweep, x, frozen, index), sweep)
        return first + block, values.at[index].set(fresh[: index.shape[0]], mode="drop")

    values = _whole(jnp.maximum(nearest, _to_others(sweep, x, moved)), sweep)
    first = jnp.zeros((), jnp.int32)
    return lax.while_loop(lambda s: s[0] < num_stale, measure, (first, values))[1]


def _of_rows(sweep: Sweep, x: Points, frozen: Frozen | None, index: Indices) -> PerRow:
    rows = _rows(sweep, x, index)
    own = sweep.among(rows, x, reduction=max_cosine())
    if frozen is None:
        return own
    return jnp.maximum(own, sweep(rows.x, frozen, reduction=max_cosine()))
