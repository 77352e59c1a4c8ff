"""Record files of labeled images: insightface's ``.rec`` and ``.idx`` without MXNet, and ArrayRecord.

A record of a ``.rec`` file consists of a magic word, a word with its length and its kind of part, and
the data, padded to four bytes. If the data contain the magic word at a multiple of four bytes, they are
split there into parts, and the word is left out. The data of an image are a header (flag, label, id,
id2), ``flag`` float labels if ``flag`` > 0, and the encoded image. In insightface's files, record 0
holds no image: its first label is the end of the range of records that do. If record 0 holds an image,
it is a record like any other. The ``.idx`` file has a line ``key<TAB>offset`` for each record.

A record of an ArrayRecord file is the label (four bytes, little-endian and signed) followed by the
encoded image.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_write_bytes, one_line, os_input_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hyperface_jax.io.files import StrPath

_MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_HEADER = struct.Struct("<IfQQ")
_FRAME = struct.Struct("<II")
_HEAD_SIZE = _FRAME.size + _HEADER.size + 4
"""Number of bytes of a record up to and including the first float label."""
_LENGTH_BITS = 29
_MAX_LENGTH = (1 << _LENGTH_BITS) - 1
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_BLOCK_RECORDS = 1 << 16
_LABEL = struct.Struct("<i")
_READ_RECORDS = 1 << 10


class PositionalFile(NamedTuple):
    """A file that can be read at any offset and from any thread; each process opens it anew.

    Attributes:
        path: path of the file.
        size: size of the file in bytes.
        stamp: time of its last change, so that a rewritten file is opened again.
    """

    path: str
    size: int
    stamp: int

    @classmethod
    def of(cls, path: StrPath) -> PositionalFile:
        """Look a file up.

        Raises:
            InputError: the file is missing, or is not a file.
        """
        try:
            with Path(path).open("rb") as file:
                stat = os.fstat(file.fileno())
        except OSError as error:
            raise os_input_error(path, "cannot read", error) from error
        return cls(str(path), stat.st_size, stat.st_mtime_ns)

    def read(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes, fewer at the end of the file.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            return os.pread(_opened(self).fileno(), length, offset)
        except OSError as error:
            raise os_input_error(self.path, "cannot read", error) from error


# Bounded, because a set may have more shards than a process can open files.
@lru_cache(maxsize=256)
def _opened(file: PositionalFile) -> IO[bytes]:
    return Path(file.path).open("rb", buffering=0)


class RecordIO:
    """Images and labels of a ``.rec`` file, with random access.

    Attributes:
        path: the ``.rec`` file.
        keys: keys of the records that hold an image, int64 ``[n]``.
        offsets: byte offsets at which these records start in the file, int64 ``[n]``.
    """

    def __init__(self, path: StrPath) -> None:
        """Read the index and check that each record lies within the file.

        Args:
            path: a ``.rec`` file, with its ``.idx`` file next to it.

        Raises:
            InputError: either file is missing or damaged.
        """
        self.path = Path(path)
        self._file = PositionalFile.of(path)
        keys, offsets = _read_index(self.path.with_suffix(".idx"))
        bad = (offsets < 0) | (offsets % 4 != 0) | (offsets + _FRAME.size > self._file.size)
        if np.any(bad):
            key, offset = keys[bad][0], offsets[bad][0]
            raise self._error(int(key), f"the index puts it at byte {offset}, which is impossible")
        self.keys, self.offsets = self._with_image(keys, offsets)

    def _with_image(self, keys: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keep the records that hold images."""
        zero = np.flatnonzero(keys == 0)
        if not len(zero):
            return keys, offsets
        flag, labels, image = self._unpacked(0, int(offsets[zero[0]]))
        if flag == 0 or image:
            return keys, offsets
        order = np.argsort(keys, kind="stable")
        self._check_end(labels[0], int(keys[order[-1]]), int(offsets[order[-1]]))
        wanted = np.arange(1, max(int(labels[0]), 1))
        place = np.searchsorted(keys, wanted, sorter=order)
        if len(wanted) and (place[-1] == len(keys) or np.any(keys[order[place]] != wanted)):
            raise InputError(
                f"{one_line(self.path)}: record 0 promises records 1 to {wanted[-1]}, but the .idx "
                "file lacks some; write it again"
            )
        return wanted, offsets[order[place]]

    def _check_end(self, end: float, last: int, offset: int) -> None:
        """Refuse a range that leaves out images; insightface puts records without images after it."""
        if not (np.isfinite(end) and float(end).is_integer()):
            raise self._error(0, f"it ends the range of images at {end}; a whole number is needed")
        # Some writers store the last image as the end of the range, which loses that image.
        if last > end and self._unpacked(last, offset)[2]:
            raise InputError(
                f"{one_line(self.path)}: record 0 ends the range of images at {int(end)}, but record "
                f"{last} holds one too; write record 0 again with label [{last + 1}, {last + 1}]"
            )

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """Read an encoded image and its label.

        Raises:
            InputError: the record is damaged, or its label is not a whole number.
        """
        key = int(self.keys[index])
        _, labels, image = self._unpacked(key, int(self.offsets[index]))
        label = float(labels[0])
        if not label.is_integer():
            raise self._error(key, f"its label is {label}; a whole number is needed")
        return image, int(label)

    def labels(self) -> np.ndarray:
        """Read the label of every image, int64 ``[n]``, without reading the images.

        Raises:
            InputError: a record is damaged, or its label is not a whole number.
        """
        labels = np.empty(len(self), np.int64)
        for start in range(0, len(self), _BLOCK_RECORDS):
            offsets = self.offsets[start : start + _BLOCK_RECORDS]
            labels[start : start + len(offsets)] = self._labels_of(offsets, start)
        return labels

    def _labels_of(self, offsets: np.ndarray, start: int) -> np.ndarray:
        heads = [self._file.read(int(offset), _HEAD_SIZE) for offset in offsets]
        joined = b"".join(head.ljust(_HEAD_SIZE, b"\0") for head in heads)
        words = np.frombuffer(joined, "<u4").reshape(len(offsets), -1)
        labels = np.where(words[:, 2] > 0, words[:, -1], words[:, 3]).view("<f4")
        plain = (words[:, 0] == _MAGIC) & (words[:, 1] >> _LENGTH_BITS == _WHOLE)
        plain &= (words[:, 1] >= _HEAD_SIZE - _FRAME.size) & (labels == np.rint(labels))
        result = np.where(plain, labels, 0).astype(np.int64)
        for i in np.flatnonzero(~plain):
            result[i] = self[start + int(i)][1]
        return result

    def _unpacked(self, key: int, offset: int) -> tuple[int, np.ndarray, bytes]:
        """Return the flag, the labels and the image of the record at ``offset``."""
        data = self._data(key, offset)
        if len(data) < _HEADER.size:
            raise self._error(key, f"{len(data)} bytes are too few for a header")
        flag, label, _, _ = _HEADER.unpack_from(data)
        end = _HEADER.size + 4 * flag
        if len(data) < end:
            raise self._error(key, f"{len(data)} bytes are too few for {flag} labels")
        labels = np.frombuffer(data, "<f4", flag, _HEADER.size) if flag else np.array([label])
        return flag, labels, data[end:]

    def _data(self, key: int, offset: int) -> bytes:
        """Read a record and join its parts."""
        parts = []
        while True:
            kind, part, offset = self._part(key, offset)
            if (kind in (_WHOLE, _FIRST)) != (not parts):
                raise self._error(key, "its parts are out of order")
            parts.append(part)
            if kind in (_WHOLE, _LAST):
                return _MAGIC_BYTES.join(parts)

    def _part(self, key: int, offset: int) -> tuple[int, bytes, int]:
        frame = self._file.read(offset, _FRAME.size)
        if len(frame) < _FRAME.size:
            raise self._error(key, f"the file ends at byte {self._file.size}, before its end")
        magic, word = _FRAME.unpack(frame)
        kind, length = word >> _LENGTH_BITS, word & _MAX_LENGTH
        if magic != _MAGIC or kind > _LAST:
            raise self._error(key, f"no record starts at byte {offset}")
        start = offset + _FRAME.size
        if start + length > self._file.size:
            raise self._error(key, f"its {length} bytes go beyond the end of the file")
        return kind, self._file.read(start, length), start + length + -length % 4

    def _error(self, key: int, reason: str) -> InputError:
        return InputError(
            f"{one_line(self.path)}: record {key}: {reason}; copy the .rec and .idx files again"
        )


def _read_index(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.exists():
        raise InputError(f"{one_line(path)}: missing; copy it to where the .rec file is")
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error
    if not lines:
        raise InputError(f"{one_line(path)}: empty; copy it again")
    table = np.empty((len(lines), 2), np.int64)
    for i, line in enumerate(lines):
        try:
            key, offset = line.split(b"\t")
            table[i] = int(key), int(offset)
        except (ValueError, OverflowError) as error:
            raise InputError(
                f"{one_line(path)}: line {i + 1} is not key<TAB>offset; copy it again"
            ) from error
    return table[:, 0], table[:, 1]


def write_recordio(path: StrPath, samples: Iterable[tuple[bytes, int]]) -> int:
    """Write images in insightface's layout, to ``path`` and an ``.idx`` file next to it.

    Args:
        path: the ``.rec`` file.
        samples: encoded images and labels.

    Returns:
        The number of images.

    Raises:
        InputError: a file cannot be written, or an image or a label is too large for the format.
    """
    path, index = Path(path), Path(path).with_suffix(".idx")
    with _replaced(path) as temporary, temporary.open("wb") as file:
        offsets = _write_records(file, samples)
        # The index of an old file must never be next to a new file.
        index.unlink(missing_ok=True)
    lines = "".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets))
    atomic_write_bytes(index, lines.encode())
    return len(offsets) - 1


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Name a file next to ``path`` that replaces it once it is written and on disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.touch()
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise os_input_error(path, "cannot write", error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_records(file: IO[bytes], samples: Iterable[tuple[bytes, int]]) -> list[int]:
    """Write record 0 and the images, and return the offset of each."""
    offsets = [0]
    file.write(_range_record(0))
    for key, (image, label) in enumerate(samples, start=1):
        if int(np.float32(label)) != label:
            raise InputError(
                f"label {label} of record {key}: too large for a float32; use 0 to 2^24"
            )
        offsets.append(file.tell())
        file.write(_framed(_HEADER.pack(0, label, key, 0) + image))
    file.seek(0)
    file.write(_range_record(len(offsets)))
    return offsets


def _range_record(end: int) -> bytes:
    return _framed(_HEADER.pack(2, 0, 0, 0) + struct.pack("<ff", end, end))


def _framed(data: bytes) -> bytes:
    if len(data) > _MAX_LENGTH:
        raise InputError(f"image: {len(data)} bytes; a record holds at most {_MAX_LENGTH}")
    words = np.frombuffer(data, "<u4", len(data) // 4)
    cuts = [4 * int(i) for i in np.flatnonzero(words == _MAGIC)]
    starts, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(data)]
    kinds = [_FIRST, *[_MIDDLE] * (len(cuts) - 1), _LAST] if cuts else [_WHOLE]
    parts = [
        _FRAME.pack(_MAGIC, kind << _LENGTH_BITS | end - start) + data[start:end]
        for kind, start, end in zip(kinds, starts, ends, strict=True)
    ]
    return b"".join(parts) + bytes(-len(data) % 4)


class ArrayRecordFile:
    """Images and labels of an ArrayRecord file, with random access."""

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self._file = PositionalFile.of(path)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """Read an encoded image and its label.

        Raises:
            InputError: the record is damaged.
        """
        data = self._of_reader("read", [index])[0]
        return data[_LABEL.size :], _label_of(data, self.path, index)

    def labels_and_sizes(self) -> np.ndarray:
        """Read all records, and return the label and the size in bytes of each, int64 ``[n, 2]``.

        Raises:
            InputError: the file is damaged, or a record has no label.
        """
        size = self._of_reader("num_records")
        rows = []
        for start in range(0, size, _READ_RECORDS):
            block = self._of_reader("read", start, min(start + _READ_RECORDS, size))
            rows += [(_label_of(x, self.path, start + i), len(x)) for i, x in enumerate(block)]
        return np.array(rows, np.int64).reshape(-1, 2)

    def _of_reader(self, method: str, *arguments: Any) -> Any:
        module = _array_record()
        try:
            return getattr(_array_record_reader(module, self._file), method)(*arguments)
        except (RuntimeError, ValueError, IndexError) as error:
            raise InputError(
                f"{one_line(self.path)}: not a whole ArrayRecord file: {one_line(error)}; "
                "write it again"
            ) from error


def _label_of(data: bytes, path: Path, index: int) -> int:
    if len(data) < _LABEL.size:
        raise InputError(
            f"{one_line(path)}: record {index} is too short for a label; write four bytes of label "
            "before each image"
        )
    return _LABEL.unpack_from(data)[0]


@lru_cache(maxsize=256)
def _array_record_reader(module: Any, file: PositionalFile) -> Any:
    reader = module.ArrayRecordReader(file.path, "readahead_buffer_size:0,max_parallelism:0")
    if not reader.ok():  # Otherwise it would seem to be empty.
        raise ValueError("its index is cut off or damaged")
    return reader


def _array_record() -> Any:
    try:
        return importlib.import_module("array_record.python.array_record_module")
    except ImportError as error:
        raise InputError("array_record: not installed; pip install array-record") from error


def write_array_record(path: StrPath, samples: Iterable[tuple[bytes, int]]) -> int:
    """Write images and labels to an ArrayRecord file, in one step.

    Args:
        path: the file.
        samples: encoded images and their labels, below 2^31.

    Returns:
        The number of images.

    Raises:
        InputError: the file cannot be written, or a label is out of range.
    """
    path, count, module = Path(path), 0, _array_record()
    with _replaced(path) as temporary:
        writer = module.ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
        for image, label in samples:
            if not -(1 << 31) <= label < 1 << 31:
                raise InputError(f"label {label} of image {count}: it does not fit into four bytes")
            writer.write(_LABEL.pack(label) + image)
            count += 1
        writer.close()
    return count
