"""One-axis meshes over which rows are sharded, and the arrays sharded over them.

Every large array is ``[n, d]``, with its rows split evenly over the devices and padded with rows of
zeros, which represent no point. Consecutive devices of a mesh are neighbors, so that a ring over the
mesh uses physical links.
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
"""Smallest number of rows per device -> candidates for what that number must be a multiple of.

The candidate that needs the least padding is taken.
"""


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Make a one-axis mesh of all devices, or of the given ones, in neighbor order.

    Args:
        devices: the devices; None takes all devices of the job.

    Examples:
        >>> make_mesh().axis_names
        ('rows',)
    """
    ordered = neighbor_order(jax.devices() if devices is None else devices)
    return Mesh(np.array(ordered), (ROWS,), axis_types=(AxisType.Auto,))


def neighbor_order(devices: Sequence[Any]) -> list[Any]:
    """Order devices so that each is a neighbor of the next, around the torus of a TPU slice.

    Devices without coordinates are ordered by process and id. Several slices follow one another.
    In the default row-major order, the ring's transfers would cross the torus, and XLA would not
    overlap them with the computation.
    """
    if not all(hasattr(device, "coords") for device in devices):
        return sorted(devices, key=lambda device: (device.process_index, device.id))
    slices: dict[int, list[Any]] = {}
    for device in devices:
        slices.setdefault(getattr(device, "slice_index", 0) or 0, []).append(device)
    return [device for _, members in sorted(slices.items()) for device in _around(members)]


def hamiltonian_cycle(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Visit every cell of a grid, moving only between neighbors, and end next to the start.

    Such a cycle exists if one side is even and another is longer than 1. Otherwise the path is a
    snake, and its ends are neighbors only on a torus.

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
    """Return the sharding that splits the leading axis of an array over the devices."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding that gives every device a copy of the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def padded_size(num_rows: int, num_parts: int) -> int:
    """Choose how many rows to pad an array of ``num_rows`` to, at most a few percent more.

    Every part (device) gets the same number of rows. That number divides into blocks and, from about
    ten thousand rows on, into chunks that travel between devices.
    """
    local = -(-num_rows // num_parts)
    least = next(least for least in _GRANULES if local >= least)
    return num_parts * min(-(-local // size) * size for size in _GRANULES[least])


def pad_rows(x: Any, size: int) -> Any:
    """Pad an array with rows of zeros to ``[size, ...]``."""
    padding = size - x.shape[0]
    if not padding:
        return x
    return jnp.concatenate([x, jnp.zeros((padding, *x.shape[1:]), x.dtype)])


def shard_rows(x: Any, mesh: Mesh, size: int | None = None) -> Points:
    """Split rows over the devices, padded with rows of zeros.

    Args:
        x: ``[n, d]``, an array or a memory map; each process reads only the rows of its own devices.
        mesh: the devices, from :func:`make_mesh`.
        size: number of rows to pad to; None means :func:`padded_size`.
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
    """Tell whether a leaf of a state holds one row per point, ``[num_rows, ...]``."""
    return leaf.ndim > 0 and leaf.shape[0] == num_rows


def tree_shardings(tree: Any, num_rows: int, mesh: Mesh) -> Any:
    """Return the sharding of every leaf: by rows if its leading axis is ``num_rows``, else replicated.

    Args:
        tree: arrays, or their shapes.
        num_rows: padded number of rows.
        mesh: the devices.
    """

    def sharding(leaf: Any) -> NamedSharding:
        return rows(mesh) if has_rows(leaf, num_rows) else replicated(mesh)

    return jax.tree.map(sharding, tree)


def gathered(x: Any) -> np.ndarray:
    """Bring a sharded array to the host of every process; meant for one number per row, not points."""
    if isinstance(x, np.ndarray) or x.is_fully_addressable:
        return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))
