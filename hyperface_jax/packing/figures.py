"""The exact figures of a packing, row by row: what summaries and reports are made of."""

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
    """To the nearest other point, frozen ones included, ``[n]``."""
    gallery: PerRow | None
    """To the nearest gallery row, ``[n]``, whatever manifold the problem has."""
    keep_out: PerRow | None
    """To the nearest keep-out row, ``[n]``."""


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
        problem: gallery, keep-out set and frozen points.
        x: free points, ``[n, d]`` unit rows; rows of zeros get ``-inf``.
        sweep: how pairs are visited.
        num_rows: measure about so many rows, each against all; None measures all.
        num_parts: parts of ``x`` from whose beginnings the rows are taken.

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
    """Find the cosine of every row to its nearest gallery row and its nearest keep-out row."""

    def against(others: Points | None) -> PerRow | None:
        return None if others is None else sweep(x, others, reduction=max_cosine())

    return against(problem.gallery), against(problem.keep_out)


def count_violations(problem: PackingProblem, figures: PackingFigures) -> int | None:
    """Count the points inside the keep-out limit; None without a keep-out set."""
    if figures.keep_out is None or problem.keep_out_cosine is None:
        return None
    return int(jnp.sum(figures.keep_out > problem.keep_out_cosine))
