"""The exact figures of a packing, row by row, from which summaries and reports are made."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from scipy.special import betaincinv

from hyperface_jax.packing.constraints import gallery_pull
from hyperface_jax.packing.energies import DEFAULT_SWEEP, row_max
from hyperface_jax.packing.manifolds import Manifold
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.pairwise import Sweep, first_rows, k_nearest, max_cosine
from hyperface_jax.typing import Gallery, PerRow, Points


class PackingFigures(NamedTuple):
    """Cosines of the free points of a packing, or of a sample of them, in float32."""

    nearest: PerRow
    """Cosine of each point to its nearest other point, frozen ones included, ``[n]``."""
    gallery: PerRow | None
    """Cosine of each point to its nearest gallery row, ``[n]``, whatever the problem's manifold is."""
    keep_out: PerRow | None
    """Cosine of each point to its nearest keep-out row, ``[n]``."""


@partial(jax.jit, static_argnames=("sweep", "num_rows", "num_parts"))
def measure(
    problem: PackingProblem,
    x: Points,
    *,
    sweep: Sweep = DEFAULT_SWEEP,
    num_rows: int | None = None,
    num_parts: int = 1,
) -> PackingFigures:
    """Measure a packing in full precision, by one scores-only sweep over each set.

    Args:
        problem: the problem, with its gallery, keep-out set and frozen points.
        x: free points, ``[n, d]`` unit rows; rows of zeros get ``-inf``.
        sweep: how pairs are visited.
        num_rows: approximate number of rows to measure, each against all rows; None measures all.
        num_parts: number of parts of ``x``; the measured rows are the first ones of each part.

    Cost: ``n (n + 2 f + 2 m + 2 k) d`` FLOPs, or ``2 r (n + f + m + k) d`` for r rows.
    """
    if num_rows is None:
        chosen, nearest = x, row_max(x, problem.frozen, sweep=sweep)
    else:
        rows = first_rows(x, num_rows, num_parts)
        chosen, nearest = rows.x, sweep.among(rows, x, reduction=max_cosine())
        if problem.frozen is not None:
            frozen = sweep(chosen, problem.frozen, reduction=max_cosine())
            nearest = jnp.maximum(nearest, frozen)

    return PackingFigures(nearest, *measure_sets(problem, chosen, sweep=sweep))


@partial(jax.jit, static_argnames="sweep")
def measure_sets(
    problem: PackingProblem, x: Points, *, sweep: Sweep = DEFAULT_SWEEP
) -> tuple[PerRow | None, PerRow | None]:
    """Find the cosine of every row to its nearest gallery row and to its nearest keep-out row."""

    def against(others: Points | None) -> PerRow | None:
        return None if others is None else sweep(x, others, reduction=max_cosine())

    return against(problem.gallery), against(problem.keep_out)


@partial(jax.jit, static_argnames=("manifold", "sweep"))
def nearness(
    x: Points, gallery: Gallery, *, manifold: Manifold, sweep: Sweep = DEFAULT_SWEEP
) -> PerRow:
    """Measure how near points are to the manifold that a gallery describes.

    Args:
        x: unit rows, ``[n, d]``.
        gallery: unit rows, ``[m, d]``.
        manifold: how the gallery describes it.
        sweep: how pairs are visited.

    Returns:
        The cosine of each point to its foot on the manifold, ``[n]``. Cost: ``2 n m d`` FLOPs.
    """
    return gallery_pull(x, gallery, manifold=manifold, sweep=sweep).cosine


@partial(jax.jit, static_argnames=("manifold", "num_rows", "sweep"))
def nearness_among(
    gallery: Gallery,
    *,
    manifold: Manifold,
    num_rows: int | None = None,
    sweep: Sweep = DEFAULT_SWEEP,
) -> PerRow:
    """Measure how near rows of a gallery are to the manifold that all its other rows describe.

    It is what :func:`nearness` would be of further faces of the same kind: each row is left out in turn.
    A row that is in the gallery twice has a cosine of 1.

    Args:
        gallery: unit rows, ``[m, d]``; more of them than neighbors of the manifold.
        manifold: how the gallery describes it.
        num_rows: number of rows to measure, the first ones; None measures all.
        sweep: how pairs are visited.

    Returns:
        Cosines, ``[r]``. Cost: ``2 r m d`` FLOPs.
    """
    rows = first_rows(gallery, num_rows or gallery.shape[0], 1)
    found = sweep.among(rows, gallery, reduction=k_nearest(manifold.num_neighbors)).column
    return gallery_pull(rows.x, gallery, manifold=manifold, index=found, sweep=sweep).cosine


def count_violations(problem: PackingProblem, figures: PackingFigures) -> int | None:
    """Count the points that violate the keep-out limit; return None without a keep-out set."""
    if figures.keep_out is None or problem.keep_out_cosine is None:
        return None
    return int(jnp.sum(figures.keep_out > problem.keep_out_cosine))


def random_max_cosine(num_points: int, dim: int) -> float:
    """Return the median max cosine of points drawn uniformly on the sphere.

    It is what no packing should be above. Pairs are treated as if they were independent: the median is
    where a pair is above with the probability ``p = 1 - 2^(-1/m)`` for ``m`` pairs. The cosine of a pair
    is above ``t`` with the probability ``I(1 - t^2; (d-1)/2, 1/2) / 2``, where ``I`` is the regularized
    incomplete beta function.

    Args:
        num_points: number of points, at least 2.
        dim: dimension of the space that contains the sphere, at least 2.

    Examples:
        >>> round(random_max_cosine(2, 3), 6), round(random_max_cosine(10_000, 512), 3)
        (0.0, 0.242)
    """
    num_pairs = num_points * (num_points - 1) / 2
    p = -math.expm1(-math.log(2) / num_pairs)
    return math.sqrt(max(0.0, 1 - float(betaincinv((dim - 1) / 2, 0.5, 2 * p))))
