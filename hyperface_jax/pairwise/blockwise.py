"""*How* pairs are visited, tile by tile: O(n d) memory, every tile small enough to stay in cache.

A sweep of a set with itself visits only the tiles on and above the diagonal and uses each one
twice, for its rows and, transposed, for its columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from hyperface_jax.pairwise.reductions import Reduction, masked, scores

if TYPE_CHECKING:
    from hyperface_jax.typing import Gallery, Points

_MAX_BLOCK = 512
_MIN_BLOCK = 256


def default_block_size(num_rows: int) -> int:
    """Choose a block of at most 512 rows, one that divides ``num_rows`` if there is one above 255.

    Padding copies the whole array on every sweep, hence the preference for a divisor.
    """
    if num_rows <= _MAX_BLOCK:
        return num_rows
    for block in range(_MAX_BLOCK, _MIN_BLOCK - 1, -1):
        if num_rows % block == 0:
            return block
    num_blocks = -(-num_rows // _MAX_BLOCK)
    return -(-num_rows // (8 * num_blocks)) * 8


def symmetric(x: Points, reduction: Reduction, *, block_size: int) -> Any:
    """Reduce over all pairs of ``x`` with itself, the diagonal excluded.

    Cost: ``n^2 d`` FLOPs for the scores, half of what a full matrix product takes.
    """
    num_rows = x.shape[0]
    blocks = _blocked(x, block_size)
    num_blocks = blocks.shape[0]
    empty = reduction.init(block_size, x.shape[1], x.dtype)
    carry = jax.tree.map(lambda a: jnp.broadcast_to(a, (num_blocks, *a.shape)), empty)
    columns = jnp.arange(num_blocks * block_size, dtype=jnp.int32).reshape(num_blocks, block_size)

    def tile(i, j):
        tile_scores = scores(blocks[i], blocks[j])
        return reduction.tile(masked(tile_scores, columns[i], columns[j], num_rows))

    def above_diagonal(j, state):
        i, row, rest = state
        values = tile(i, j)
        row = reduction.update(row, values, blocks[j], columns[j])
        flipped = jax.tree.map(jnp.transpose, values)
        column = reduction.update(_take(rest, j), flipped, blocks[i], columns[i])
        return i, row, _put(rest, j, column)

    def one_row(rest, i):
        row = reduction.update(_take(rest, i), tile(i, i), blocks[i], columns[i])
        _, row, rest = lax.fori_loop(i + 1, num_blocks, above_diagonal, (i, row, rest))
        return _put(rest, i, row), None

    carry, _ = lax.scan(one_row, carry, jnp.arange(num_blocks))
    return reduction.finalize(_flattened(carry, num_rows))


def rectangular(x: Points, y: Gallery, reduction: Reduction, *, block_size: int) -> Any:
    """Reduce over all pairs of a row of ``x`` and a row of ``y``: ``2 n m d`` FLOPs for the scores."""
    num_rows, num_columns = x.shape[0], y.shape[0]
    row_size = min(block_size, num_rows)
    column_size = min(block_size, num_columns)
    x_blocks = _blocked(x, row_size)
    y_blocks = _blocked(y, column_size)
    columns = jnp.arange(y_blocks.shape[0] * column_size, dtype=jnp.int32).reshape(-1, column_size)
    no_row = jnp.full((row_size,), -1)

    def one_row(x_block):
        def one_tile(carry, j):
            tile_scores = masked(scores(x_block, y_blocks[j]), no_row, columns[j], num_columns)
            tile = reduction.tile(tile_scores)
            return reduction.update(carry, tile, y_blocks[j], columns[j]), None

        empty = reduction.init(row_size, x.shape[1], x.dtype)
        return lax.scan(one_tile, empty, jnp.arange(y_blocks.shape[0]))[0]

    return reduction.finalize(_flattened(lax.map(one_row, x_blocks), num_rows))


def _blocked(x: Points, block_size: int):
    padding = -x.shape[0] % block_size
    if padding:
        x = jnp.pad(x, ((0, padding), (0, 0)))
    return x.reshape(-1, block_size, x.shape[1])


def _flattened(carry: Any, num_rows: int) -> Any:
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:num_rows], carry)


def _take(carry: Any, i: Any) -> Any:
    return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False), carry)


def _put(carry: Any, i: Any, block: Any) -> Any:
    return jax.tree.map(lambda a, b: lax.dynamic_update_index_in_dim(a, b, i, axis=0), carry, block)
