"""Devices: one mesh axis over which rows are sharded, and the start of a multi-process job.

Everything large is ``[n, d]`` with its rows cut evenly over the devices; rows of zeros, which stand
for no point, fill it up. Devices follow each other as neighbours do, so that a ring over the mesh
uses links that exist.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hyperface_jax.errors import PeerError
from hyperface_jax.typing import Points

ROWS = "rows"
"""Name of the mesh axis."""

_HEARTBEAT_SECONDS = 30
"""After which a silent process counts as lost."""

_GRANULES = {65_536: (4096,), 16_384: (1024,), 2048: (512, 384, 256), 8: (8,), 0: (1,)}
"""From so many rows a device on: what their number is a multiple of, whichever needs fewest more."""


# Meshes


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Make the one-axis mesh of all devices, or of those given, in neighbour order.

    Args:
        devices: the devices; None takes all of the job.

    Examples:
        >>> make_mesh().axis_names
        ('rows',)
    """
    ordered = neighbour_order(jax.devices() if devices is None else devices)
    return Mesh(np.array(ordered), (ROWS,), axis_types=(AxisType.Auto,))


def neighbour_order(devices: Sequence[Any]) -> list[Any]:
    """Order devices so that each is a neighbour of the next: around the torus of a TPU slice.

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
    """Visit every cell of a grid, each a neighbour of the last, and end beside the start.

    Such a cycle exists where some side is even and another is longer than 1; elsewhere the path is
    a snake, whose ends are neighbours only on a torus.

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


# Rows


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


# Processes


def initialize(*, force: bool = False) -> bool:
    """Join the processes of a job, if this is one: call it before the first use of a device.

    Reads, in this order: ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``
    (plain processes); ``MASTER_ADDR``, ``MASTER_PORT``, ``WORLD_SIZE`` and ``RANK`` (torchrun; JAX
    takes the port after torchrun's own); and what JAX itself detects (Slurm steps, Open MPI, GKE and
    Cloud TPU).

    Args:
        force: join even if no variable tells of other processes, as on a Cloud TPU pod slice.

    Returns:
        Whether this is one of several processes.

    Raises:
        ValueError: if the variables contradict each other.
    """
    settings = process_settings(os.environ)
    if settings is None and not force:
        return False
    jax.distributed.initialize(**(settings or {}), heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
    return jax.process_count() > 1


def process_settings(environment: Any) -> dict[str, Any] | None:
    """Return the arguments of ``jax.distributed.initialize``; None if this is a single process."""
    for find in (_plain_processes, _torchrun, _detected_by_jax):
        if (settings := find(environment)) is not None:
            return settings
    return None


def _plain_processes(environment: Any) -> dict[str, Any] | None:
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    found = [name for name in names if environment.get(name)]
    if "JAX_NUM_PROCESSES" not in found and "JAX_PROCESS_ID" not in found:
        return None
    if len(found) < len(names):
        missing = ", ".join(sorted(set(names) - set(found)))
        raise ValueError(f"{', '.join(found)} is set and {missing} is not: set all or none")
    return _checked(
        environment["JAX_COORDINATOR_ADDRESS"],
        _integer(environment, "JAX_NUM_PROCESSES"),
        _integer(environment, "JAX_PROCESS_ID"),
    )


def _torchrun(environment: Any) -> dict[str, Any] | None:
    if "RANK" not in environment or _integer(environment, "WORLD_SIZE", 1) <= 1:
        return None
    address = environment.get("MASTER_ADDR", "localhost")
    port = _integer(environment, "MASTER_PORT", 29500) + 1
    settings = _checked(
        f"{address}:{port}", _integer(environment, "WORLD_SIZE"), _integer(environment, "RANK")
    )
    if settings and _integer(environment, "LOCAL_WORLD_SIZE", 1) > 1:
        settings["local_device_ids"] = [_integer(environment, "LOCAL_RANK")]
    return settings


def _detected_by_jax(environment: Any) -> dict[str, Any] | None:
    sizes = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
    is_job = any(_integer(environment, name, 1) > 1 for name in sizes)
    is_pod = "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    return {} if is_job or is_pod or environment.get("MEGASCALE_COORDINATOR_ADDRESS") else None


def _checked(address: str, num_processes: int, process_id: int) -> dict[str, Any] | None:
    if not 0 <= process_id < num_processes:
        raise ValueError(f"process {process_id} of {num_processes}: it must lie in between")
    if num_processes == 1:
        return None
    return {
        "coordinator_address": address,
        "num_processes": num_processes,
        "process_id": process_id,
    }


def _integer(environment: Any, name: str, default: int | None = None) -> int:
    text = environment.get(name, default)
    try:
        return int(text)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={text!r}: must be a whole number") from None


def is_first_process() -> bool:
    """Tell whether this process speaks for the job: it alone prints and writes small files."""
    return jax.process_index() == 0


def on_first_process(function: Callable[[], Any], *, after: str | None = None) -> Any:
    """Run ``function`` on the first process, while the others wait to hear whether it went well.

    Args:
        function: what to run.
        after: a name; the first process then waits before it until all processes have come here.

    Returns:
        What ``function`` returned on the first process, None on the others.

    Raises:
        Exception: what ``function`` raised, on the first process.
        PeerError: on the others, if it raised there.
    """
    if jax.process_count() == 1:
        return function()
    if after is not None:
        multihost_utils.sync_global_devices(after)
    result, error = None, None
    if is_first_process():
        try:
            result = function()
        except Exception as raised:
            error = raised
    failed = multihost_utils.broadcast_one_to_all(np.int32(error is not None))
    if error is not None:
        raise error
    if failed:
        raise PeerError("the first process stopped, and says why")
    return result


def any_process(*flags: bool) -> tuple[bool, ...]:
    """Tell for each flag whether any process has raised it; all processes must ask."""
    if jax.process_count() == 1:
        return flags
    gathered = multihost_utils.process_allgather(np.array(flags))
    return tuple(bool(flag) for flag in np.any(gathered, axis=0))


def gathered(x: Any) -> np.ndarray:
    """Bring a sharded array to the host of every process; for one number a row, not for points."""
    if isinstance(x, np.ndarray) or x.is_fully_addressable:
        return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))
