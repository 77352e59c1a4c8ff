"""Arrays too large for one host: .npy files that all processes of a job write and read together.

Every process writes the rows of its own devices to a common file through a memory map, and reads only
those rows. The file is an ordinary .npy file; it must be on a file system that all processes share.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax import meshes, processes, sphere
from hyperface_jax.errors import InputError
from hyperface_jax.io.embeddings import UNIT_TOLERANCE, read_points
from hyperface_jax.io.files import one_line, os_input_error

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from hyperface_jax.io.files import StrPath
    from hyperface_jax.typing import Points


def write_sharded(
    path: StrPath, x: Points, row: Any, num_rows: int, *, before: np.ndarray | None = None
) -> None:
    """Write rows to a .npy file without gathering them: each process writes its own rows.

    All processes call this function. The file appears under its name when every process has written its
    part.

    Args:
        path: the file to write, on a file system that all processes share.
        x: rows to write, ``[rows, d]``; rows of zeros are padding and are left out.
        row: position of each row of ``x`` in the file, ``[rows]``.
        num_rows: number of rows of the file, without those of ``before``.
        before: rows that come first, ``[m, d]``; the first process writes them.

    Raises:
        InputError: the file cannot be written, or a row is not finite.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    offset = 0 if before is None else len(before)
    dtype = np.dtype(x.dtype) if before is None else np.result_type(before, x.dtype)

    def create() -> None:
        shape = offset + num_rows, x.shape[1]
        part = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
        part[:offset] = before if before is not None else 0
        part.flush()

    try:
        processes.on_first_process(create)
        _write_own_rows(partial, x, row, offset)
        processes.on_first_process(lambda: partial.replace(target), after="written")
    except OSError as error:
        raise os_input_error(path, "cannot write", error) from error


def _write_own_rows(path: Path, x: Points, row: Any, offset: int) -> None:
    file = np.load(path, mmap_mode="r+")
    shards = zip(x.addressable_shards, row.addressable_shards, strict=True)
    for points, places in shards:
        block, place = np.asarray(points.data), np.asarray(places.data)
        present = block.any(axis=1)
        if not np.isfinite(block).all():
            raise InputError(f"{one_line(path)}: a row is not finite: the run has diverged")
        file[offset + place[present]] = block[present]
    file.flush()


def read_sharded(path: StrPath, mesh: Mesh, *, key: str | None = None) -> Points:
    """Read embeddings so that each process reads only the rows of its own devices.

    Args:
        path: a file as for :func:`hyperface_jax.io.read_embeddings`; only a .npy file is read in parts.
        mesh: devices that the rows are split across.
        key: the array to read, as for :func:`hyperface_jax.io.read_embeddings`.

    Returns:
        Float32 unit rows, ``[rows, d]``, padded with rows of zeros. Rows that already had unit length
        are unchanged.

    Raises:
        InputError: the file is not a matrix of floats, or a row has no direction.
    """
    points = read_points(path, key=key)
    x = meshes.shard_rows(points, mesh)
    unit, num_bad = _unit_rows(x.astype(jnp.float32), points.shape[0])
    if int(num_bad):
        raise InputError(
            f"{one_line(path)}: {int(num_bad)} of {points.shape[0]} rows are zero, NaN or infinite; "
            "remove them"
        )
    return unit


@jax.jit
def _unit_rows(x: Points, num_rows: int) -> tuple[Points, Any]:
    length = jnp.sqrt(sphere.inner(x, x))
    unit = jnp.where(jnp.abs(length - 1) <= UNIT_TOLERANCE, x, sphere.normalize(x))
    has_direction = (length > 0) & jnp.isfinite(length)
    return unit, num_rows - jnp.sum(has_direction)
