"""The exact figures of a packing, row by row, from which summaries and reports are made."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hyperface_jax.packing.energies import DEFAULT_SWEEP, row_max
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.pairwise import Sweep, first_rows, max_cosine
from hyperface_jax.typing import PerRow, Points


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


def count_violations(problem: PackingProblem, figures: PackingFigures) -> int | None:
    """Count the points that violate the keep-out limit; return None without a keep-out set."""
    if figures.keep_out is None or problem.keep_out_cosine is None:
        return None
    return int(jnp.sum(figures.keep_out > problem.keep_out_cosine))
