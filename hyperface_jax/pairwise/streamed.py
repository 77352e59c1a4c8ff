"""Sweeps over sets that stay on disk: blocks of rows are read to the device when they are needed.

The :class:`~.api.Sweep` decides how the pairs of two blocks are visited; this module only decides
which blocks meet. While the device works on one pair of blocks, the next block is read.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax import meshes
from hyperface_jax.pairwise.api import Sweep
from hyperface_jax.pairwise.reductions import Reduction, empty
from hyperface_jax.pairwise.rows import foreign, numbered, with_ids
from hyperface_jax.typing import Gallery, Points

PASSING_ROWS = 8192
"""Largest number of rows in a block that streams past a block held on the device."""
HELD_ROWS = 131_072
"""Largest number of rows in a block that the device holds while the other set streams past."""
SYMMETRIC_ROWS = 32_768
"""Largest number of rows in a block of a set that is paired with itself."""

OnBlock = Callable[[int, Any], None]
"""A function called after every pair of blocks, with the number of pairs of rows done so far and the
statistics of the last block's rows."""


class SweepState(NamedTuple):
    """What an unfinished sweep knows; see :class:`SweepStore`.

    Attributes:
        num_blocks: number of blocks of ``x`` and of ``y``, which must stay the same.
        num_done: number of pairs of blocks that are done.
        statistics: the leaves of the reduction's accumulators so far, with leading axis ``n``; those of
            rows that met no other yet are zero.
    """

    num_blocks: tuple[int, int]
    num_done: int
    statistics: list[np.ndarray]


@runtime_checkable
class SweepStore(Protocol):
    """Keeps the state of a sweep, so that another call can go on with it."""

    def load(self) -> SweepState | None:
        """Return the state to go on with; None starts from the beginning."""
        ...

    def is_due(self, is_last: bool, /) -> bool:
        """Tell after a pair of blocks, maybe the last one, whether to save the state now."""
        ...

    def save(self, state: SweepState, /) -> None:
        """Save the state; an exception that this raises ends the sweep."""
        ...


@runtime_checkable
class RowSource(Protocol):
    """Unit rows that are read one slice at a time: an array, or a file of embeddings."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows and dimension, ``(n, d)``."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """Return a slice of the rows, in float32."""
        ...


def sweep_streamed(
    x: RowSource,
    y: RowSource | None = None,
    *,
    reduction: Reduction,
    sweep: Sweep | None = None,
    ids: np.ndarray | None = None,
    on_block: OnBlock | None = None,
    store: SweepStore | None = None,
) -> Any:
    """Reduce the cosines of all pairs to one statistic per row of ``x``, however large the sets are.

    Args:
        x: unit rows, ``[n, d]``.
        y: unit rows to pair them with, ``[m, d]``. None pairs ``x`` with itself and leaves out the
            diagonal.
        reduction: the statistic to compute; its ``finalize`` must be the identity.
        sweep: how the pairs of two blocks are visited, and on which devices.
        ids: index of each row of ``x`` in ``y``, int32 ``[n]``; a row is not paired with itself. None
            leaves out no pair.
        on_block: called after every pair of blocks with the number of pairs done and the statistics of
            the rows updated last.
        store: keeps the state between pairs of blocks and gives it back. It must belong to the same rows
            and reduction; a state of other blocks is left unused.

    Returns:
        The result of the reduction, as NumPy arrays with leading axis ``n``.

    Cost: ``n^2 d`` FLOPs for the scores of ``x`` with itself, twice that over a mesh or in a kernel;
    ``2 n m d`` with ``y``. Memory for a few blocks and the result. With ``y``, ``x`` is read once for
    every ``HELD_ROWS`` rows of ``y``; without, about ``n / (2 SYMMETRIC_ROWS)`` times.

    Examples:
        >>> from hyperface_jax.pairwise import nearest
        >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
        >>> sweep_streamed(x, reduction=nearest()).column.tolist()
        [2, 2, 1]
    """
    sweep = sweep or Sweep()
    if y is None:
        rows = columns = _Blocks(x, SYMMETRIC_ROWS, sweep)
        num_pairs = rows.count * (rows.count + 1) // 2
    else:
        rows, columns = _Blocks(x, PASSING_ROWS, sweep), _Blocks(y, HELD_ROWS, sweep)
        num_pairs = rows.count * columns.count
    journal = _Journal(rows, columns, num_pairs, reduction, on_block, store)
    if y is None:
        _symmetric(rows, sweep, reduction, journal)
    else:
        _among(rows, columns, ids, sweep, reduction, journal)
    journal.finish()
    return journal.statistics()


class _Blocks:
    """A set split into blocks of equal size; on the devices, each is padded with rows of zeros."""

    def __init__(self, source: RowSource, most_rows: int, sweep: Sweep) -> None:
        num_rows = source.shape[0]
        self.count = -(-num_rows // most_rows)
        self._step = -(-num_rows // self.count)
        self._size = meshes.padded_size(self._step, sweep.num_devices)
        self._source, self._mesh = source, sweep.mesh

    def place(self, i: int) -> slice:
        """Return the range of rows in a block."""
        return slice(i * self._step, min((i + 1) * self._step, self._source.shape[0]))

    def num_rows(self, i: int) -> int:
        """Count the rows of a block."""
        place = self.place(i)
        return place.stop - place.start

    @property
    def num_rows_in_all(self) -> int:
        """Number of rows of the set."""
        return self._source.shape[0]

    def read(self, i: int) -> Points:
        """Bring the rows of a block to the devices."""
        return self.put(np.asarray(self._source[self.place(i)], np.float32))

    def put(self, part: np.ndarray) -> Any:
        """Bring values of the rows of a block to the devices, padded with zeros."""
        if self._mesh is not None:
            return meshes.shard_rows(part, self._mesh, self._size)
        return meshes.pad_rows(jnp.asarray(part), self._size)

    def local(self, i: int, carry: Any) -> Any:
        """Bring the statistics of the rows of a block to the host."""
        return jax.tree.map(lambda leaf: meshes.gathered(leaf)[: self.num_rows(i)], carry)


class _Journal:
    """The accumulators of each block, what is done, and what the caller hears of it.

    A pair of blocks is waited for only after the next one has been dispatched, or to save the state.
    """

    def __init__(
        self,
        x: _Blocks,
        y: _Blocks,
        num_pairs: int,
        reduction: Reduction,
        on_block: OnBlock | None,
        store: SweepStore | None,
    ) -> None:
        self._x, self._num_blocks, self._num_pairs = x, (x.count, y.count), num_pairs
        self._on_block, self._store = on_block, store
        self._done, self._num_seen = 0, 0
        self._pending: tuple[int, Any] | None = None
        self.carries: list[Any] = [None] * x.count
        state = store.load() if store else None
        is_usable = state is not None and state.num_blocks == self._num_blocks
        self._num_kept = state.num_done if state is not None and is_usable else 0
        if state is not None and is_usable:
            self._restore(state.statistics, reduction)

    def _restore(self, statistics: list[np.ndarray], reduction: Reduction) -> None:
        """Give each block that was visited its accumulators: the first pairs visit one after another."""
        x = self._x
        structure = jax.tree.structure(jax.eval_shape(lambda: empty(reduction, jnp.zeros((1, 1)))))
        for i in range(min(self._num_kept, x.count)):
            leaves = [x.put(np.ascontiguousarray(leaf[x.place(i)])) for leaf in statistics]
            self.carries[i] = jax.tree.unflatten(structure, leaves)

    def has(self, num_pairs: int) -> bool:
        """Tell whether the next pair of blocks was done before, and count it then."""
        if self._num_seen >= self._num_kept:
            return False
        self._num_seen, self._done = self._num_seen + 1, self._done + num_pairs
        return True

    def add(self, num_pairs: int, i: int) -> None:
        """Note that a pair of blocks was dispatched, of which block i was updated last."""
        self.finish()
        self._num_seen += 1
        self._pending = num_pairs, self.carries[i]
        if self._store and self._store.is_due(self._num_seen == self._num_pairs):
            self.finish()
            self._store.save(SweepState(self._num_blocks, self._num_seen, self._leaves()))

    def statistics(self) -> Any:
        """Return the accumulators of all rows."""
        return jax.tree.unflatten(jax.tree.structure(self.carries[0]), self._leaves())

    def _leaves(self) -> list[np.ndarray]:
        parts = [self._x.local(i, c) for i, c in enumerate(self.carries) if c is not None]
        leaves = zip(*map(jax.tree.leaves, parts), strict=True)
        return [_filled_up(np.concatenate(leaf), self._x.num_rows_in_all) for leaf in leaves]

    def finish(self) -> None:
        """Wait for the last pair of blocks, and report it."""
        if self._pending is None:
            return
        num_pairs, carry = self._pending
        self._pending = None
        jax.block_until_ready(carry)
        self._done += num_pairs
        if self._on_block:
            self._on_block(self._done, carry)


def _among(
    x: _Blocks,
    y: _Blocks,
    ids: np.ndarray | None,
    sweep: Sweep,
    reduction: Reduction,
    journal: _Journal,
) -> None:
    carries = journal.carries
    for j in range(y.count):
        columns, first = None, np.int32(y.place(j).start)
        for i in range(x.count):
            num_pairs = x.num_rows(i) * y.num_rows(j)
            if journal.has(num_pairs):
                continue
            columns = y.read(j) if columns is None else columns
            rows = x.read(i)
            own = None if ids is None else x.put(ids[x.place(i)])
            found = _meet(sweep, reduction, rows, own, columns, first)
            carries[i] = found if j == 0 else _merge(reduction, carries[i], found)
            journal.add(num_pairs, i)


def _symmetric(x: _Blocks, sweep: Sweep, reduction: Reduction, journal: _Journal) -> None:
    carries = journal.carries
    for i in range(x.count):
        rows, first = None, np.int32(x.place(i).start)
        for j in range(i, x.count):
            num_others = x.num_rows(j) if j > i else (x.num_rows(i) - 1) / 2
            num_pairs = int(x.num_rows(i) * num_others)
            if journal.has(num_pairs):
                continue
            rows = x.read(i) if rows is None else rows
            if j == i:
                found = _within(sweep, reduction, rows, first)
                carries[i] = found if i == 0 else _merge(reduction, carries[i], found)
            else:
                columns, start = x.read(j), np.int32(x.place(j).start)
                own, other = _both(sweep, reduction, rows, first, columns, start)
                carries[i] = _merge(reduction, carries[i], own)
                carries[j] = other if i == 0 else _merge(reduction, carries[j], other)
            journal.add(num_pairs, j)


def _filled_up(rows: np.ndarray, num_rows: int) -> np.ndarray:
    """Add rows of zeros up to a number of rows."""
    missing = np.zeros((num_rows - len(rows), *rows.shape[1:]), rows.dtype)
    return np.concatenate([rows, missing]) if len(missing) else rows


@partial(jax.jit, static_argnums=(0, 1))
def _meet(sweep: Sweep, reduction: Reduction, x: Points, ids: Any, y: Gallery, first: Any) -> Any:
    rows = foreign(x) if ids is None else with_ids(x, ids)
    return sweep.among(rows, numbered(y, first), reduction=reduction)


@partial(jax.jit, static_argnums=(0, 1))
def _within(sweep: Sweep, reduction: Reduction, x: Points, first: Any) -> Any:
    rows = numbered(x, first)
    folds = sweep.folds(reduction, x)
    if folds is None:
        return sweep.among(rows, rows, reduction=reduction)
    return folds.within(empty(reduction, x), rows)


@partial(jax.jit, static_argnums=(0, 1))
def _both(
    sweep: Sweep, reduction: Reduction, x: Points, first: Any, y: Gallery, start: Any
) -> tuple[Any, Any]:
    rows, columns = numbered(x, first), numbered(y, start)
    folds = sweep.folds(reduction, x)
    if folds is None:
        among = partial(sweep.among, reduction=reduction)
        return among(rows, columns), among(columns, rows)
    return folds.both(empty(reduction, x), rows, empty(reduction, y), columns)


@partial(jax.jit, static_argnums=0)
def _merge(reduction: Reduction, a: Any, b: Any) -> Any:
    return reduction.merge(a, b)
