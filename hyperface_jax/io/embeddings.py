"""Embedding files: .npy, .npz, .safetensors and .parquet in, unit rows out.

Reading takes three separate steps: a reader for each format (:mod:`hyperface_jax.io.formats`) returns
the array as it is stored, :func:`read_points` checks that it is a matrix of floats, and
:func:`read_embeddings` checks every row and scales it to unit length. Rows that are already float32 and
of unit length are passed on bit for bit, so a frozen identity keeps its exact embedding however often
it is read and written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import (
    atomic_save_npy,
    atomic_write_text,
    one_line,
    os_input_error,
)
from hyperface_jax.io.formats import read_array, split_key

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from hyperface_jax.io.files import StrPath

UNIT_TOLERANCE = 1e-6
"""Float32 rows whose lengths differ from 1 by at most this much are left unchanged."""

_BLOCK_BYTES = 1 << 25


@dataclass(frozen=True)
class Embeddings:
    """Unit rows read from a file.

    Attributes:
        points: unit rows, float32 ``[n, d]`` in C order, a copy independent of the file.
        path: the file, as it was given.
        num_duplicates: number of rows that point in exactly the direction of an earlier row.
        sha256: hexadecimal digest of the file's content, and of the key if one was given, to tell
            whether a resumed run sees the same data.
    """

    points: np.ndarray
    path: Path
    num_duplicates: int
    sha256: str

    @property
    def num_points(self) -> int:
        """Number of rows, n."""
        return self.points.shape[0]

    @property
    def dim(self) -> int:
        """Dimension of the embedding space, d."""
        return self.points.shape[1]


def read_embeddings(path: StrPath, *, key: str | None = None) -> Embeddings:
    """Read embeddings and scale their rows to unit length.

    Lengths are measured and divided out in float64. A float32 row within ``UNIT_TOLERANCE`` of unit
    length is returned bit for bit, so reading what :func:`write_embeddings` wrote changes nothing. The
    extension determines the format, and must match the content.

    Args:
        path: a .npy, .npz, .safetensors or .parquet file of floats with one embedding per row;
            ``FILE:KEY`` selects one of several arrays in it.
        key: the array or column to read. Without a key, the only array of the file is read, or else the
            first of ``formats.KEYS`` that exists, or else (parquet) all columns as the dimensions. A
            .npy file holds a single array, so the key is ignored.

    Returns:
        The embeddings; duplicate rows are counted so that the caller can warn about them.

    Raises:
        InputError: the file is unusable; the one-line message says what is wrong, where, and how to fix
            it.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "faces.npy"
        >>> np.save(path, np.array([[3.0, 4.0], [0.0, -2.0]]))
        >>> read_embeddings(path).points.tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, -1.0]]
    """
    raw = read_points(path, key=key)
    points = unit_rows(raw, one_line(path))
    return Embeddings(points, Path(path), _count_duplicates(points), array_sha256(path, key))


def read_points(path: StrPath, *, key: str | None = None) -> np.ndarray:
    """Read a matrix of floats as it is stored, without checking its values.

    Args:
        path: as for :func:`read_embeddings`.
        key: as for :func:`read_embeddings`.

    Returns:
        ``[n, d]`` in the stored precision (bfloat16 is widened to float32), n >= 1 and d >= 2. For a
        .npy file, this is a read-only memory map.

    Raises:
        InputError: the file cannot be read as such a matrix.
    """
    return _checked_matrix(read_array(path, key), one_line(path))


def write_embeddings(path: StrPath, points: ArrayLike) -> None:
    """Write embeddings to a .npy file in one step.

    Args:
        path: the file to write; must end in ``.npy``.
        points: ``[n, d]`` floats, written in their precision (bfloat16 is widened to float32).

    Raises:
        InputError: the extension or the array is invalid, or the file cannot be written.
    """
    name = one_line(path)
    if Path(path).suffix.lower() != ".npy":
        raise InputError(f"{name}: embeddings are written as .npy; end the name in .npy")
    matrix = _checked_matrix(np.asarray(points), name)
    check_rows(matrix, name)
    atomic_save_npy(path, matrix)


def write_coordinates(path: StrPath, points: ArrayLike) -> None:
    """Write points as text, as tables of spherical codes keep them.

    A line is a point: its coordinates, separated by spaces, with all digits of a float64.

    Raises:
        InputError: the file cannot be written.
    """
    rows = np.asarray(points, np.float64).tolist()
    atomic_write_text(path, "".join(" ".join(map(repr, row)) + "\n" for row in rows))


def check_same_dim(*files: Embeddings, dim: int | None = None) -> int:
    """Check that several files have the same dimension, which must be ``dim`` if that is given.

    Args:
        files: embeddings that were read.
        dim: dimension requested elsewhere, such as on the command line.

    Returns:
        The common dimension d.

    Raises:
        InputError: two dimensions differ, or neither a file nor ``dim`` is given.
    """
    known = [(one_line(file.path), file.dim) for file in files]
    if dim is not None:
        known.insert(0, ("the setting dim", dim))
    if not known:
        raise InputError("no dimension: give a dimension or a file of embeddings")
    (first, common), *others = known
    for name, other in others:
        if other != common:
            raise InputError(
                f"{name}: rows have dimension {other}, not {common} as in {first}; "
                "use embeddings of the same model"
            )
    return common


def file_sha256(path: StrPath) -> str:
    """Return the hexadecimal SHA-256 digest of a file's content.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error


def array_sha256(path: StrPath, key: str | None = None) -> str:
    """Return the hexadecimal SHA-256 digest of a file's content, and of the key if one is given.

    Args:
        path: a file, or ``FILE:KEY``.
        key: the array in the file; it takes precedence over the key in the path.

    Raises:
        InputError: the file cannot be read.
    """
    file, named = split_key(path)
    key, digest = named if key is None else key, file_sha256(file)
    return digest if key is None else hashlib.sha256(f"{digest}:{key}".encode()).hexdigest()


# Rows


def _blocks(matrix: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows in float64, one block at a time so that not all of them are held in float64."""
    step = max(1, _BLOCK_BYTES // (8 * matrix.shape[1]))
    for start in range(0, matrix.shape[0], step):
        with np.errstate(invalid="ignore", over="ignore"):  # NaN are reported later
            rows = matrix[start : start + step].astype(np.float64)
        yield rows


def check_rows(matrix: np.ndarray, name: str) -> np.ndarray:
    """Refuse rows without a direction, and return the largest magnitude in each.

    Args:
        matrix: ``[n, d]`` floats; read one block at a time.
        name: name of the matrix in error messages.

    Returns:
        The largest magnitudes, float64 ``[n]``.

    Raises:
        InputError: a row is zero, or contains NaN or infinite values.
    """
    largest = np.concatenate([np.abs(rows).max(axis=1) for rows in _blocks(matrix)])
    for kind, bad in (("NaN or infinite", ~np.isfinite(largest)), ("zero", largest == 0)):
        where = np.flatnonzero(bad)
        if where.size:
            raise InputError(
                f"{name}: {where.size} of {largest.size} rows are {kind}, the first is row "
                f"{where[0]} counted from 0; remove them"
            )
    return largest


def unit_rows(raw: np.ndarray, name: str) -> np.ndarray:
    """Scale rows to unit length as :func:`read_embeddings` does: float32 ``[n, d]``.

    Raises:
        InputError: as for :func:`check_rows`.
    """
    # Dividing by the largest entry first keeps the squares from underflowing or overflowing.
    largest = check_rows(raw, name)
    unit = np.empty(raw.shape, np.float32)
    start = 0
    for rows in _blocks(raw):
        block = slice(start, start := start + rows.shape[0])
        scale = largest[block, None]
        norm = np.linalg.norm(rows / scale, axis=1, keepdims=True)
        unit[block] = rows / scale / norm
        if raw.dtype.itemsize == 4:
            keep = np.abs(norm * scale - 1)[:, 0] <= UNIT_TOLERANCE
            unit[block][keep] = raw[block][keep]
    return unit


def _count_duplicates(points: np.ndarray) -> int:
    """Count rows equal to an earlier one, by digest, in linear time and 16 bytes per row."""
    seen = {hashlib.blake2b(row + np.float32(0), digest_size=16).digest() for row in points}
    return points.shape[0] - len(seen)


def _checked_matrix(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind != "f":
        kind = "raw 2-byte values (bfloat16?)" if array.dtype.kind == "V" else array.dtype.name
        raise InputError(f"{name}: holds {kind}, not floats; save the embeddings as float32")
    if array.ndim != 2:
        raise InputError(
            f"{name}: has shape {array.shape}; reshape it to [n, d], one embedding per row"
        )
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise InputError(f"{name}: is empty, with shape {array.shape}; give at least one row")
    if array.shape[1] == 1:
        raise InputError(f"{name}: rows have dimension 1; at least 2 are needed")
    return array
