"""The file formats of embeddings, with a reader for each that returns the array as it is stored.

The extension determines the format, and must match the first bytes. Files of ``torch.save`` are known by
their content, because those of IDiff-Face are called .npy. Nothing here checks values. A path
``FILE:KEY`` selects one of the arrays in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line, os_input_error
from hyperface_jax.io.torch_files import is_torch_zip, read_arrays

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath

KEYS = ("embeddings", "embedding", "points", "x")
"""Names to look for, in this order, in a file that holds several arrays or columns."""


def split_key(path: StrPath) -> tuple[Path, str | None]:
    """Split a path ``FILE:KEY`` into the file and the name of an array in it.

    Args:
        path: a file, whose name may contain colons, or ``FILE:KEY``, where KEY may contain colons too.

    Returns:
        The file and the key. The key is None if the whole path is a file, or if no part of it is one.
    """
    whole = str(path)
    if ":" not in whole or Path(whole).exists():
        return Path(path), None
    for place in (i for i, letter in enumerate(whole) if letter == ":"):
        if Path(whole[:place]).is_file():
            return Path(whole[:place]), whole[place + 1 :]
    return Path(path), None


def read_array(path: StrPath, key: str | None) -> np.ndarray:
    """Read an array of any shape and type as it is stored.

    Args:
        path: a .npy, .npz, .safetensors or .parquet file, or ``FILE:KEY``. A .npy, .pt or .pth file that
            ``torch.save`` wrote holds a matrix, several, or a dictionary of vectors, which are the rows.
        key: the array or column to read. Without a key, the only array of the file is read, or else the
            first of ``KEYS`` that exists, or else (parquet) all columns as the dimensions. A .npy file
            holds a single array, so the key is ignored.

    Returns:
        The array; for a .npy file, a read-only memory map.

    Raises:
        InputError: the file is missing, damaged or of another format, or has no such array.
    """
    name = one_line(path)
    file, named = split_key(path)
    suffix = _TORCH if is_of_torch(file) else _checked_suffix(file, name)
    if named is not None and suffix == ".npy":
        raise InputError(f"{name}: a .npy file holds one array; name the file alone")
    try:
        return _READERS[suffix](file, name, named if key is None else key)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{name}: does not fit in memory; split it or save float16") from error
    except Exception as error:  # a damaged file makes the parsers raise nearly anything
        raise _damaged(name, error) from error


def is_of_torch(path: StrPath) -> bool:
    """Tell whether ``torch.save`` wrote a file that may hold embeddings."""
    path = Path(path)
    return path.suffix.lower() in (_TORCH, ".pth", ".npy") and is_torch_zip(path)


def vector_names(path: StrPath) -> np.ndarray | None:
    """Return the name of each row of a dictionary of vectors, ``[n]``, or None for another file."""
    if not is_of_torch(path):
        return None
    arrays = read_arrays(path)
    is_rows = isinstance(arrays, dict) and _are_vectors(arrays)
    return np.array(list(arrays)) if is_rows else None


def _checked_suffix(path: Path, name: str) -> str:
    """Return the format that the extension tells, after checking that the content matches it."""
    content = _sniff(path, name)
    suffix = path.suffix.lower()
    if suffix == content:
        return suffix
    # Many files, such as PyTorch checkpoints, are zip archives: do not take those for .npz files.
    if content is not None and (suffix in _READERS or content != ".npz"):
        raise InputError(f"{name}: the content is {content}; rename the file to end in {content}")
    if suffix in _READERS:
        raise InputError(
            f"{name}: the content is not {suffix}, or its beginning is lost; write the file again"
        )
    raise InputError(f"{name}: not an embedding file; save the array as {', '.join(_READERS)}")


def _sniff(path: Path, name: str) -> str | None:
    """Tell the format from the first bytes."""
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
    """Choose an array: the one of the caller's key, the only one, or one with a well-known name."""
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
    raise InputError(f"{name}: which {what}? give a key as in FILE:KEY, one of: {found}")


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
            "floats in lists or one float column per dimension; choose another key or convert it"
        )


def _list_rows(column: Any, name: str) -> np.ndarray:
    """Turn an Arrow column of lists of equal length into a matrix."""
    if len(column) == 0:
        return np.empty((0, 0), np.float32)
    chunks = [getattr(chunk, "storage", chunk) for chunk in column.chunks]
    length = np.concatenate([_list_lengths(chunk) for chunk in chunks])
    odd = np.flatnonzero(length != length[0])
    if length[0] < 0 or odd.size:
        row = 0 if length[0] < 0 else odd[0]
        what = "missing" if length[row] < 0 else f"{length[row]} long, row 0 is {length[0]} long"
        raise InputError(f"{name}: row {row} is {what}; make all rows the same length")
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks]
    return np.concatenate(values).reshape(length.size, int(length[0]))


def _list_lengths(chunk: Any) -> np.ndarray:
    """Return the length of each list, -1 for a missing one."""
    import pyarrow.compute as pc

    lengths = pc.call_function("list_value_length", [chunk])
    return lengths.fill_null(-1).to_numpy(zero_copy_only=False)


def _read_torch(path: Path, name: str, key: str | None) -> np.ndarray:
    arrays = read_arrays(path)
    if isinstance(arrays, np.ndarray):
        return arrays
    if key is not None or not _are_vectors(arrays):
        return arrays[_pick(list(arrays), key, name)]
    rows = [np.ravel(array) for array in arrays.values()]
    odd = next((i for i, row in enumerate(rows) if row.size != rows[0].size), None)
    if odd is not None:
        raise InputError(
            f"{name}: {one_line(list(arrays)[odd])!r} is {rows[odd].size} long, the first vector is "
            f"{rows[0].size} long; make all the same length"
        )
    return np.stack(rows)


def _are_vectors(arrays: dict[str, np.ndarray]) -> bool:
    return all(array.ndim in (1, 2) and array.size == max(array.shape) for array in arrays.values())


def _missing_extra(name: str, library: str) -> InputError:
    return InputError(f"{name}: reading it needs {library}; pip install '.[cli]' in a checkout")


_MAGICS = {
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".npz",
    b"PK\x05\x06": ".npz",
    b"PAR1": ".parquet",
}

_TORCH = ".pt"
_READERS: dict[str, Callable[[Path, str, str | None], np.ndarray]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".parquet": _read_parquet,
    _TORCH: _read_torch,
}
