"""LMDB files of labeled face images, as HSFace, VFace and WebFace4M are shipped.

``__keys__`` holds the keys of all records and ``__len__`` their number, in msgpack. A record is a
msgpack array: the encoded image, possibly a feature, and the identity as a whole number; more may
follow. The database is one file, ``NAME.lmdb``, or the ``data.mdb`` of a folder.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line
from hyperface_jax.io.recordio import PositionalFile

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath

SUFFIX = ".lmdb"
DATA = "data.mdb"
"""File of a database that is a folder."""

_KEYS, _LENGTH = b"__keys__", b"__len__"
_LAYOUT = "msgpack [image, identity] or [image, feature, identity]"

_ENVIRONMENTS: dict[str, tuple[PositionalFile, Any]] = {}
_LOCK = threading.Lock()


def is_lmdb(path: StrPath) -> bool:
    """Tell whether a path is that of an LMDB: a file that ends in .lmdb, or a folder with data.mdb."""
    path = Path(path)
    return (path / DATA).is_file() or (path.suffix.lower() == SUFFIX and not path.is_dir())


class _Record(NamedTuple):
    image: bytes
    label: int


class LmdbFile:
    """Images and labels of an LMDB, with random access from any thread and, by pickle, any process.

    Attributes:
        path: path of the database, as it was given.
        keys: key of each image, bytes ``[n]``, in the order of the file's own list.
    """

    def __init__(self, path: StrPath) -> None:
        """Read the list of keys.

        Args:
            path: the file, or the folder that holds ``data.mdb``.

        Raises:
            InputError: the libraries lmdb and msgpack are not installed, or the file is missing, damaged
                or of another layout.
        """
        self.path = Path(path)
        file = self.path / DATA if self.path.is_dir() else self.path
        self._file = PositionalFile.of(file)
        keys = self._unpacked(_KEYS)
        if not isinstance(keys, list) or not all(isinstance(key, bytes) for key in keys):
            raise self._error("__keys__ is no list of keys; write it again")
        length = self._unpacked(_LENGTH)
        if length != len(keys):
            raise self._error(
                f"__len__ is {length!r} and __keys__ lists {len(keys)}; copy it again"
            )
        # Fixed-width bytes, because millions of Python objects would take gigabytes in every worker.
        self.keys = np.array(keys, np.bytes_)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """Read an encoded image and its label.

        Raises:
            InputError: the record is missing or damaged.
        """
        record = self._record(index)
        return record.image, record.label

    def labels_and_sizes(self) -> np.ndarray:
        """Read all records, and return the label and the size in bytes of each, int64 ``[n, 2]``.

        Raises:
            InputError: a record is missing or damaged.
        """
        records = (self._record(index) for index in range(len(self)))
        rows = [(record.label, len(record.image)) for record in records]
        return np.array(rows, np.int64).reshape(-1, 2)

    def _record(self, index: int) -> _Record:
        key = bytes(self.keys[index])
        match self._unpacked(key):
            case [bytes(image), *others]:
                whole = [value for value in others if isinstance(value, int)]
                if whole:
                    return _Record(image, whole[0])
        raise self._error(f"record {one_line(key.decode('latin-1'))} is not {_LAYOUT}")

    def _unpacked(self, key: bytes) -> Any:
        """Return the value of a key; text in it stays bytes, as old writers have no other bytes."""
        value = self._get(key)
        if value is None:
            name = one_line(key.decode("latin-1"))
            raise self._error(
                f"there is no {name}; give an LMDB with __keys__ and records {_LAYOUT}"
            )
        import msgpack

        try:
            return msgpack.unpackb(value, raw=True)
        except Exception as error:  # damage makes it raise several types
            name = one_line(key.decode("latin-1"))
            detail = one_line(error) or type(error).__name__
            raise self._error(f"{name} is no whole msgpack ({detail}); copy it again") from error

    def _get(self, key: bytes) -> bytes | None:
        lmdb = _library(self.path)
        try:
            with _LOCK:
                environment = _opened(self._file)
            with environment.begin() as transaction:
                return transaction.get(key)
        except lmdb.Error as error:
            raise self._error(
                f"cannot be read as LMDB ({one_line(error)}); copy it again"
            ) from error

    def _error(self, text: str) -> InputError:
        return InputError(f"{one_line(self.path)}: {text}")


def _library(path: Path) -> Any:
    try:
        import lmdb
        import msgpack
    except ImportError as error:
        raise InputError(
            f"{one_line(path)}: needs {error.name}; pip install '.[lmdb]' in a checkout"
        ) from error
    del msgpack
    return lmdb


def _opened(file: PositionalFile) -> Any:
    """Open a database once in a process, which LMDB demands, and again after the file has changed."""
    known, environment = _ENVIRONMENTS.get(file.path, (None, None))
    if known != file:
        if environment is not None:
            environment.close()
        flags = {"subdir": False, "readonly": True, "lock": False, "readahead": False}
        environment = _library(Path(file.path)).open(file.path, meminit=False, **flags)
        _check_whole(environment, file)
        _ENVIRONMENTS[file.path] = file, environment
    return environment


def _check_whole(environment: Any, file: PositionalFile) -> None:
    """Refuse a file that is cut off, since reading beyond its end would kill the process."""
    num_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if num_bytes > file.size:
        environment.close()
        raise InputError(
            f"{one_line(file.path)}: is cut off, {file.size} of {num_bytes} bytes; copy it again"
        )
