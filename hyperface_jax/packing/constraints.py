"""Terms and repairs that keep a packing near the face manifold and away from given people."""

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
    """A regularizer, its force and the cosines that its sweep found."""

    value: Scalar
    force: Points
    cosine: PerRow
    """Cosine of every point to the row (or foot) that is taken as nearest, ``[n]``."""


def gallery_pull(
    x: Points,
    gallery: Gallery,
    *,
    manifold: Manifold = NEAREST_ROW,
    index: Any = None,
    sweep: Sweep = DEFAULT_SWEEP,
) -> Pull:
    """Compute the mean cosine distance of the points to the face manifold.

    If the nearest gallery row alone represents the manifold, this is
    ``(1/n) sum_k min_g (1 - <x_k, g>)``, the regularizer of HyperFace (equation of Algorithm 1).

    Args:
        x: unit rows, ``[n, d]``.
        gallery: unit rows, ``[m, d]``, of any number, because the sweep is blockwise.
        manifold: how the gallery rows represent the manifold.
        index: gallery rows to take as nearest, ``[n, k]``, instead of a search (solvers refresh
            them now and then).
        sweep: how pairs are visited.

    Cost: ``2 n m d`` FLOPs, or O(n k d) with ``index``, plus the cost of the manifold's foot.
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

    Cost: ``2 n m d`` FLOPs, plus a partial sort if there is more than one neighbor.
    """
    if num_neighbors == 1:
        return sweep(x, gallery, reduction=nearest()).column[:, None]
    return sweep(x, gallery, reduction=k_nearest(num_neighbors)).column


def keep_out_push(
    x: Points, keep_out: Gallery, keep_out_cosine: Any, *, sweep: Sweep = DEFAULT_SWEEP
) -> Pull:
    """Compute the squared excess over the keep-out cosine, summed over keep-out rows, mean over points.

    The hinge starts at a cosine 0.01 below the limit, so that points come to rest within it.

    Args:
        x: unit rows, ``[n, d]``.
        keep_out: unit rows that no point may come near, ``[m, d]``.
        keep_out_cosine: largest allowed cosine to a keep-out row.
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

    This is a cyclic projection. Each violating point moves along the great circle away from the row
    that it violates most, onto the limit (to within 1e-5 on the allowed side). This repeats until no
    point violates the limit or the iterations are used up. If the caps leave no room, violations
    remain, and the caller must count them.

    Args:
        x: unit rows, ``[n, d]``.
        keep_out: unit rows, ``[m, d]``.
        keep_out_cosine: largest allowed cosine to a keep-out row.
        max_iterations: largest number of sweeps.
        sweep: how pairs are visited.

    Returns:
        Repaired unit rows; rows without a violation are unchanged. Cost: ``2 n m d`` FLOPs per
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
    """Return the tangents at ``row`` toward ``x``, or arbitrary ones where the two coincide."""
    towards = sphere.project(row, x)
    smallest = jnp.argmin(jnp.abs(row), axis=1, keepdims=True)
    axis = (jnp.arange(row.shape[1])[None] == smallest).astype(row.dtype)
    is_apart = jnp.linalg.norm(towards, axis=1, keepdims=True) > 8 * jnp.finfo(row.dtype).eps
    return sphere.normalize(jnp.where(is_apart, towards, sphere.project(row, axis)))
