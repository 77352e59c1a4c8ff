"""Sweeps over sets that stay on disk: blocks of rows are read to the device when they are needed.

The :class:`~.api.Sweep` decides how the pairs of two blocks are visited; this module only decides
which blocks meet. While the device works on one pair of blocks, the next block is read.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, runtime_checkable

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
    progress = _Progress(on_block)
    if y is None:
        carries = _symmetric(_Blocks(x, SYMMETRIC_ROWS, sweep), sweep, reduction, progress)
    else:
        passing, held = _Blocks(x, PASSING_ROWS, sweep), _Blocks(y, HELD_ROWS, sweep)
        carries = _among(passing, held, ids, sweep, reduction, progress)
    progress.finish()
    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *carries)
    return jax.tree.map(lambda leaf: leaf[: x.shape[0]], whole)


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


class _Progress:
    """Report progress; wait for a pair of blocks only after the next one has been dispatched."""

    def __init__(self, on_block: OnBlock | None) -> None:
        self._on_block, self._done = on_block, 0
        self._pending: tuple[int, Any] | None = None

    def add(self, num_pairs: int, carry: Any) -> None:
        self.finish()
        self._pending = num_pairs, carry

    def finish(self) -> None:
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
    progress: _Progress,
) -> list[Any]:
    carries: list[Any] = [None] * x.count
    for j in range(y.count):
        columns, first = y.read(j), np.int32(y.place(j).start)
        for i in range(x.count):
            rows = x.read(i)
            own = None if ids is None else x.put(ids[x.place(i)])
            found = _meet(sweep, reduction, rows, own, columns, first)
            carries[i] = found if j == 0 else _merge(reduction, carries[i], found)
            progress.add(x.num_rows(i) * y.num_rows(j), carries[i])
    return [x.local(i, carry) for i, carry in enumerate(carries)]


def _symmetric(x: _Blocks, sweep: Sweep, reduction: Reduction, progress: _Progress) -> list[Any]:
    carries: list[Any] = [None] * x.count
    for i in range(x.count):
        rows, first = x.read(i), np.int32(x.place(i).start)
        found = _within(sweep, reduction, rows, first)
        carries[i] = found if i == 0 else _merge(reduction, carries[i], found)
        progress.add(x.num_rows(i) * (x.num_rows(i) - 1) // 2, carries[i])
        for j in range(i + 1, x.count):
            columns, start = x.read(j), np.int32(x.place(j).start)
            own, other = _both(sweep, reduction, rows, first, columns, start)
            carries[i] = _merge(reduction, carries[i], own)
            carries[j] = other if i == 0 else _merge(reduction, carries[j], other)
            progress.add(x.num_rows(i) * x.num_rows(j), carries[j])
    return [x.local(i, carry) for i, carry in enumerate(carries)]


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
