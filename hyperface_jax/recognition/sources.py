"""Labeled face images on disk: folders, WebDataset shards, ArrayRecord, RecordIO and LMDB files.

When a source is opened, it reads all labels but no pixels; see :mod:`hyperface_jax.recognition.labeled`.
:func:`open_source` chooses the kind of source by what it finds.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line, os_input_error
from hyperface_jax.io.image_folders import (
    HIDDEN,
    IN_TAR,
    FoundFile,
    Skipped,
    files_below,
)
from hyperface_jax.io.images import is_image_name
from hyperface_jax.io.lmdb_files import LmdbFile, is_lmdb
from hyperface_jax.io.recordio import ArrayRecordFile, PositionalFile, RecordIO
from hyperface_jax.recognition.labeled import EXPECTED, LabeledSource, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hyperface_jax.io.files import StrPath
    from hyperface_jax.recognition.labeled import Source

ARRAY_RECORD_SUFFIXES = (".array_record", ".arrayrecord")
_BESIDE = (".idx", ".lst", ".bin", ".lmdb-lock")
"""Suffixes of files that belong to a .rec (its index, its list, insightface's test pairs) or a .lmdb."""
_STRANGE = "next to files of training data; only those are read"
_NO_PICTURE = "labels without an image in a supported format"


class ImageFolder(LabeledSource):
    """A folder with one sub-folder of images for each identity, both in sorted order.

    A sub-folder without images is not an identity. Files are left out if their names start with a dot,
    or if they are not directly in a sub-folder, because their identity is not clear; ``skipped`` lists
    them.
    """

    def __init__(self, path: StrPath) -> None:
        """List the files.

        Raises:
            InputError: the folder cannot be read, or no sub-folder holds an image.
        """
        self._root = os.fspath(path)
        found: list[tuple[str, str, int]] = []
        skipped: list[Skipped] = []
        try:
            for file in files_below(self._root):
                folder, _, name = file.name.partition("/")
                if reason := _reason(file, folder, name):
                    skipped.append(Skipped(file.name, reason))
                else:
                    found.append((folder, name, file.size))
        except OSError as error:
            raise os_input_error(error.filename or path, "cannot read", error) from error
        found.sort()
        self.skipped: Sequence[Skipped] = sorted(skipped)
        # Fixed-width bytes, because ten million Python strings would take gigabytes in every worker.
        self._folders = np.array([os.fsencode(folder) for folder, _, _ in found], np.bytes_)
        self._names = np.array([os.fsencode(name) for _, name, _ in found], np.bytes_)
        sizes = np.array([size for _, _, size in found], np.int64)
        super().__init__(path, self._folders, self._folders, self._names, sizes)
        self.classes = np.array([os.fsdecode(folder) for folder in self.classes])

    def name(self, index: int) -> str:
        """Return the path of an image."""
        parts = (os.fsdecode(part[index]) for part in (self._folders, self._names))
        return os.path.join(self._root, *parts)  # noqa: PTH118 (it is called for every image)

    def __getitem__(self, index: int) -> Sample:
        """Read an image.

        Raises:
            InputError: the file cannot be read.
        """
        path = self.name(index)
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                return Sample(file.read(), int(self.labels[index]))
        except OSError as error:
            raise os_input_error(path, "cannot read", error) from error


def _reason(file: FoundFile, folder: str, name: str) -> str:
    """Say why a file is not an image of an identity; return an empty string if it is one."""
    if folder.startswith("."):
        return HIDDEN
    if file.reason:
        return file.reason
    if not name:
        return "beside the folders of the identities: move them into one"
    return "deeper than IDENTITY/IMAGE: move or link them there" if "/" in name else ""


class TarShards(LabeledSource):
    """WebDataset shards, .tar files with ``KEY.jpg|png|webp|bmp`` and ``KEY.cls`` or ``KEY.json``.

    ``KEY.cls`` holds a whole number. ``KEY.json`` holds an object with an ``identity``, which is a whole
    number or a string. Files of a key without an image are ignored; ``skipped`` lists those with a
    label.
    """

    def __init__(self, paths: Sequence[StrPath]) -> None:
        """Index the members of all shards by reading their headers and labels.

        Raises:
            InputError: a shard is missing, compressed or damaged, or an image has no label.
        """
        self._files = [PositionalFile.of(path) for path in paths]
        skipped: list[Skipped] = []
        parts = (_members(i, file, skipped) for i, file in enumerate(self._files))
        rows = list(itertools.chain.from_iterable(parts))
        self.skipped: Sequence[Skipped] = skipped
        self._places = np.array([row[:3] for row in rows], np.int64).reshape(-1, 3)
        self._names = np.array([os.fsencode(row[3]) for row in rows], np.bytes_)
        labels = _as_array([row[4] for row in rows])
        super().__init__(_common(paths), labels, self._places[:, 2], self._names)

    def name(self, index: int) -> str:
        """Return the path of an image, made of its shard and its member."""
        file = self._files[self._places[index, 0]]
        return f"{file.path}/{os.fsdecode(self._names[index])}"

    def __getitem__(self, index: int) -> Sample:
        """Read an image.

        Raises:
            InputError: the shard cannot be read.
        """
        shard, offset, size = self._places[index].tolist()
        return Sample(self._files[shard].read(offset, size), int(self.labels[index]))


def _as_array(labels: list[int | str]) -> np.ndarray:
    """Return an array of numbers, or of strings if any label is one."""
    is_text = any(isinstance(label, str) for label in labels)
    return np.array([str(label) for label in labels]) if is_text else np.array(labels, np.int64)


def _common(paths: Sequence[StrPath]) -> StrPath:
    return paths[0] if len(paths) == 1 else Path(paths[0]).parent


def _members(
    shard: int, file: PositionalFile, skipped: list[Skipped]
) -> Iterator[tuple[int, int, int, str, int | str]]:
    """Yield (shard, offset, size, name, label) of each image, and add what is left out to a list."""
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, int | str] = {}
    for member in _tar_members(file):
        if not member.isreg() or member.issparse():
            skipped.append(Skipped(f"{file.path}/{member.name}", IN_TAR))
            continue
        folder, _, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        key = f"{folder}/{stem}"
        if is_image_name(base):
            if key in images:
                raise InputError(
                    f"{one_line(file.path)}: {one_line(member.name)} has the key of "
                    f"{one_line(images[key][0])}; give each image its own key"
                )
            images[key] = member.name, member.offset_data, member.size
        elif extension in ("cls", "json"):
            label = _label(file, member, extension)
            if label is not None:
                labels.setdefault(key, label)
    lone = [f"{file.path}/{key.lstrip('/')}" for key in labels if key not in images]
    skipped += [Skipped(name, _NO_PICTURE) for name in lone]
    for key, (name, offset, size) in images.items():
        if key not in labels:
            raise InputError(
                f"{one_line(file.path)}: {one_line(name)} has no label; add "
                f'{key.lstrip("/")}.cls with a whole number, or .json with "identity"'
            )
        yield shard, offset, size, name, labels[key]


def _tar_members(file: PositionalFile) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(file.path, "r:") as tar:
            while (member := tar.next()) is not None:
                if not member.isdir():
                    yield member
                # The list would keep a kilobyte for each image.
                tar.members = []  # pyright: ignore[reportAttributeAccessIssue]
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise InputError(
            f"{one_line(file.path)}: not a whole, uncompressed tar file: {one_line(error)}; "
            "unpack or copy it again"
        ) from error


def _label(file: PositionalFile, member: tarfile.TarInfo, extension: str) -> int | str | None:
    """Return the label in a file, or None if a .json file has no identity."""
    content = file.read(member.offset_data, member.size)
    try:
        if extension == "cls":
            return int(content)
        label: Any = json.loads(content).get("identity")
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{one_line(file.path)}: {one_line(member.name)} holds no label; write a whole number "
            'to .cls, or an object with "identity" to .json'
        ) from error
    return label if isinstance(label, int | str | None) else str(label)


class ArrayRecords(LabeledSource):
    """ArrayRecord files, as written by :func:`hyperface_jax.io.recordio.write_array_record`."""

    def __init__(self, paths: Sequence[StrPath]) -> None:
        """Read all records once to get their labels.

        Raises:
            InputError: a file is missing or damaged, or a record has no label.
        """
        self._files = [ArrayRecordFile(path) for path in paths]
        parts = [file.labels_and_sizes() for file in self._files]
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        labels, sizes = np.concatenate(parts).T
        super().__init__(_common(paths), labels, sizes)

    def _place(self, index: int) -> tuple[ArrayRecordFile, int]:
        file = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._files[file], int(index - self._starts[file])

    def name(self, index: int) -> str:
        """Return the name of an image, made of its file and its record."""
        file, record = self._place(index)
        return f"{file.path}/{record}"

    def __getitem__(self, index: int) -> Sample:
        """Read an image.

        Raises:
            InputError: the record is damaged.
        """
        file, record = self._place(index)
        return Sample(file[record][0], int(self.labels[index]))


class Records(LabeledSource):
    """A RecordIO file as used by insightface; see :mod:`hyperface_jax.io.recordio`."""

    def __init__(self, path: StrPath) -> None:
        """Read the index and the labels.

        Raises:
            InputError: the file or its ``.idx`` is missing or damaged.
        """
        self._records = RecordIO(path)
        super().__init__(path, self._records.labels(), self._records.keys, self._records.offsets)

    def name(self, index: int) -> str:
        """Return the name of an image, made of its file and its key."""
        return f"{self._records.path}/{self._records.keys[index]}"

    def __getitem__(self, index: int) -> Sample:
        """Read an image.

        Raises:
            InputError: the record is damaged.
        """
        return Sample(self._records[index][0], int(self.labels[index]))


class LmdbRecords(LabeledSource):
    """An LMDB as HSFace, VFace and WebFace4M are shipped; see :mod:`hyperface_jax.io.lmdb_files`."""

    def __init__(self, path: StrPath) -> None:
        """Read all records once to get their labels.

        Raises:
            InputError: the database is missing or damaged, or a record has no label.
        """
        self._file = LmdbFile(path)
        labels, sizes = self._file.labels_and_sizes().T
        super().__init__(path, labels, sizes, self._file.keys)

    def name(self, index: int) -> str:
        """Return the name of an image, made of its database and its key."""
        return f"{self._file.path}/{self._file.keys[index].decode('latin-1')}"

    def __getitem__(self, index: int) -> Sample:
        """Read an image.

        Raises:
            InputError: the record is damaged.
        """
        return Sample(self._file[index][0], int(self.labels[index]))


def open_source(path: StrPath) -> Source:
    """Open training data in the format found at ``path``.

    Args:
        path: a folder, a file, or a pattern of .tar shards with ``{000..012}`` or ``{a,b}``.

    Returns:
        The source.

    Raises:
        InputError: no format or more than one is found, or the data is damaged.
    """
    text = os.fspath(path)
    if "{" in text and text.endswith(".tar"):
        return TarShards(_expanded(text))
    path = Path(path)
    if not path.is_dir() or is_lmdb(path):
        return _open_files(path, [path])
    files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    if not any(_opener(file) for file in files):
        return ImageFolder(path)
    source = _open_files(path, [file for file in files if _opener(file)])
    others = [file.name for file in files if not (_opener(file) or file.suffix in _BESIDE)]
    source.skipped = [*(Skipped(name, _STRANGE) for name in others), *source.skipped]
    return source


def _opener(path: Path) -> Any:
    if path.suffix in ARRAY_RECORD_SUFFIXES:
        return ArrayRecords
    if is_lmdb(path):
        return LmdbRecords
    return {".tar": TarShards, ".rec": Records}.get(path.suffix)


def _open_files(path: Path, files: list[Path]) -> Source:
    openers = {_opener(file) for file in files}
    if openers == {None}:
        reason = "not training data" if path.exists() else "there is no such file or folder"
        raise InputError(f"{one_line(path)}: {reason}; {EXPECTED}")
    if len(openers) > 1 or (openers & {Records, LmdbRecords} and len(files) > 1):
        names = ", ".join(one_line(file.name) for file in files[:3])
        raise InputError(
            f"{one_line(path)}: holds {names}; name the file to use, or keep one format"
        )
    opener = openers.pop()
    return opener(files[0]) if opener in (Records, LmdbRecords) else opener(files)


def _expanded(pattern: str) -> list[str]:
    """Expand ``{000..012}`` and ``{a,b}`` like a shell.

    Examples:
        >>> _expanded("s-{08..10}.tar")
        ['s-08.tar', 's-09.tar', 's-10.tar']
    """
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    bounds = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    if bounds:
        numbers = range(int(bounds[1]), int(bounds[2]) + 1)
        options = [str(number).zfill(len(bounds[1])) for number in numbers]
    else:
        options = match[1].split(",")
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return [path for option in options for path in _expanded(head + option + tail)]
