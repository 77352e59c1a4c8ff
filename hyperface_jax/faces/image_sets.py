"""Sets of images in a folder, a .tar file or an LMDB, and their landmarks."""

from __future__ import annotations

import csv
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import csv_input_error, one_line, os_input_error
from hyperface_jax.io.image_folders import (
    HIDDEN,
    IN_TAR,
    NO_IMAGE,
    FoundFile,
    Skipped,
    files_below,
    skipped_in_brackets,
)
from hyperface_jax.io.images import NUM_START, SUFFIXES, has_image_suffix, is_image_start
from hyperface_jax.io.lmdb_files import LmdbFile, is_lmdb

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath

    Landmarks = Mapping[str, np.ndarray]

NUM_COORDINATES = 10
"""Number of coordinates of five landmarks."""

_BESIDE_IMAGES = (".cls", ".json")
_ROW = "a name and 10 numbers x1,y1,...,x5,y5"


class ImageSet(Protocol):
    """Encoded images with names, which several threads may read at the same time."""

    @property
    def names(self) -> Sequence[str]:
        """Names of all images, in their order."""
        ...

    def read(self, index: int, /) -> bytes:
        """Return an encoded image; raise an ``InputError`` if it cannot be read."""
        ...


@dataclass(frozen=True)
class ImageFolder:
    """The images in a folder and its sub-folders.

    Names are paths relative to the folder, with slashes. ``skipped`` lists files that are not images.
    """

    root: Path
    names: Sequence[str]
    skipped: Sequence[Skipped] = ()

    def read(self, index: int, /) -> bytes:
        """Return the content of a file."""
        path = self.root / self.names[index]
        try:
            return path.read_bytes()
        except OSError as error:
            raise os_input_error(path, "cannot read", error) from error


@dataclass(frozen=True)
class ImageTar:
    """The images in a .tar file.

    ``places`` holds the offset of the first byte and the size of each image. ``skipped`` lists members
    that are not images.
    """

    path: Path
    names: Sequence[str]
    places: Sequence[tuple[int, int]]
    skipped: Sequence[Skipped] = ()

    def read(self, index: int, /) -> bytes:
        """Return the content of a member."""
        start, size = self.places[index]
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read(size)
        except OSError as error:
            raise os_input_error(self.path, "cannot read", error) from error


@dataclass(frozen=True)
class ImageShards:
    """The images in the .tar files of a folder, file after file.

    ``skipped`` lists members that are neither images nor what WebDataset keeps beside them.
    """

    parts: Sequence[ImageTar]
    names: Sequence[str]
    skipped: Sequence[Skipped] = ()

    def read(self, index: int, /) -> bytes:
        """Return the content of a member."""
        ends = np.cumsum([len(part.names) for part in self.parts])
        number = int(np.searchsorted(ends, index, side="right"))
        return self.parts[number].read(index - int(ends[number]))


@dataclass(frozen=True)
class ImageLmdb:
    """The images of an LMDB; names are ``IDENTITY/KEY``. See :mod:`hyperface_jax.io.lmdb_files`."""

    file: LmdbFile
    names: Sequence[str]
    skipped: Sequence[Skipped] = ()

    def read(self, index: int, /) -> bytes:
        """Return the image of a record."""
        return self.file[index][0]


Images: TypeAlias = ImageFolder | ImageTar | ImageShards | ImageLmdb


def open_images(path: StrPath) -> Images:
    """List the images in a .tar file, an LMDB, a folder with its sub-folders, or shards in a folder.

    Args:
        path: the folder or file. Images are recognized by suffixes or first bytes. The .tar files
            of a folder are opened if there is nothing else in it, as in the shards of a data set. An
            LMDB is read once for the identities of its images.

    Returns:
        The images, sorted by name, within each .tar, or in the order of an LMDB. Files with names that
        start with a dot and files that are not images are listed as skipped.

    Raises:
        InputError: the path does not exist, is none of these, or holds no images.
    """
    path = Path(path)
    images = _opened(path)
    if not images.names:
        raise InputError(
            f"{one_line(path)}: holds no images{skipped_in_brackets(images.skipped)}; give some in "
            f"{', '.join(SUFFIXES)}"
        )
    return images


def _opened(path: Path) -> Images:
    if is_lmdb(path):
        return _lmdb(path)
    return _folder_or_shards(path) if path.is_dir() else _tar(path)


def _folder_or_shards(root: Path) -> ImageFolder | ImageShards:
    images, shards = _folder(root), sorted(root.glob("[!.]*.tar"))
    if images.names or not shards:
        return images
    parts = [_tar(shard) for shard in shards]
    names = [name for part in parts for name in part.names]
    skipped = [item for part in parts for item in part.skipped]
    return ImageShards(parts, names, [s for s in skipped if not s.name.endswith(_BESIDE_IMAGES)])


def _folder(root: Path) -> ImageFolder:
    try:
        found = sorted(files_below(os.fspath(root)))
    except OSError as error:
        raise os_input_error(error.filename or root, "cannot read", error) from error
    return ImageFolder(root, [file.name for file in found if not file.reason], _left_out(found))


def _lmdb(path: Path) -> ImageLmdb:
    file = LmdbFile(path)
    labels = file.labels_and_sizes()[:, 0]
    keys = (key.decode("latin-1") for key in file.keys)
    return ImageLmdb(file, [f"{label}/{key}" for label, key in zip(labels, keys, strict=True)])


def _left_out(found: list[FoundFile]) -> list[Skipped]:
    return [Skipped(file.name, file.reason) for file in found if file.reason]


def _tar(path: Path) -> ImageTar:
    try:
        with tarfile.open(path, "r:") as archive:
            members = {
                PurePosixPath(member.name).as_posix(): (member, _reason(archive, member))
                for member in archive
                if not member.isdir()
            }
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error
    except tarfile.TarError as error:
        raise InputError(
            f"{one_line(path)}: not a folder, and no whole .tar file ({one_line(error)}); unpack it and "
            "give the folder"
        ) from error
    names = sorted(name for name, (_, reason) in members.items() if not reason)
    places = [(members[name][0].offset_data, members[name][0].size) for name in names]
    skipped = [Skipped(name, reason) for name, (_, reason) in members.items() if reason]
    return ImageTar(path, names, places, sorted(skipped))


def _reason(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    """Say why a member is not an image; return an empty string if it is one."""
    if PurePosixPath(member.name).name.startswith("."):
        return HIDDEN
    if not member.isreg() or member.issparse():
        return IN_TAR
    if has_image_suffix(member.name):
        return ""
    file = archive.extractfile(member)
    return "" if file and is_image_start(file.read(NUM_START)) else NO_IMAGE


def read_landmarks(path: StrPath) -> Landmarks:
    """Read the five landmarks of each image from a file.

    They are the left eye, the right eye, the nose, and the left and right corners of the mouth, as seen
    in the image, in pixels.

    Args:
        path: a .csv file with lines ``name,x1,y1,...,x5,y5``, with or without a header; or an .npz file
            with ``names``, ``[n]``, and ``landmarks``, ``[n, 5, 2]`` or ``[n, 10]``. Names must be
            those of the images.

    Returns:
        Landmarks by name, float64 ``[5, 2]`` as (x, y).

    Raises:
        InputError: the file cannot be read, has another format, or names an image twice.
    """
    name = one_line(path)
    readers = {".csv": _csv_rows, ".npz": _npz_rows}
    read = readers.get(Path(path).suffix.lower())
    if read is None:
        raise InputError(f"{name}: landmarks must be a .csv or .npz; give one with {_ROW}")
    landmarks: dict[str, np.ndarray] = {}
    try:
        for image, values in read(Path(path), name):
            if image in landmarks:
                raise InputError(f"{name}: names {one_line(image)} twice; remove one of the two")
            landmarks[image] = values.reshape(5, 2)
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error
    if not landmarks:
        raise InputError(f"{name}: holds no landmarks; give {_ROW} for each image")
    return landmarks


def _csv_rows(path: Path, name: str) -> Iterator[tuple[str, np.ndarray]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        try:
            for number, row in enumerate(filter(None, reader)):
                values = _numbers(row[1:])
                if values is not None:
                    yield row[0].strip(), values
                elif number or len(row) != 1 + NUM_COORDINATES:
                    raise InputError(
                        f"{name}: line {reader.line_num} is not {_ROW}; correct that line"
                    )
        except csv.Error as error:
            raise csv_input_error(path, reader.line_num, error) from error


def _numbers(fields: Sequence[str]) -> np.ndarray | None:
    try:
        values = np.array([float(field) for field in fields])
    except ValueError:
        return None
    return values if values.size == NUM_COORDINATES else None


def _npz_rows(path: Path, name: str) -> Iterator[tuple[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names, values = archive["names"], archive["landmarks"]
    except OSError:
        raise
    except Exception as error:  # damage makes the parsers raise nearly anything
        raise InputError(
            f"{name}: not an .npz with 'names' and 'landmarks' ({one_line(error)}); write it again"
        ) from error
    is_text = names.dtype.kind == "U" and names.ndim == 1
    if not is_text or values.dtype.kind not in "fiu" or values.size != 10 * names.size:
        raise InputError(
            f"{name}: 'names' is {names.dtype} {names.shape} and 'landmarks' {values.dtype} "
            f"{values.shape}; n strings and numbers [n, 5, 2] are needed"
        )
    yield from zip(names.tolist(), values.astype(np.float64).reshape(-1, 10), strict=True)
