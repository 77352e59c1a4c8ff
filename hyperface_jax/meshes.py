"""Meshes of one axis over which rows are sharded, and the arrays that lie on them.

Everything large is ``[n, d]`` with its rows cut evenly over the devices; rows of zeros, which stand
for no point, fill it up. Devices follow each other as neighbors do, so that a ring over the mesh
uses links that exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hyperface_jax.typing import Points

ROWS = "rows"
"""Name of the mesh axis."""

_GRANULES = {65_536: (4096,), 16_384: (1024,), 2048: (512, 384, 256), 8: (8,), 0: (1,)}
"""From so many rows a device on: what their number is a multiple of, whichever needs fewest more."""


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Make the one-axis mesh of all devices, or of those given, in neighbor order.

    Args:
        devices: the devices; None takes all of the job.

    Examples:
        >>> make_mesh().axis_names
        ('rows',)
    """
    ordered = neighbor_order(jax.devices() if devices is None else devices)
    return Mesh(np.array(ordered), (ROWS,), axis_types=(AxisType.Auto,))


def neighbor_order(devices: Sequence[Any]) -> list[Any]:
    """Order devices so that each is a neighbor of the next: around the torus of a TPU slice.

    Devices without coordinates are ordered by process and number, and slices follow one another.
    In the default row-major order the ring's transfers cross the torus and XLA does not overlap
    them with the computation.
    """
    if not all(hasattr(device, "coords") for device in devices):
        return sorted(devices, key=lambda device: (device.process_index, device.id))
    slices: dict[int, list[Any]] = {}
    for device in devices:
        slices.setdefault(getattr(device, "slice_index", 0) or 0, []).append(device)
    return [device for _, members in sorted(slices.items()) for device in _around(members)]


def hamiltonian_cycle(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Visit every cell of a grid, each a neighbor of the last, and end beside the start.

    Such a cycle exists where some side is even and another is longer than 1; elsewhere the path is
    a snake, whose ends are neighbors only on a torus.

    Examples:
        >>> hamiltonian_cycle((2, 2))
        [(0, 1), (1, 1), (1, 0), (0, 0)]
    """
    even = next((axis for axis, side in enumerate(shape) if side % 2 == 0), None)
    if even is None or np.prod(shape) == shape[even]:
        return _snake(shape)
    rest = _snake([side for axis, side in enumerate(shape) if axis != even])
    cells = []
    for i in range(shape[even]):
        line = rest[1:] if i % 2 == 0 else rest[:0:-1]
        cells += [(i, other) for other in line]
    cells += [(i, rest[0]) for i in reversed(range(shape[even]))]
    return [(*other[:even], i, *other[even:]) for i, other in cells]


def _snake(shape: Sequence[int]) -> list[tuple[int, ...]]:
    if not shape:
        return [()]
    inner = _snake(shape[1:])
    return [(i, *cell) for i in range(shape[0]) for cell in (inner if i % 2 == 0 else inner[::-1])]


def _around(devices: list[Any]) -> list[Any]:
    cores: dict[tuple[int, ...], list[Any]] = {}
    for device in devices:
        cores.setdefault(tuple(device.coords), []).append(device)
    lows = [min(side) for side in zip(*cores, strict=True)]
    shape = [max(side) - low + 1 for side, low in zip(zip(*cores, strict=True), lows, strict=True)]
    if len(cores) < np.prod(shape):
        return sorted(devices, key=lambda device: device.id)
    cells = [tuple(np.add(cell, lows).tolist()) for cell in hamiltonian_cycle(shape)]
    ordered = [sorted(cores[cell], key=lambda device: device.id) for cell in cells]
    return [device for chip in ordered for device in chip]


def rows(mesh: Mesh) -> NamedSharding:
    """Return the sharding of an array whose leading axis is cut over the devices."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of an array that every device holds."""
    return NamedSharding(mesh, PartitionSpec())


def padded_size(num_rows: int, num_parts: int) -> int:
    """Choose how many rows an array of ``num_rows`` is filled up to: a few per cent more at most.

    Every part (device) gets the same number, which divides into blocks, and from some ten thousand on
    into chunks that travel between devices.
    """
    local = -(-num_rows // num_parts)
    least = next(least for least in _GRANULES if local >= least)
    return num_parts * min(-(-local // size) * size for size in _GRANULES[least])


def pad_rows(x: Any, size: int) -> Any:
    """Fill up rows with rows of zeros, ``[size, ...]``."""
    padding = size - x.shape[0]
    if not padding:
        return x
    return jnp.concatenate([x, jnp.zeros((padding, *x.shape[1:]), x.dtype)])


def shard_rows(x: Any, mesh: Mesh, size: int | None = None) -> Points:
    """Cut rows over the devices, filled up with rows of zeros.

    Args:
        x: ``[n, d]``, an array or a memory map; each process reads the rows of its own devices only.
        mesh: from :func:`make_mesh`.
        size: rows to fill up to; None means :func:`padded_size`.
    """
    num_rows = x.shape[0]
    shape = (size or padded_size(num_rows, mesh.size), *x.shape[1:])

    def part(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(shape[0])
        block = np.zeros((stop - start, *shape[1:]), x.dtype)
        present = np.asarray(x[start : min(stop, num_rows)])
        block[: present.shape[0]] = present
        return block

    return jax.make_array_from_callback(shape, rows(mesh), part)


def has_rows(leaf: Any, num_rows: int) -> bool:
    """Tell whether a leaf of a state holds one row a point, ``[num_rows, ...]``."""
    return leaf.ndim > 0 and leaf.shape[0] == num_rows


def tree_shardings(tree: Any, num_rows: int, mesh: Mesh) -> Any:
    """Return a sharding for every leaf: rows where the leading axis is ``num_rows``, else a copy each.

    Args:
        tree: arrays or their shapes.
        num_rows: padded number of rows.
        mesh: the devices.
    """

    def sharding(leaf: Any) -> NamedSharding:
        return rows(mesh) if has_rows(leaf, num_rows) else replicated(mesh)

    return jax.tree.map(sharding, tree)


def gathered(x: Any) -> np.ndarray:
    """Bring a sharded array to the host of every process; for one number a row, not for points."""
    if isinstance(x, np.ndarray) or x.is_fully_addressable:
        return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))
