"""PyTorch weight files, read without PyTorch and without running code from a pickle.

A .pt, .pth or .ckpt file is a zip archive. It contains a pickle that describes tensors, and one record
of raw numbers for each storage. The unpickler used here knows only the few names that describe tensors.
Names from well-known training packages become placeholders, which are never imported. Any other name is
refused.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_write_bytes, one_line, os_input_error
from hyperface_jax.io.numpy_pickles import STANDS_FOR, PickledArray, Stand

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath

_WRAPPERS = ("state_dict", "state_dict_backbone", "model_state_dict", "model", "backbone", "net")
"""Keys under which training programs store the weights, in the order in which they are tried."""
_SHOWN = 8

_STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}

_INERT_PACKAGES = ("argparse", "lightning", "omegaconf", "pathlib", "pytorch_lightning", "typing")

_INERT_NAMES = {
    "builtins": {"bool", "complex", "dict", "float", "frozenset", "int", "list", "set", "str"},
    "_codecs": {"encode"},
    "collections": {"defaultdict", "Counter"},
    "numpy": {"dtype"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "numpy._core.multiarray": {"scalar", "_reconstruct"},
    "torch": {"device", "Size", "Generator"},
}
_INERT_NAMES["__builtin__"] = _INERT_NAMES["builtins"]
_INERT_NAMES["torch"] |= {"float32", "float64", "float16", "bfloat16", "int64", "int32", "bool"}

_SUFFIXES = (".safetensors", ".pt", ".pth")


def read_state_dict(path: StrPath, *, parts: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read the named tensors of a PyTorch or safetensors file.

    Args:
        path: a .safetensors file, or a file written by ``torch.save`` (.pt, .pth, .ckpt).
        parts: names of inner dictionaries of a file written by ``torch.save`` whose tensors are read
            instead, as ``part.name``, which is how .safetensors files name them; if it has them.

    Returns:
        The tensors, in the order and the types of the file. If a checkpoint stores them under
        ``state_dict``, ``state_dict_backbone`` (insightface) or another usual key, they are taken from
        there, and the rest of the checkpoint is ignored.

    Raises:
        InputError: the file is missing, truncated or damaged, is in the format used before PyTorch 1.6,
            refers to anything but tensors and well-known settings, or holds no tensors.
    """
    name = one_line(path)
    try:
        with Path(path).open("rb") as file:
            head = file.read(9)
        arrays = _reader(head, name)(Path(path), name, parts)
    except InputError:
        raise
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error
    except MemoryError as error:
        raise InputError(f"{name}: does not fit in memory; save the weights alone") from error
    except Exception as error:  # damage makes the parsers raise nearly anything
        detail = one_line(error) or type(error).__name__
        raise InputError(
            f"{name}: truncated or damaged ({detail}); copy or download it again"
        ) from error
    if not arrays:
        raise InputError(f"{name}: holds no named tensors; save model.state_dict()")
    return arrays


def is_torch_zip(path: StrPath) -> bool:
    """Tell whether a file is a zip archive as ``torch.save`` writes it, whatever its name."""
    if not Path(path).is_file():  # Opening a pipe would wait for its other end.
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(_pickle_names(archive))
    except (OSError, zipfile.BadZipFile):
        return False


def read_arrays(path: StrPath) -> np.ndarray | dict[str, np.ndarray]:
    """Read what ``torch.save`` wrote of a tensor or NumPy array, or of a dictionary of them.

    IDiff-Face keeps its contexts like this: a dictionary from names to vectors, in a file called .npy.

    Args:
        path: a file for which :func:`is_torch_zip` holds.

    Returns:
        The array, or the arrays by name in the order of the file.

    Raises:
        InputError: the file asks for anything but tensors and arrays, or holds something else.
    """
    name = one_line(path)
    with zipfile.ZipFile(path) as archive:
        content, records = _unpickled(archive, name, _ArrayUnpickler)
        content = content if isinstance(content, dict) else {"": content}
        arrays = {str(key): _plain(value, records) for key, value in content.items()}
    found = {key: array for key, array in arrays.items() if array is not None}
    if len(found) < len(arrays) or not found:
        raise InputError(
            f"{name}: holds no dictionary of tensors or arrays; save one of them alone"
        )
    return found[""] if list(found) == [""] else found


def _plain(value: Any, records: _Records) -> np.ndarray | None:
    if isinstance(value, PickledArray):
        return value.values
    return records.array(value) if isinstance(value, _Tensor) else None


def write_state_dict(path: StrPath, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to a .safetensors file, or through PyTorch to a .pt or .pth file.

    Args:
        path: the file to write, replaced in one step.
        arrays: arrays by name, of any type that PyTorch supports.

    Raises:
        InputError: the extension is unknown, PyTorch or safetensors is not installed, or the file
            cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(f"{one_line(path)}: name a file in {', '.join(_SUFFIXES)}")
    plain = {key: np.ascontiguousarray(array).reshape(array.shape) for key, array in arrays.items()}
    encode = _safetensors_bytes if suffix == ".safetensors" else _torch_bytes
    atomic_write_bytes(path, encode(plain, one_line(path)))


def _reader(head: bytes, name: str) -> Any:
    """Choose a reader by the first bytes."""
    if head.startswith(b"PK"):
        return _read_zip
    if head[8:] == b"{":
        return _read_safetensors
    if head.startswith(b"\x80"):
        raise InputError(
            f"{name}: is a bare pickle or in the format before PyTorch 1.6; load it with PyTorch "
            "where you trust it, and save model.state_dict() again"
        )
    raise InputError(f"{name}: not a PyTorch or safetensors file; save model.state_dict()")


def _read_safetensors(path: Path, name: str, parts: Sequence[str]) -> dict[str, np.ndarray]:
    del parts
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise _missing(name, "safetensors") from error
    with safe_open(path, "np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def _read_zip(path: Path, name: str, parts: Sequence[str]) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        content, records = _unpickled(archive, name, _Unpickler)
        tensors = _tensors_of_parts(content, parts) or _named_tensors(content)
        if not tensors and isinstance(content, dict) and content:
            raise InputError(f"{name}: {_without_tensors(content)}")
        return {key: records.array(tensor) for key, tensor in tensors.items()}


def _unpickled(
    archive: zipfile.ZipFile, name: str, unpickler: type[_Unpickler]
) -> tuple[Any, _Records]:
    """Return the content of the pickle of an archive, and the storages that it speaks of."""
    found = _pickle_names(archive)
    if len(found) != 1:
        raise InputError(f"{name}: a zip archive without tensors; save model.state_dict()")
    records = _Records(archive, found[0].removesuffix("data.pkl"), name)
    return unpickler(io.BytesIO(archive.read(found[0])), name).load(), records


def _pickle_names(archive: zipfile.ZipFile) -> list[str]:
    return [entry for entry in archive.namelist() if entry.split("/")[1:] == ["data.pkl"]]


def _named_tensors(content: Any) -> dict[str, _Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        return {}
    return {str(key): value for key, value in content.items() if isinstance(value, _Tensor)}


def _tensors_of_parts(content: Any, parts: Sequence[str]) -> dict[str, _Tensor]:
    inner = {part: content.get(part) for part in parts} if isinstance(content, dict) else {}
    return {
        f"{part}.{key}": value
        for part, tensors in inner.items()
        for key, value in _named_tensors(tensors).items()
    }


def _without_tensors(content: dict[Any, Any]) -> str:
    """Say what a dictionary holds instead of tensors, and what to save."""
    shown = ", ".join(one_line(key) for key in list(content)[:_SHOWN])
    deeper = [one_line(key) for key, value in content.items() if _named_tensors(value)]
    mend = f"save what is under {deeper[0]!r} alone" if deeper else "save model.state_dict()"
    usual = ", ".join(_WRAPPERS)
    return f"holds no named tensors at the top level or under {usual}, but {shown}; {mend}"


class _Storage(NamedTuple):
    dtype: Any
    key: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Records:
    """The storages of an archive, each read once."""

    def __init__(self, archive: zipfile.ZipFile, root: str, name: str) -> None:
        self._archive = archive
        self._root = root
        self._read: dict[str, bytes] = {}
        if f"{root}byteorder" in archive.namelist() and self._record("byteorder") != b"little":
            raise InputError(f"{name}: big-endian numbers; save it on a little-endian machine")

    def _record(self, key: str) -> bytes:
        return self._archive.read(self._root + key)

    def array(self, tensor: _Tensor) -> np.ndarray:
        """Copy a tensor out of its storage."""
        storage = tensor.storage
        if storage.key not in self._read:
            self._read[storage.key] = self._record(f"data/{storage.key}")
        flat = np.frombuffer(self._read[storage.key], storage.dtype)
        last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
        numbers = (tensor.offset, *tensor.shape, *tensor.strides)
        # A view beyond its storage would read foreign memory, or crash.
        if min(numbers) < 0 or (all(tensor.shape) and tensor.offset + last >= flat.size):
            raise ValueError("a tensor reaches beyond its storage")
        if not all(tensor.shape):
            return np.zeros(tensor.shape, storage.dtype)
        strides = [step * flat.itemsize for step in tensor.strides]
        view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides)
        return np.array(view, order="C")


class _Inert:
    """Placeholder for an object of a package that is not imported; it ignores all operations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs

    def __setstate__(self, state: Any) -> None:
        del state

    def __setitem__(self, key: Any, value: Any) -> None:
        del key, value

    def append(self, item: Any) -> None:
        """Ignore an item."""
        del item

    def extend(self, items: Any) -> None:
        """Ignore items."""
        del items


class _Unpickler(pickle.Unpickler):
    """An unpickler that creates only tensors, plain containers and placeholders."""

    def __init__(self, file: io.BytesIO, name: str) -> None:
        super().__init__(file)
        self._name = name

    def find_class(self, module: str, name: str) -> Any:
        """Return a substitute for a global name, without importing it."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return self._rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return self._rebuild_parameter
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        if module.partition(".")[0] in _INERT_PACKAGES or name in _INERT_NAMES.get(module, ()):
            return _Inert
        raise InputError(
            f"{self._name}: refused, as it names {one_line(module)}.{one_line(name)}, which could "
            "run code; where you trust it, load it with PyTorch and save model.state_dict()"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        """Describe a storage; its numbers are read when they are needed."""
        kind, dtype, key, _, size = pid
        if kind != "storage" or not isinstance(key, str) or dtype not in _STORAGES.values():
            raise pickle.UnpicklingError(f"unknown storage {pid!r}")
        return _Storage(dtype, key, size)

    # These are methods because a pickle could alter the defaults of a function, not of a bound method.
    def _rebuild_tensor(
        self, storage: _Storage, offset: int, shape: Any, strides: Any, *settings: Any
    ) -> _Tensor:
        del settings
        return _Tensor(storage, offset, tuple(shape), tuple(strides))

    def _rebuild_parameter(self, data: _Tensor, *settings: Any) -> _Tensor:
        del settings
        return data


class _ArrayUnpickler(_Unpickler):
    """An unpickler that creates NumPy arrays, too."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a substitute for a global name, without importing it."""
        known = (module, name) in STANDS_FOR
        return Stand((module, name)) if known else super().find_class(module, name)


def _safetensors_bytes(arrays: dict[str, np.ndarray], name: str) -> bytes:
    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise _missing(name, "safetensors") from error
    return save(arrays)


def _torch_bytes(arrays: dict[str, np.ndarray], name: str) -> bytes:
    try:
        import torch
    except ImportError as error:
        raise _missing(name, "torch") from error

    def tensor(array: np.ndarray) -> torch.Tensor:
        if array.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
        return torch.from_numpy(array.copy())

    buffer = io.BytesIO()
    torch.save(OrderedDict((key, tensor(array)) for key, array in arrays.items()), buffer)
    return buffer.getvalue()


def _missing(name: str, library: str) -> InputError:
    return InputError(f"{name}: this format needs {library}; pip install {library}")
