"""*What* is reduced over pairs: the statistics that a sweep computes for every row.

A sweep (see :mod:`.blockwise`) visits tiles of the score matrix ``S[i, j] = <x_i, y_j>`` and passes
each one to a :class:`Reduction`. ``tile`` is an elementwise map of the scores. It is computed once per
tile and used for the rows of the tile and, by symmetry, for its columns. ``update`` folds the tile into
the accumulator of a block of rows, and ``merge`` combines two accumulators of the same rows. Masked
entries (the diagonal, and rows of zeros, which are padding) arrive as ``-inf``.

To add a statistic, write a function in this file that returns a :class:`Reduction`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hyperface_jax.pairwise.precision import Precision, weighted_sum, weighted_sum_of_columns
from hyperface_jax.typing import Array, Float, Indices, Int, PerRow, Points

_NO_INDEX = 2**31 - 1
"""Column index that stands for no column."""


class Reduction(NamedTuple):
    """A row statistic, defined by five functions.

    Attributes:
        init: ``(num_rows, dim, dtype) -> carry``, the empty accumulator of a block of rows.
        tile: ``scores [b, c] -> tuple of [b, c] arrays``, elementwise.
        update: ``(carry, tile, y [c, d], column [c]) -> carry``; ``column`` holds column indices.
        merge: ``(carry, carry) -> carry``, for the same rows over two disjoint sets of columns.
        finalize: ``carry -> result``, applied to the accumulators of all rows at once.
        in_kernel: whether the GPU kernel can compute it; Triton cannot sort.
        fold_columns: ``(carry, tile, x [b, d], row [b]) -> carry``, as ``update`` for the columns of the
            tile, if there is a faster way than ``update`` of the transposed tile.
    """

    init: Callable[..., Any]
    tile: Callable[[Any], tuple[Any, ...]]
    update: Callable[..., Any]
    merge: Callable[[Any, Any], Any]
    finalize: Callable[[Any], Any]
    in_kernel: bool = True
    fold_columns: Callable[..., Any] | None = None

    def update_columns(self, carry: Any, tile: Any, x: Any, row: Any) -> Any:
        """Fold the tile into the accumulator of its columns."""
        if self.fold_columns is not None:
            return self.fold_columns(carry, tile, x, row)
        return self.update(carry, jax.tree.map(jnp.transpose, tile), x, row)


class PairSum(NamedTuple):
    """Row sums of a pair function and of its force, and the exact row maxima."""

    value: PerRow
    """``sum_j phi(s_ij)``, shape ``[n]``."""
    force: Points
    """``sum_j phi'(s_ij) y_j``, shape ``[n, d]``."""
    max_cosine: PerRow
    """``max_j s_ij``, shape ``[n]``."""


class Nearest(NamedTuple):
    """The nearest column of every row."""

    cosine: PerRow
    """``max_j s_ij``, shape ``[n]``; ``-inf`` where a row has no column."""
    column: Indices
    """The smallest ``j`` that attains this cosine, shape ``[n]``."""


class Neighbors(NamedTuple):
    """The k nearest columns of every row, the nearest first."""

    cosine: Float[Array, "n k"]
    """The cosines, shape ``[n, k]``; ``-inf`` where a row has fewer columns."""
    column: Int[Array, "n k"]
    """Their columns, shape ``[n, k]``; columns with equal cosines are in increasing order."""


def pair_sum(
    pair: Callable[[Any], tuple[Any, Any]], *, precision: Precision = "float32"
) -> Reduction:
    """Sum a pair function and its force over the columns.

    Args:
        pair: an elementwise function ``scores -> (phi, phi')``. It must give ``(0, 0)`` at ``-inf``.
        precision: precision of the products that sum the force.

    Returns:
        A reduction that results in a :class:`PairSum`. Cost: ``4 n m d`` FLOPs, or ``3 n^2 d`` for a
        symmetric sweep.
    """

    def init(num_rows: int, dim: int, dtype):
        zeros = jnp.zeros((num_rows,), dtype)
        return PairSum(zeros, jnp.zeros((num_rows, dim), dtype), zeros - jnp.inf)

    def tile(scores):
        return (*pair(scores), scores)

    def folded(carry: PairSum, tile, axis: int, force):
        phi, _, scores = tile
        return merge(carry, PairSum(jnp.sum(phi, axis=axis), force, jnp.max(scores, axis=axis)))

    def update(carry: PairSum, tile, y, column):
        del column
        return folded(carry, tile, 1, weighted_sum(tile[1], y, precision))

    def fold_columns(carry: PairSum, tile, x, row):
        del row
        return folded(carry, tile, 0, weighted_sum_of_columns(tile[1], x, precision))

    def merge(a: PairSum, b: PairSum):
        return PairSum(
            a.value + b.value, a.force + b.force, jnp.maximum(a.max_cosine, b.max_cosine)
        )

    return Reduction(init, tile, update, merge, lambda carry: carry, fold_columns=fold_columns)


@cache  # Compiled programs are found again by the identity of their reduction.
def nearest() -> Reduction:
    """Find the largest cosine of every row and the column that attains it.

    Returns:
        A reduction that results in a :class:`Nearest`. Cost: ``2 n m d`` FLOPs, or half of that for a
        symmetric sweep.
    """

    def init(num_rows: int, dim: int, dtype):
        del dim
        empty = jnp.full((num_rows,), -jnp.inf, dtype)
        return Nearest(empty, jnp.full((num_rows,), _NO_INDEX, jnp.int32))

    def update(carry: Nearest, tile, y, column):
        del y
        (scores,) = tile
        cosine = jnp.max(scores, axis=1)
        # XLA's argmax does not vectorize on CPU; a comparison with the maximum does.
        attained = jnp.where(scores == cosine[:, None], column[None, :], jnp.int32(_NO_INDEX))
        index = jnp.where(cosine > -jnp.inf, jnp.min(attained, axis=1), _NO_INDEX)
        return merge(carry, Nearest(cosine, index))

    def merge(a: Nearest, b: Nearest):
        better = (b.cosine > a.cosine) | ((b.cosine == a.cosine) & (b.column < a.column))
        return Nearest(jnp.where(better, b.cosine, a.cosine), jnp.where(better, b.column, a.column))

    return Reduction(init, lambda scores: (scores,), update, merge, lambda carry: carry)


@cache
def k_nearest(num_neighbors: int) -> Reduction:
    """Find the ``k`` largest cosines of every row and their columns.

    Returns:
        A reduction that results in :class:`Neighbors`, the same on any mesh. Cost: ``2 n m d``
        FLOPs and a partial sort of every tile.
    """

    def init(num_rows: int, dim: int, dtype):
        del dim
        shape = num_rows, num_neighbors
        return Neighbors(jnp.full(shape, -jnp.inf, dtype), jnp.full(shape, _NO_INDEX, jnp.int32))

    def update(carry: Neighbors, tile, y, column):
        del y
        (scores,) = tile
        cosine, place = lax.top_k(scores, min(num_neighbors, scores.shape[1]))
        found = jnp.where(cosine > -jnp.inf, column[place], _NO_INDEX)
        return merge(carry, Neighbors(cosine, found))

    def merge(a: Neighbors, b: Neighbors):
        distance = -jnp.concatenate([a.cosine, b.cosine], axis=1)
        column = jnp.concatenate([a.column, b.column], axis=1)
        distance, column = lax.sort((distance, column), dimension=1, num_keys=2)
        return Neighbors(-distance[:, :num_neighbors], column[:, :num_neighbors])

    return Reduction(
        init, lambda scores: (scores,), update, merge, lambda carry: carry, in_kernel=False
    )


@cache
def max_cosine() -> Reduction:
    """Find the largest cosine of every row, without its index: ``[n]``."""

    def init(num_rows: int, dim: int, dtype):
        del dim
        return jnp.full((num_rows,), -jnp.inf, dtype)

    def update(carry, tile, y, column):
        del y, column
        return jnp.maximum(carry, jnp.max(tile[0], axis=1))

    return Reduction(init, lambda scores: (scores,), update, jnp.maximum, lambda carry: carry)


@cache
def count_above(threshold: float) -> Reduction:
    """Count, for every row, the columns with a cosine above ``threshold``: ``[n]`` int32."""

    def init(num_rows: int, dim: int, dtype):
        del dim, dtype
        return jnp.zeros((num_rows,), jnp.int32)

    def update(carry, tile, y, column):
        del y, column
        return carry + jnp.sum(tile[0], axis=1, dtype=jnp.int32)

    return Reduction(
        init, lambda scores: (scores > threshold,), update, jnp.add, lambda carry: carry
    )


def empty(reduction: Reduction, x: Points, num_rows: int | None = None) -> Any:
    """Return empty accumulators for the rows of ``x``, or for ``num_rows`` rows like them."""
    carry = reduction.init(num_rows or x.shape[0], x.shape[1], x.dtype)
    # Under shard_map this makes them vary over the devices that x varies over.
    return jax.tree.map(
        lambda leaf: leaf + jnp.zeros_like(x, shape=leaf.shape, dtype=leaf.dtype), carry
    )


def masked(
    scores: Float[Array, "b c"], row: Int[Array, " b"], column: Int[Array, " c"]
) -> Float[Array, "b c"]:
    """Set pairs of a point with itself, and rows and columns of padding, to ``-inf``."""
    absent = (row < 0)[:, None] | (column < 0)[None, :]
    return jnp.where(absent | (row[:, None] == column[None, :]), -jnp.inf, scores)


def without_absent(
    scores: Float[Array, "b c"], row: Int[Array, " b"], column: Int[Array, " c"]
) -> Float[Array, "b c"]:
    """Set rows and columns of padding to ``-inf``, where no point meets itself.

    XLA fuses these sums into whatever reads the scores; it stores the result of :func:`masked`.
    """
    return scores + _penalty(row)[:, None] + _penalty(column)[None, :]


def _penalty(ids: Int[Array, " b"]) -> Any:
    return jnp.where(ids < 0, -jnp.inf, 0.0)
