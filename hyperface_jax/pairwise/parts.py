"""Sweeps of a set with itself in parts, so that long ones can report progress."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from hyperface_jax.pairwise.api import Sweep
from hyperface_jax.pairwise.blockwise import Folds
from hyperface_jax.pairwise.reductions import Reduction, empty
from hyperface_jax.pairwise.rows import numbered
from hyperface_jax.typing import Points, Update

_FLOPS_OF_A_PART = 2e12


def sweep_in_parts(
    x: Points, *, reduction: Reduction, sweep: Sweep, progress: Update | None = None
) -> Any:
    """Reduce the cosines of all pairs of a set to one statistic per row, and report progress.

    On one device, several calls of one compiled program visit the blocks of rows; each call takes a
    few seconds on a CPU. Over a mesh, and in a kernel, there is a single call.

    Args:
        x: unit rows, ``[n, d]``.
        reduction: the statistic to compute.
        sweep: how pairs are visited.
        progress: called after every part with the share done, 0 to 1.

    Returns:
        The same as ``sweep(x, reduction=reduction)``.
    """
    parts = num_parts(x)
    folds = sweep.folds(reduction, x)
    if parts == 1 or folds is None:
        result = _at_once(sweep, reduction, x)
        if progress:
            progress(1.0)
        return result
    carry = _empty(reduction, x)
    for first, stop, share in _parts(-(-x.shape[0] // folds.block_size), parts):
        carry = jax.block_until_ready(_within(folds, carry, x, first, stop))
        if progress:
            progress(share)
    return reduction.finalize(carry)


def num_parts(x: Points) -> int:
    """Return the number of parts into which a sweep of a set is split."""
    return int(x.shape[0] ** 2 * x.shape[1] / _FLOPS_OF_A_PART) + 1


@partial(jax.jit, static_argnums=(0, 1))
def _at_once(sweep: Sweep, reduction: Reduction, x: Points) -> Any:
    return sweep(x, reduction=reduction)


_empty = partial(jax.jit, static_argnums=0)(empty)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _within(folds: Folds, carry: Any, x: Points, first: Any, stop: Any) -> Any:
    return folds.within(carry, numbered(x), first, stop)


def _parts(num_blocks: int, num_parts: int) -> list[tuple[int, int, float]]:
    """Split the blocks of rows into parts with about equally many tiles above the diagonal."""
    shares = [part / num_parts for part in range(num_parts + 1)]
    cuts = [round(num_blocks * (1 - (1 - share) ** 0.5)) for share in shares]
    return list(zip(cuts, cuts[1:], shares[1:], strict=False))
