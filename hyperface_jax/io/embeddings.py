"""Embedding files: .npy, .npz, .safetensors and .parquet in, unit rows out.

Three steps, apart: a reader per format returns the array as it is stored, :func:`read_points`
checks that it is a matrix of floats, and :func:`read_embeddings` checks every row and scales it to
unit length. Rows that are float32 and of unit length already are handed on bit for bit, so a frozen
identity keeps its exact embedding however often it is read and written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_save_npy, one_line, os_input_error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from hyperface_jax.io.files import StrPath

KEYS = ("embeddings", "embedding", "points", "x")
"""Names looked for, in this order, in a file that holds several arrays or columns."""

UNIT_TOLERANCE = 1e-6
"""A float32 row whose length is this close to 1 is left as it is."""

_BLOCK_BYTES = 1 << 25


@dataclass(frozen=True)
class Embeddings:
    """Unit rows read from a file.

    Attributes:
        points: float32 ``[n, d]`` in C order, unit rows, held apart from the file.
        path: the file.
        num_duplicates: rows that point in exactly the direction of an earlier row.
        sha256: hexadecimal digest of the file's content, to tell whether a resumed run sees the
            same data.
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
    length comes back bit for bit, which also makes reading what :func:`write_embeddings` wrote the
    identity. The format is told by the extension and must match the content.

    Args:
        path: a .npy, .npz, .safetensors or .parquet file of floats, one embedding a row.
        key: the array or column to read. Without it a file's only array is read, else the first of
            ``KEYS`` that is there, else (parquet) all columns as the dimensions. A .npy file holds
            one array and ignores it.

    Returns:
        The embeddings; duplicate rows are counted, for the caller to warn about.

    Raises:
        InputError: in one line, what is wrong with the file, where, and how to mend it.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "faces.npy"
        >>> np.save(path, np.array([[3.0, 4.0], [0.0, -2.0]]))
        >>> read_embeddings(path).points.tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, -1.0]]
    """
    raw = read_points(path, key=key)
    points = _unit_rows(raw, one_line(path))
    return Embeddings(points, Path(path), _count_duplicates(points), file_sha256(path))


def read_points(path: StrPath, *, key: str | None = None) -> np.ndarray:
    """Read a matrix of floats as it is stored, without looking at its values.

    Args:
        path: as for :func:`read_embeddings`.
        key: as for :func:`read_embeddings`.

    Returns:
        ``[n, d]`` in the stored precision (bfloat16 widened to float32), n >= 1 and d >= 2. From a
        .npy file this is a read-only memory map.

    Raises:
        InputError: the file cannot be read as such a matrix.
    """
    path = Path(path)
    name = one_line(path)
    suffix = _checked_suffix(path, name)
    try:
        array = _READERS[suffix](path, name, key)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{name}: does not fit in memory; split it or save float16") from error
    except Exception as error:  # a damaged file makes the parsers raise nearly anything
        raise _damaged(name, error) from error
    return _checked_matrix(array, name)


def write_embeddings(path: StrPath, points: ArrayLike) -> None:
    """Write embeddings to a .npy file in one step.

    Args:
        path: where to; must end in ``.npy``.
        points: ``[n, d]`` floats, kept in their precision (bfloat16 is widened to float32).

    Raises:
        InputError: the extension or the array is not as above, or the file cannot be written.
    """
    name = one_line(path)
    if Path(path).suffix.lower() != ".npy":
        raise InputError(f"{name}: embeddings are written as .npy; end the name in .npy")
    matrix = _checked_matrix(np.asarray(points), name)
    _check_rows(matrix, name)
    atomic_save_npy(path, matrix)


def check_same_dim(*files: Embeddings, dim: int | None = None) -> int:
    """Check that several files agree on the dimension, and with ``dim`` if it is given.

    Args:
        files: the embeddings read.
        dim: the dimension asked for elsewhere, such as on the command line.

    Returns:
        The common dimension d.

    Raises:
        InputError: two of them differ, or there is neither a file nor ``dim``.
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
                "use embeddings of one model"
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


# Rows


def _blocks(matrix: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows in float64, a block at a time so that the whole is never held in float64."""
    step = max(1, _BLOCK_BYTES // (8 * matrix.shape[1]))
    for start in range(0, matrix.shape[0], step):
        with np.errstate(invalid="ignore", over="ignore"):  # of NaN, which are reported later
            rows = matrix[start : start + step].astype(np.float64)
        yield rows


def _check_rows(matrix: np.ndarray, name: str) -> np.ndarray:
    """Refuse rows without a direction and return the largest magnitude in each row, ``[n]``."""
    largest = np.concatenate([np.abs(rows).max(axis=1) for rows in _blocks(matrix)])
    for kind, bad in (("NaN or infinite", ~np.isfinite(largest)), ("zero", largest == 0)):
        where = np.flatnonzero(bad)
        if where.size:
            raise InputError(
                f"{name}: {where.size} of {largest.size} rows are {kind}, the first is row "
                f"{where[0]} counted from 0; remove them"
            )
    return largest


def _unit_rows(raw: np.ndarray, name: str) -> np.ndarray:
    # Dividing by the largest entry first keeps the squares from under- and overflowing.
    largest = _check_rows(raw, name)
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
    """Count rows equal to an earlier one, by digest: linear time and 16 bytes a row."""
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
            f"{name}: has shape {array.shape}; reshape it to [n, d], one embedding a row"
        )
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise InputError(f"{name}: is empty, with shape {array.shape}; give at least one row")
    if array.shape[1] == 1:
        raise InputError(f"{name}: rows have dimension 1; at least 2 are needed")
    return array


# Formats


def _checked_suffix(path: Path, name: str) -> str:
    """Return the format told by the extension, having checked that the content is of it."""
    content = _sniff(path, name)
    suffix = path.suffix.lower()
    if suffix == content:
        return suffix
    # Many things are zip archives, PyTorch checkpoints among them: do not take those for .npz.
    if content is not None and (suffix in _READERS or content != ".npz"):
        raise InputError(f"{name}: the content is {content}; rename the file to end in {content}")
    if suffix in _READERS:
        raise InputError(
            f"{name}: the content is not {suffix}, or its beginning is lost; write the file again"
        )
    raise InputError(f"{name}: not an embedding file; save the array as {', '.join(_READERS)}")


def _sniff(path: Path, name: str) -> str | None:
    """Tell the format by the first bytes."""
    if path.exists() and not path.is_file():
        kind = "a directory" if path.is_dir() else "not a regular file"
        raise InputError(f"{name}: is {kind}; name a file of embeddings")
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error
    if not head:
        raise InputError(f"{name}: is empty; write the file again")
    for magic, suffix in _MAGICS.items():
        if head.startswith(magic):
            return suffix
    # An 8-byte header length, then a JSON object.
    return ".safetensors" if head[8:] == b"{" else None


def _damaged(name: str, detail: object) -> InputError:
    return InputError(
        f"{name}: truncated or damaged ({one_line(detail)}); copy or write the file again"
    )


def _pickled(name: str) -> InputError:
    return InputError(
        f"{name}: holds pickled Python objects, which are refused as they can run code; "
        "save a plain float32 array"
    )


def _pick(names: Sequence[str], key: str | None, name: str, what: str = "array") -> str:
    """Choose an array by the caller's key, by being the only one, or by a well-known name."""
    found = ", ".join(repr(one_line(other)) for other in names[:20]) or "none"
    if key is not None:
        if key not in names:
            raise InputError(f"{name}: no {what} {key!r}; choose the key among: {found}")
        return key
    if len(names) == 1:
        return names[0]
    for known in KEYS:
        if known in names:
            return known
    raise InputError(f"{name}: which {what}? give a key, one of: {found}")


def _read_npy(path: Path, name: str, key: str | None) -> np.ndarray:
    del key
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "Python objects" in str(error):
            raise _pickled(name) from error
        raise


def _read_npz(path: Path, name: str, key: str | None) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as archive:
            chosen = _pick(archive.files, key, name)
            array = archive[chosen]
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise _pickled(name) from error
        raise
    if not isinstance(array, np.ndarray):
        raise InputError(f"{name}: {chosen!r} is not an array; choose another key")
    return array


def _read_safetensors(path: Path, name: str, key: str | None) -> np.ndarray:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise _missing_extra(name, "safetensors") from error
    with safe_open(path, "np") as file:
        chosen = _pick(list(file.keys()), key, name)
        stored = file.get_slice(chosen).get_dtype()
        if stored not in {"F16", "BF16", "F32", "F64"}:
            raise InputError(f"{name}: {chosen!r} holds {stored}; save floats as F32")
        return file.get_tensor(chosen)


def _read_parquet(path: Path, name: str, key: str | None) -> np.ndarray:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise _missing_extra(name, "pyarrow") from error
    with pq.ParquetFile(path) as file:
        columns = _pick_columns(file.schema_arrow, key, name)
        table = file.read(columns=columns)
    if _value_type(table.schema.field(0).type) is not None:
        return _list_rows(table.column(0), name)
    return np.stack([column.to_numpy() for column in table.columns], axis=1)


def _pick_columns(schema: Any, key: str | None, name: str) -> list[str]:
    """Choose one column of lists, or all columns as the dimensions."""
    # pandas stores an index that is not a plain range as a column of this name.
    fields = [field for field in schema if not field.name.startswith("__index_level_")]
    names = [field.name for field in fields]
    if len(set(names)) < len(names):
        raise InputError(f"{name}: two columns have the same name; rename one")
    lists = [field.name for field in fields if _value_type(field.type) is not None]
    if key is not None or lists or not names:
        chosen = _pick(lists if key is None else names, key, name, "column")
        _check_floats(_value_type(schema.field(chosen).type), chosen, schema, name)
        return [chosen]
    for field in fields:
        _check_floats(field.type, field.name, schema, name)
    return names


def _value_type(kind: Any) -> Any:
    """Return the type of the items of an Arrow list or tensor type, or None for another type."""
    from pyarrow import types

    kind = getattr(kind, "storage_type", kind)
    checks = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return kind.value_type if any(check(kind) for check in checks) else None


def _check_floats(kind: Any, column: str, schema: Any, name: str) -> None:
    if str(kind) not in {"halffloat", "float", "double"}:
        raise InputError(
            f"{name}: column {one_line(column)!r} holds {one_line(schema.field(column).type)}, not "
            "floats in lists or one float column a dimension; choose another key or convert it"
        )


def _list_rows(column: Any, name: str) -> np.ndarray:
    """Turn an Arrow column of lists of one length into a matrix."""
    if len(column) == 0:
        return np.empty((0, 0), np.float32)
    chunks = [getattr(chunk, "storage", chunk) for chunk in column.chunks]
    length = np.concatenate([_list_lengths(chunk) for chunk in chunks])
    odd = np.flatnonzero(length != length[0])
    if length[0] < 0 or odd.size:
        row = 0 if length[0] < 0 else odd[0]
        what = "missing" if length[row] < 0 else f"{length[row]} long, row 0 is {length[0]} long"
        raise InputError(f"{name}: row {row} is {what}; make every row one length")
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks]
    return np.concatenate(values).reshape(length.size, int(length[0]))


def _list_lengths(chunk: Any) -> np.ndarray:
    """Return the length of each list, -1 for a missing one."""
    import pyarrow.compute as pc

    lengths = pc.call_function("list_value_length", [chunk])
    return lengths.fill_null(-1).to_numpy(zero_copy_only=False)


def _missing_extra(name: str, library: str) -> InputError:
    return InputError(f"{name}: reading it needs {library}; pip install 'hyperface_jax[cli]'")


_MAGICS = {
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".npz",
    b"PK\x05\x06": ".npz",
    b"PAR1": ".parquet",
}

_READERS: dict[str, Callable[[Path, str, str | None], np.ndarray]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".parquet": _read_parquet,
}
