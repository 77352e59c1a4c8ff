"""What holds a packing to the face manifold and away from given people."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from hyperface_jax import sphere
from hyperface_jax.packing.energies import DEFAULT_SWEEP, Hinge
from hyperface_jax.packing.manifolds import NEAREST_ROW, Manifold
from hyperface_jax.pairwise import Nearest, Sweep, k_nearest, nearest
from hyperface_jax.typing import Array, Gallery, Int, PerRow, Points, Scalar

_KEEP_OUT_WEIGHT = 200.0
_KEEP_OUT_MARGIN = 0.01
_REPAIR_MARGIN = 1e-5


class Pull(NamedTuple):
    """A regulariser, its force and what its sweep found."""

    value: Scalar
    force: Points
    cosine: PerRow
    """Cosine of every point to the reference row (or foot) taken as nearest, ``[n]``."""


def gallery_pull(
    x: Points,
    gallery: Gallery,
    *,
    manifold: Manifold = NEAREST_ROW,
    index: Any = None,
    sweep: Sweep = DEFAULT_SWEEP,
) -> Pull:
    """Mean cosine distance of the points to the face manifold.

    ``(1/n) sum_k min_g (1 - <x_k, g>)``, the regulariser of HyperFace (equation of Algorithm 1), where
    the nearest gallery row alone stands for the manifold.

    Args:
        x: unit rows, ``[n, d]``.
        gallery: unit rows, ``[m, d]``, of any size: the sweep is blockwise.
        manifold: what the rows say of it.
        index: rows of the gallery to take as nearest, ``[n, k]``, instead of a search (solvers refresh
            them now and then).
        sweep: how pairs are visited.

    Cost: ``2 n m d`` FLOPs, or O(n k d) with ``index``, and that of the manifold's foot.
    """
    if index is None:
        index = nearest_rows(x, gallery, manifold.num_neighbors, sweep=sweep)
    rows = sweep.take(gallery, index.reshape(-1)).reshape(*index.shape, x.shape[1])
    target = jnp.where(sphere.is_point(x)[:, None], manifold.foot(x, rows), 0)
    cosine = sphere.inner(x, target)[:, 0]
    num_points = sphere.count_points(x)
    return Pull(1 - jnp.sum(cosine) / num_points, -target / num_points, cosine)


def nearest_rows(
    x: Points, gallery: Gallery, num_neighbors: int, *, sweep: Sweep = DEFAULT_SWEEP
) -> Int[Array, "n k"]:
    """Find the gallery rows nearest to each point, the nearest first.

    Cost: ``2 n m d`` FLOPs, and a partial sort for more than one.
    """
    if num_neighbors == 1:
        return sweep(x, gallery, reduction=nearest()).column[:, None]
    return sweep(x, gallery, reduction=k_nearest(num_neighbors)).column


def keep_out_push(
    x: Points, keep_out: Gallery, keep_out_cosine: Any, *, sweep: Sweep = DEFAULT_SWEEP
) -> Pull:
    """Mean squared excess of each point over the keep-out cosine, summed over the keep-out rows.

    The hinge starts 0.01 before the limit, so that points come to rest inside it.

    Args:
        x: unit rows, ``[n, d]``.
        keep_out: unit rows that no point may approach, ``[m, d]``.
        keep_out_cosine: the limit.
        sweep: how pairs are visited.

    Cost: ``4 n m d`` FLOPs.
    """
    hinge = Hinge(keep_out_cosine - _KEEP_OUT_MARGIN)
    sums = hinge.sums(x, keep_out, step=0, shift=None, sweep=sweep)
    weight = _KEEP_OUT_WEIGHT / sphere.count_points(x)
    return Pull(weight * jnp.sum(sums.value), weight * sums.force, sums.max_cosine)


def repair_keep_out(
    x: Points,
    keep_out: Gallery,
    keep_out_cosine: Any,
    *,
    max_iterations: int = 200,
    sweep: Sweep = DEFAULT_SWEEP,
) -> Points:
    """Rotate every point that violates the keep-out limit away from its nearest keep-out row.

    Cyclic projection: each violating point moves along the great circle away from the row that it
    violates most, exactly onto the limit (1e-5 inside it), until no point violates or the iterations
    are used up; where the caps leave no room, violations remain and the caller must count them.

    Args:
        x: unit rows, ``[n, d]``.
        keep_out: unit rows, ``[m, d]``.
        keep_out_cosine: the limit.
        max_iterations: sweeps at most.
        sweep: how pairs are visited.

    Returns:
        Repaired unit rows; rows without a violation are unchanged. Cost: ``2 n m d`` FLOPs an
        iteration.
    """
    limit = keep_out_cosine - _REPAIR_MARGIN

    def violated(found: Nearest):
        return found.cosine > keep_out_cosine

    def search(x):
        return sweep(x, keep_out, reduction=nearest())

    def go_on(carry):
        iteration, _, found = carry
        return (iteration < max_iterations) & jnp.any(violated(found))

    def move(carry):
        iteration, x, found = carry
        row = sweep.take(keep_out, found.column)
        moved = sphere.normalize(limit * row + jnp.sqrt(1 - limit**2) * _direction(row, x))
        x = jnp.where(violated(found)[:, None], moved, x)
        return iteration + 1, x, search(x)

    return lax.while_loop(go_on, move, (0, x, search(x)))[1]


def _direction(row: Points, x: Points) -> Points:
    """Return the tangents at ``row`` towards ``x``, and any tangents where the two are one point."""
    towards = sphere.project(row, x)
    smallest = jnp.argmin(jnp.abs(row), axis=1, keepdims=True)
    axis = (jnp.arange(row.shape[1])[None] == smallest).astype(row.dtype)
    is_apart = jnp.linalg.norm(towards, axis=1, keepdims=True) > 8 * jnp.finfo(row.dtype).eps
    return sphere.normalize(jnp.where(is_apart, towards, sphere.project(row, axis)))
