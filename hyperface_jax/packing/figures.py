"""The exact figures of a packing, row by row: what summaries and reports are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from hyperface_jax.packing.energies import row_max
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.pairwise import max_cosine, sweep

if TYPE_CHECKING:
    from hyperface_jax.typing import Points, Rows


class PackingFigures(NamedTuple):
    """Cosines of every free point of a packing, in float32."""

    nearest: Rows
    """To the nearest other point, frozen ones included, ``[n]``."""
    gallery: Rows | None
    """To the nearest gallery row, ``[n]``."""
    keep_out: Rows | None
    """To the nearest keep-out row, ``[n]``."""


@jax.jit
def measure(problem: PackingProblem, x: Points) -> PackingFigures:
    """Measure a packing exactly, by one scores-only sweep over each set.

    Args:
        problem: gallery, keep-out set and frozen points.
        x: free points, ``[n, d]`` unit rows.

    Cost: ``n (n + 2 f + 2 m + 2 k) d`` FLOPs.
    """

    def against(rows):
        return None if rows is None else sweep(x, rows, reduction=max_cosine())

    nearest = row_max(x, problem.frozen)
    return PackingFigures(nearest, against(problem.gallery), against(problem.keep_out))


def count_violations(problem: PackingProblem, figures: PackingFigures) -> int | None:
    """Count the points inside the keep-out limit; None without a keep-out set."""
    if figures.keep_out is None or problem.keep_out_cosine is None:
        return None
    return int(jnp.sum(figures.keep_out > problem.keep_out_cosine))
