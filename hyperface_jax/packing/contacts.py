"""The last touch of a mini-batch run: one exact sweep, and the closest pairs pushed apart.

Mini-batches see few of the closest pairs, and the max cosine is one of them. A sweep over all pairs
finds every point's nearest other one. The points in closest contact then move away from whatever is
nearer than the closest contact of the points left alone: so few rows against all others cost a small
part of the sweep, and bring down the max cosine to about the chosen level.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from hyperface_jax import sharding, sphere
from hyperface_jax.packing.energies import DEFAULT_SWEEP, Hinge
from hyperface_jax.pairwise import Rows, Sweep, max_cosine
from hyperface_jax.pairwise.parts import Report, sweep_in_parts
from hyperface_jax.sharding import ROWS

if TYPE_CHECKING:
    from hyperface_jax.typing import Indices, Points, Scalar

CONTACT_SHARE = 0.01
"""Of the points, those in closest contact."""
_NUM_ITERATIONS = 3
_ROUNDING = 1e-6
CONTACT_SWEEPS = 1 + (4 * _NUM_ITERATIONS + 7) * CONTACT_SHARE
"""What :func:`relax_contacts` costs, in scores-only sweeps over all pairs."""


def relax_contacts(
    x: Points,
    frozen: Points | None = None,
    *,
    share: float = CONTACT_SHARE,
    num_iterations: int = _NUM_ITERATIONS,
    sweep: Sweep = DEFAULT_SWEEP,
    report: Report | None = None,
) -> tuple[Points, np.ndarray]:
    """Push the closest pairs apart; the max cosine never rises.

    Args:
        x: unit rows, ``[n, d]``; its buffer may be reused.
        frozen: unit rows that do not move, ``[m, d]``.
        share: of the points that move, those in closest contact; 0 only measures.
        num_iterations: moves of each.
        sweep: how pairs are visited.
        report: told how much of the sweep over all pairs is done.

    Returns:
        The points, and the exact cosine of each to its nearest other one, frozen ones included,
        ``[n]``; ``-inf`` for rows of zeros.

    Cost: ``n^2 d`` FLOPs for the sweep, and ``(4 num_iterations + 7) share`` times as many at most.
    """
    own = sweep_in_parts(x, reduction=max_cosine(), sweep=sweep, report=report)
    cosine = sharding.gathered(own)
    if frozen is not None:
        cosine = np.maximum(cosine, sharding.gathered(_to_others(sweep, x, frozen)))
    num_points = int(np.sum(cosine > -np.inf))
    num_rows = max(int(share * num_points), 2) if share else 0
    if not 0 < num_rows < num_points:
        return x, cosine
    order = np.argpartition(-cosine, num_rows)
    moving, level = order[:num_rows], float(cosine[order[num_rows]])
    index = _indices(moving, len(cosine), sweep)
    rows, highest = _pushed(sweep, num_iterations, x, frozen, index, level)
    if not float(highest) < cosine.max():
        return x, cosine
    to_moving = sharding.gathered(_to_others(sweep, x, _rows(sweep, x, index).x))
    is_stale = to_moving > cosine - _ROUNDING
    is_stale[moving] = True
    x = _with_rows(sweep, x, index, rows)
    return x, _measured_again(sweep, x, frozen, rows, cosine, np.flatnonzero(is_stale))


def _indices(index: np.ndarray, num_points: int, sweep: Sweep) -> Indices:
    """Put row indices on the devices, filled up with one that is none."""
    size = len(index)
    if sweep.mesh is not None:
        size = sharding.padded_size(size, sweep.mesh.size)
    padded = np.full(size, num_points, np.int32)
    padded[: len(index)] = index
    return jnp.asarray(padded) if sweep.mesh is None else sharding.shard_rows(padded, sweep.mesh)


def _rows(sweep: Sweep, x: Points, index: Indices) -> Rows:
    rows = sweep.take(x, index)
    return Rows(rows, jnp.where(sphere.is_point(rows), index, -1))


@partial(jax.jit, static_argnums=0)
def _to_others(sweep: Sweep, x: Points, others: Points) -> Any:
    return sweep(x, others, reduction=max_cosine())


@partial(jax.jit, static_argnums=(0, 1))
def _pushed(
    sweep: Sweep,
    num_iterations: int,
    x: Points,
    frozen: Points | None,
    index: Indices,
    level: Any,
) -> tuple[Points, Scalar]:
    """Push rows away from all that is nearer than ``level``; return the best and their max cosine.

    A push by the excess of a cosine takes it to the level if the other point stays, and as far below
    it if that one is pushed as well.
    """
    excess = Hinge(level).reduction(step=0, shift=None, precision=sweep.precision)

    def evaluate(rows: Rows) -> tuple[Points, Scalar]:
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
        return (Rows(moved, rows.ids), best, jnp.minimum(lowest, highest)), None

    start = _rows(sweep, x, index)
    state = start, start.x, jnp.asarray(jnp.inf, x.dtype)
    (rows, best, lowest), _ = lax.scan(push, state, length=num_iterations)
    highest = evaluate(rows)[1]
    return jnp.where(highest < lowest, rows.x, best), jnp.minimum(lowest, highest)


@partial(jax.jit, static_argnums=0)
def _with_rows(sweep: Sweep, x: Points, index: Indices, rows: Points) -> Points:
    """Overwrite rows of ``x``; an index beyond the last is dropped."""
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
    frozen: Points | None,
    moved: Points,
    cosine: np.ndarray,
    stale: np.ndarray,
) -> np.ndarray:
    """Bring the nearest cosines up to date: of rows that have moved, or whose nearest one has."""
    to_moved = sharding.gathered(_to_others(sweep, x, moved))
    fresh = _of_rows(sweep, x, frozen, _indices(stale, len(cosine), sweep))
    result = np.maximum(cosine, to_moved)
    result[stale] = sharding.gathered(fresh)[: len(stale)]
    return result


@partial(jax.jit, static_argnums=0)
def _of_rows(sweep: Sweep, x: Points, frozen: Points | None, index: Indices) -> Any:
    rows = _rows(sweep, x, index)
    own = sweep.among(rows, x, reduction=max_cosine())
    if frozen is None:
        return own
    return jnp.maximum(own, sweep(rows.x, frozen, reduction=max_cosine()))
