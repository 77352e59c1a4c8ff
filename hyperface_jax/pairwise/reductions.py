"""*What* is reduced over pairs: the statistics a sweep collects for every row.

A sweep (see :mod:`.blockwise`) visits tiles of the score matrix ``S[i, j] = <x_i, y_j>`` and hands
each one to a :class:`Reduction`. ``tile`` is an elementwise map of the scores, computed once for a
tile and used for its rows and, by symmetry, for its columns; ``update`` folds the tile into the
accumulator of a block of rows. Masked entries (the diagonal, padding) arrive as ``-inf``.

The next statistic is a new function in this file that returns a :class:`Reduction`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from hyperface_jax.typing import Indices, Points, Rows


_NO_INDEX = 2**31 - 1


class Reduction(NamedTuple):
    """A row statistic, as four functions.

    Attributes:
        init: ``(num_rows, dim, dtype) -> carry``, the empty accumulator of a block of rows.
        tile: ``scores [b, c] -> tuple of [b, c] arrays``, elementwise.
        update: ``(carry, tile, y [c, d], column [c]) -> carry``; ``column`` holds column indices.
        finalize: ``carry -> result``, applied to the accumulators of all rows at once.
    """

    init: Callable[..., Any]
    tile: Callable[[Any], tuple[Any, ...]]
    update: Callable[..., Any]
    finalize: Callable[[Any], Any]


class PairSum(NamedTuple):
    """Row sums of a pair function, with its force and the exact row maximum."""

    value: Rows
    """``sum_j phi(s_ij)``, shape ``[n]``."""
    force: Points
    """``sum_j phi'(s_ij) y_j``, shape ``[n, d]``."""
    max_cosine: Rows
    """``max_j s_ij``, shape ``[n]``."""


class Nearest(NamedTuple):
    """The nearest column of every row."""

    cosine: Rows
    """``max_j s_ij``, shape ``[n]``; ``-inf`` where a row has no column."""
    column: Indices
    """The smallest ``j`` that attains it, shape ``[n]``."""


def pair_sum(pair: Callable[[Any], tuple[Any, Any]]) -> Reduction:
    """Sum a pair function and its force over the columns.

    Args:
        pair: elementwise ``scores -> (phi, phi')``. It must give ``(0, 0)`` at ``-inf``.

    Returns:
        A reduction whose result is a :class:`PairSum`. Cost: ``4 n m d`` FLOPs, ``3 n^2 d`` for a
        symmetric sweep.
    """

    def init(num_rows: int, dim: int, dtype):
        zeros = jnp.zeros((num_rows,), dtype)
        return PairSum(zeros, jnp.zeros((num_rows, dim), dtype), zeros - jnp.inf)

    def tile(scores):
        return (*pair(scores), scores)

    def update(carry: PairSum, tile, y, column):
        del column
        phi, weight, scores = tile
        return PairSum(
            carry.value + jnp.sum(phi, axis=1),
            carry.force + _dot(weight, y),
            jnp.maximum(carry.max_cosine, jnp.max(scores, axis=1)),
        )

    return Reduction(init, tile, update, lambda carry: carry)


def nearest() -> Reduction:
    """Find the largest cosine of every row and the column that attains it.

    Returns:
        A reduction whose result is a :class:`Nearest`. Cost: ``2 n m d`` FLOPs, half of that for a
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
        # XLA's argmax does not vectorise on CPU; a comparison with the maximum does.
        attained = jnp.where(scores == cosine[:, None], column[None, :], jnp.int32(_NO_INDEX))
        index = jnp.min(attained, axis=1)
        better = (cosine > carry.cosine) | ((cosine == carry.cosine) & (index < carry.column))
        return Nearest(
            jnp.where(better, cosine, carry.cosine), jnp.where(better, index, carry.column)
        )

    return Reduction(init, lambda scores: (scores,), update, lambda carry: carry)


def max_cosine() -> Reduction:
    """Find the largest cosine of every row, without its index: ``[n]``."""

    def init(num_rows: int, dim: int, dtype):
        del dim
        return jnp.full((num_rows,), -jnp.inf, dtype)

    def update(carry, tile, y, column):
        del y, column
        return jnp.maximum(carry, jnp.max(tile[0], axis=1))

    return Reduction(init, lambda scores: (scores,), update, lambda carry: carry)


def count_above(threshold: float) -> Reduction:
    """Count the columns of every row with a cosine above ``threshold``: ``[n]`` int32."""

    def init(num_rows: int, dim: int, dtype):
        del dim, dtype
        return jnp.zeros((num_rows,), jnp.int32)

    def update(carry, tile, y, column):
        del y, column
        return carry + jnp.sum(tile[0], axis=1, dtype=jnp.int32)

    return Reduction(init, lambda scores: (scores > threshold,), update, lambda carry: carry)


def _dot(weight: Float[Array, "b c"], y: Float[Array, "c d"]) -> Float[Array, "b d"]:
    return lax.dot_general(weight, y, (((1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)


def scores(x: Float[Array, "b d"], y: Float[Array, "c d"]) -> Float[Array, "b c"]:
    """Inner products of the rows of two blocks in full float32 precision on every backend."""
    return lax.dot_general(x, y, (((1,), (1,)), ((), ())), precision=lax.Precision.HIGHEST)


def masked(
    scores: Float[Array, "b c"], row: Int[Array, " b"], column: Int[Array, " c"], num_columns: int
) -> Float[Array, "b c"]:
    """Set pairs of a point with itself and padded columns to ``-inf``."""
    invalid = (row[:, None] == column[None, :]) | (column >= num_columns)[None, :]
    return jnp.where(invalid, -jnp.inf, scores)
