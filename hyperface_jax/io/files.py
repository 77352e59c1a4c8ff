"""Files that are either complete or absent, and readers that say what is wrong with a bad file.

A file is written next to its target, synced and renamed over it, so a killed run leaves the old file or
the new one, never half of either. Only a JSON-lines log grows in place, and may end in an incomplete
line after a kill: :func:`read_jsonl` skips that line and :class:`JsonLines` repairs it on reopening.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.errors import InputError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from numpy.typing import ArrayLike

    StrPath = str | os.PathLike[str]

_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

_MENDS = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some of your quota or choose another folder",
    errno.EFBIG: "raise the file size limit or choose another folder",
    errno.EACCES: "change its permissions or choose another path",
    errno.EPERM: "change its permissions or choose another path",
    errno.EROFS: "choose a folder on a writable file system",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "one of the parents is a file; choose another path",
    errno.EISDIR: "name a file inside it",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def one_line(text: object) -> str:
    r"""Return ``text`` on a single line, so that no path or library message splits an error message.

    Examples:
        >>> one_line("truncated\n  file")
        'truncated   file'
    """
    return _BREAKS.sub(" ", str(text)).strip()


def csv_input_error(path: StrPath, line_number: int, error: Exception) -> InputError:
    """Turn an error of the csv module into one line that names the file, the line and the fix.

    Returns:
        The exception, for the caller to raise.
    """
    return InputError(f"{one_line(path)}: line {line_number}: {one_line(error)}; fix that line")


def os_input_error(path: StrPath, action: str, error: OSError) -> InputError:
    """Turn an operating system error into one line that names ``path`` and the fix.

    Args:
        path: the file that was being read or written.
        action: what failed, such as ``"cannot write"``.
        error: the error to explain.

    Returns:
        The exception, for the caller to raise.
    """
    mend = _MENDS.get(error.errno or 0, "check the disc and the path")
    if error.errno == errno.ENOENT and "write" in action:
        mend = "create its folder first"
    return InputError(f"{one_line(path)}: {action}: {one_line(error.strerror or error)}; {mend}")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating system error in the block into a one-line error that names ``path``.

    Raises:
        InputError: the block raised an operating system error.
    """
    try:
        yield
    except OSError as error:
        raise os_input_error(path, "cannot write", error) from error


@contextlib.contextmanager
def _replacing(path: StrPath) -> Iterator[IO[bytes]]:
    """Open a temporary file next to ``path`` that replaces it if the block succeeds."""
    target = Path(os.path.realpath(path))
    temporary = target.parent / f".hyperface-{secrets.token_hex(8)}.tmp"
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_directory(target.parent)
    except OSError as error:
        raise os_input_error(path, "cannot write", error) from error


def _sync_directory(path: Path) -> None:
    """Make a rename durable, if the system allows opening a directory."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def atomic_write_bytes(path: StrPath, data: bytes | bytearray | memoryview) -> None:
    """Write ``data`` to ``path``, replacing an existing file in one step.

    Args:
        path: the file to write; its folder must exist. A symbolic link is followed.
        data: the complete content.

    Raises:
        InputError: the disk is full, writing to the path is not permitted, or its folder does not
            exist. An existing file is then unchanged, and no temporary file is left.
    """
    with _replacing(path) as file:
        file.write(data)


def atomic_write_text(path: StrPath, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` in one step, without changing its newlines.

    Lone surrogates, which stand for file names that are not UTF-8, are written as escapes.

    Raises:
        InputError: as for :func:`atomic_write_bytes`.
    """
    atomic_write_bytes(path, text.encode("utf-8", "backslashreplace"))


def atomic_write_json(path: StrPath, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path`` in one step.

    NumPy and JAX scalars and arrays become numbers and lists, and paths become strings. JSON has no NaN
    or infinity, so these become ``null``.

    Raises:
        InputError: as for :func:`atomic_write_bytes`.
        TypeError: ``value`` holds something that JSON cannot represent.
    """
    text = json.dumps(plain_json(value), indent=2, ensure_ascii=False, allow_nan=False)
    atomic_write_text(path, text + "\n")


def atomic_write_jsonl(path: StrPath, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows to ``path`` in one step, as one JSON object per line.

    A resumed run uses this function to drop rows that are newer than its checkpoint.

    Raises:
        InputError: as for :func:`atomic_write_bytes`.
    """
    atomic_write_bytes(path, b"".join(_json_line(row) for row in rows))


def atomic_save_npy(path: StrPath, array: ArrayLike) -> None:
    """Write ``array`` to a .npy file in one step, in C order and without pickles.

    Raises:
        InputError: as for :func:`atomic_write_bytes`, or the array holds Python objects.
    """
    array = np.asarray(array)
    if array.dtype.hasobject:
        raise InputError(f"{one_line(path)}: cannot write objects; convert them to numbers first")
    array = np.ascontiguousarray(array).reshape(array.shape)
    with _replacing(path) as file:
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(file, header)
        # array.tofile, which np.save uses, reports a full disk without its errno.
        file.write(array.reshape(-1).view(np.uint8).data)


def atomic_save_npz(path: StrPath, **arrays: ArrayLike) -> None:
    """Write named arrays to an uncompressed .npz file in one step, without pickles.

    Raises:
        InputError: as for :func:`atomic_write_bytes`, or an array holds Python objects.
    """
    converted: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in converted.items():
        if array.dtype.hasobject:
            raise InputError(f"{one_line(path)}: {name!r} holds objects; convert them to numbers")
    with _replacing(path) as file:
        np.savez(file, **converted)


class JsonLines:
    """A log of JSON objects, one per line, that grows in place and survives a kill.

    Each row is passed to the operating system before :meth:`append` returns, so killing the process
    loses at most the row being written. Opening a log with an incomplete last line drops that line.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "history.jsonl"
        >>> with JsonLines(path) as log:
        ...     log.append({"step": 0, "max_cosine": 0.5})
        >>> read_jsonl(path)
        [{'step': 0, 'max_cosine': 0.5}]
    """

    def __init__(self, path: StrPath) -> None:
        """Open ``path`` for appending, creating it if need be.

        Raises:
            InputError: the file cannot be opened for writing.
        """
        self.path = Path(path)
        try:
            self._file = self.path.open("a+b", buffering=0)
            self._end = _repair_last_line(self._file)
        except OSError as error:
            raise os_input_error(path, "cannot write", error) from error

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row; values are converted as in :func:`atomic_write_json`.

        Raises:
            InputError: the disk is full or has failed; the log still ends in its last complete row.
        """
        try:
            self._end += _write_all(self._file, _json_line(row))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            raise os_input_error(self.path, "cannot write", error) from error

    def close(self) -> None:
        """Sync the rows to disk and close the log. Closing twice is harmless.

        Raises:
            InputError: the disk has failed.
        """
        if self._file.closed:
            return
        try:
            with self._file:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise os_input_error(self.path, "cannot write", error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _write_all(file: Any, data: bytes) -> int:
    """Write every byte of ``data``: an unbuffered write on a nearly full disk may be short."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
    return len(data)


def _repair_last_line(file: Any) -> int:
    """End the last line if it is complete, drop it otherwise, and return the size of the file."""
    file.seek(0)
    content = file.read()
    end = content.rfind(b"\n") + 1
    if end == len(content):
        return end
    if _parse_object(content[end:]) is not None:
        return len(content) + _write_all(file, b"\n")
    file.truncate(end)
    return end


def read_json(path: StrPath) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: the file is missing or unreadable, is not JSON (the message names the line of the
            error), or holds something other than an object.
    """
    name = one_line(path)
    content = _read(path)
    try:
        value = json.loads(content)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{name}: not JSON at {place}: {error.msg}; fix or remove it") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not JSON: {one_line(error)}; fix or remove it") from error
    if not isinstance(value, dict):
        raise InputError(f"{name}: holds a JSON {type(value).__name__}; an object is needed")
    return value


def read_jsonl(path: StrPath) -> list[dict[str, Any]]:
    """Read a log of JSON objects, one per line, without the incomplete last line of a killed run.

    Raises:
        InputError: the file is missing or unreadable, or a line other than an incomplete last one is
            not a JSON object.
    """
    *lines, last = _read(path).split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        row = _parse_object(line)
        if row is None:
            raise InputError(
                f"{one_line(path)}: line {number} is not a JSON object; remove that line"
            )
        rows.append(row)
    torn = _parse_object(last)
    return rows if torn is None else [*rows, torn]


def _read(path: StrPath) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error


def _parse_object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _json_line(row: Mapping[str, Any]) -> bytes:
    text = json.dumps(plain_json(row), ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def plain_json(value: Any) -> Any:
    """Convert a value to what strict JSON can represent: paths become text, NaN and infinity null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return plain_json(value.tolist())
    return value
