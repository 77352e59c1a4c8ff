"""*How* pairs are visited, tile by tile: in O(n d) memory.

A sweep of a set with itself visits only the tiles on and above the diagonal. It uses each tile twice:
for its rows and, transposed, for its columns. Tiles are sized for the devices (:mod:`.platforms`). The
three folds add the pairs of two sets of rows to accumulators; :mod:`.ring` calls them once for every
pair of shards that it brings together.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hyperface_jax.pairwise.platforms import CACHED_BLOCK
from hyperface_jax.pairwise.precision import Precision, scores
from hyperface_jax.pairwise.reductions import Reduction, empty, masked, without_absent
from hyperface_jax.pairwise.rows import NumberedRows, as_rows, blocked, numbered, put, take
from hyperface_jax.typing import Gallery, Points

_ALIGNED = 8
"""Rows of a large tile are a multiple of this, so that the rows of its transpose are aligned."""
_BEST_IN_CACHE = 400
"""Rows of a tile that leaves room for its weights in the cache of a core."""


def default_block_size(num_rows: int, largest: int = CACHED_BLOCK) -> int:
    """Choose a block size, preferably a divisor of ``num_rows`` between a half of ``largest`` and it.

    A divisor is preferred because padding copies the whole array on every sweep. Multiples of 128 are
    tried first because they fill the matrix units of a TPU, then divisors near the best size for the
    cache of a CPU.
    """
    if num_rows <= largest:
        return num_rows
    is_cached = largest == CACHED_BLOCK
    step, best = (1, _BEST_IN_CACHE) if is_cached else (_ALIGNED, largest)
    aligned = (largest, 3 * largest // 4, largest // 2)
    others = range(largest - largest % step, largest // 2 - 1, -step)
    for block in (*aligned, *sorted(others, key=lambda block: abs(block - best))):
        if num_rows % block == 0:
            return block
    num_blocks = -(-num_rows // largest)
    return -(-num_rows // (_ALIGNED * num_blocks)) * _ALIGNED


def symmetric(x: Points, folds: Folds) -> Any:
    """Reduce over all pairs of ``x`` with itself, without the diagonal.

    Cost: ``n^2 d`` FLOPs for the scores, half the cost of a full matrix product.
    """
    carry = folds.within(empty(folds.reduction, x), numbered(x))
    return folds.reduction.finalize(carry)


def among(rows: NumberedRows, y: Gallery | NumberedRows, folds: Folds) -> Any:
    """Reduce over all pairs of a row of ``rows`` and a row of ``y`` with a different id.

    Cost: ``2 n m d`` FLOPs for the scores.
    """
    carry = folds.onto(empty(folds.reduction, rows.x), rows, as_rows(y))
    return folds.reduction.finalize(carry)


class Folds:
    """Add the pairs of two sets of rows to accumulators, block by block.

    Args:
        reduction: the statistic to accumulate.
        block_size: largest number of rows of a tile.
        precision: precision of the scores.
    """

    def __init__(
        self, reduction: Reduction, block_size: int, precision: Precision = "float32"
    ) -> None:
        self.reduction = reduction
        self.block_size = block_size
        self.precision: Precision = precision

    def onto(self, carry: Any, rows: NumberedRows, columns: NumberedRows) -> Any:
        """Add ``columns`` to the accumulators of ``rows``."""
        x, y = self._blocked(rows), self._blocked(columns)
        accumulators = self._accumulators(carry, x)

        def one_row(accumulators, i):
            row = take(x, i)

            def one_tile(state, j):
                column = take(y, j)
                return self._updated(state, self._tile(row, column), column), None

            state, _ = lax.scan(one_tile, take(accumulators, i), jnp.arange(y.x.shape[0]))
            return put(accumulators, i, state), None

        accumulators, _ = lax.scan(one_row, accumulators, jnp.arange(x.x.shape[0]))
        return _flattened(accumulators, rows)

    def both(
        self, carry: Any, rows: NumberedRows, other: Any, columns: NumberedRows
    ) -> tuple[Any, Any]:
        """Add ``columns`` to the accumulators of ``rows`` and ``rows`` to those of ``columns``.

        No row of the one may be a row of the other.
        """
        x, y = self._blocked(rows), self._blocked(columns)
        state = self._accumulators(carry, x), self._accumulators(other, y)

        def one_row(state, i):
            accumulators, others = state
            row = take(x, i)
            state = take(accumulators, i), others
            own, others = lax.fori_loop(0, y.x.shape[0], self._two_sided(row, y), state)
            return (put(accumulators, i, own), others), None

        (accumulators, others), _ = lax.scan(one_row, state, jnp.arange(x.x.shape[0]))
        return _flattened(accumulators, rows), _flattened(others, columns)

    def within(self, carry: Any, rows: NumberedRows, first: Any = 0, stop: Any = None) -> Any:
        """Add all pairs of ``rows`` with each other: the tiles on and above the diagonal.

        ``first`` and ``stop`` restrict it to pairs with the first row in that range of blocks.
        """
        x = self._blocked(rows)
        num_blocks = x.x.shape[0]

        def one_row(i, accumulators):
            row = take(x, i)
            own = self._updated(take(accumulators, i), self._tile(row, row), row)
            state = own, accumulators
            own, accumulators = lax.fori_loop(i + 1, num_blocks, self._two_sided(row, x), state)
            return put(accumulators, i, own)

        stop = num_blocks if stop is None else stop
        accumulators = lax.fori_loop(first, stop, one_row, self._accumulators(carry, x))
        return _flattened(accumulators, rows)

    def _two_sided(self, row: NumberedRows, y: NumberedRows) -> Any:
        def visit(j, state):
            own, others = state
            column = take(y, j)
            values = self._tile(row, column, without_absent)
            own = self._updated(own, values, column)
            columns = self.reduction.update_columns(take(others, j), values, row.x, row.ids)
            return own, put(others, j, columns)

        return visit

    def _tile(self, row: NumberedRows, column: NumberedRows, mask: Any = masked) -> Any:
        values = scores(row.x, column.x, self.precision)
        return self.reduction.tile(mask(values, row.ids, column.ids))

    def _updated(self, state: Any, values: Any, column: NumberedRows) -> Any:
        return self.reduction.update(state, values, column.x, column.ids)

    def _blocked(self, rows: NumberedRows) -> NumberedRows:
        return blocked(rows, min(self.block_size, rows.x.shape[0]))

    def _accumulators(self, carry: Any, blocks: NumberedRows) -> Any:
        """Split accumulators into blocks like the rows they belong to, padded with empty ones."""
        num_blocks, block_size = blocks.ids.shape
        padding = num_blocks * block_size - jax.tree.leaves(carry)[0].shape[0]
        if padding:
            more = empty(self.reduction, blocks.x[0], padding)
            carry = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), carry, more)
        return jax.tree.map(lambda a: a.reshape(num_blocks, block_size, *a.shape[1:]), carry)


def _flattened(accumulators: Any, rows: NumberedRows) -> Any:
    num_rows = rows.x.shape[0]
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:num_rows], accumulators)
