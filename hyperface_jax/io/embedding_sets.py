"""Sets of embeddings that stay in their files, with the names and identities of their rows.

:func:`~hyperface_jax.io.embeddings.read_embeddings` holds a whole file in memory. Here, every row is
checked once and rows are normalized one slice at a time, so that a .npy file may be larger than memory.
The verbs that write embeddings also write names or identities next to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.embeddings import array_sha256, check_rows, read_points, unit_rows
from hyperface_jax.io.files import one_line, os_input_error
from hyperface_jax.io.formats import split_key, vector_names
from hyperface_jax.io.run_directory import EMBEDDINGS

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath

FACES = "embeddings"
"""Folder of a data set that holds the embeddings of its faces, one .npz file per shard."""
LABELS = ("labels", "identities", "persons")
"""Names of arrays that may hold the identity of each row; the first one that exists is read."""
NAMES = "names"


@dataclass(frozen=True)
class EmbeddingSet:
    """Embeddings that are scaled to unit length when rows are read.

    Attributes:
        matrix: the embeddings as stored, ``[n, d]``; a memory map if they are in a .npy file.
        path: the file or folder, as it was given.
        files: the files that the embeddings are read from.
        sha256: hexadecimal digest of the content, and of the key if one was given; for several files,
            the digest of their digests.
    """

    matrix: np.ndarray
    path: Path
    files: tuple[Path, ...]
    sha256: str

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and dimension, ``(n, d)``."""
        return self.matrix.shape[0], self.matrix.shape[1]

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Return unit rows, float32."""
        return unit_rows(self.matrix[rows], one_line(self.path))


def open_embedding_set(path: StrPath) -> EmbeddingSet:
    """Open embeddings and check every row.

    Args:
        path: a .npy, .npz, .safetensors or .parquet file (only a .npy file stays on disk);
            ``FILE:KEY``, which selects one of several arrays in a file; a run directory of ``hyperface
            pack``; or a data set that was synthesized with a recognizer, which gives one row per face in
            the order of the shards.

    Returns:
        The set of embeddings.

    Raises:
        InputError: the file is unusable; the one-line message says what is wrong, where, and how to fix
            it.
    """
    path = Path(path)
    if path.is_dir() and not (path / EMBEDDINGS).exists():
        return _faces(path)
    file = path / EMBEDDINGS if path.is_dir() else path
    matrix = read_points(file)
    check_rows(matrix, one_line(file))
    return EmbeddingSet(matrix, path, (split_key(file)[0],), array_sha256(file))


def _faces(path: Path) -> EmbeddingSet:
    files = sorted((path / FACES).glob("*.npz"))
    if not files:
        raise InputError(
            f"{one_line(path)}: holds neither {EMBEDDINGS} nor {FACES}/*.npz; name a file, a run of "
            "pack, or a data set that was synthesized with a recognizer"
        )
    parts = [open_embedding_set(file) for file in files]
    for part in parts:
        if part.shape[1] != parts[0].shape[1]:
            raise InputError(
                f"{one_line(part.path)}: rows have dimension {part.shape[1]}, not "
                f"{parts[0].shape[1]} as in {one_line(parts[0].path)}; run synthesize again"
            )
    digest = hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()
    return EmbeddingSet(np.concatenate([p.matrix for p in parts]), path, tuple(files), digest)


def read_names(embeddings: EmbeddingSet) -> np.ndarray | None:
    """Return the name of the image of each row, ``[n]`` strings; None if the files hold none.

    Raises:
        InputError: a file is damaged, or holds something else under that name.
    """
    found = _companions(embeddings, (NAMES,))
    is_one = found is None and len(embeddings.files) == 1
    return vector_names(embeddings.files[0]) if is_one else found


def read_labels(embeddings: EmbeddingSet, path: StrPath | None = None) -> np.ndarray:
    """Return the identity of each row.

    Args:
        embeddings: the set.
        path: a .npy or .npz file of numbers or strings, ``FILE:KEY`` for an array in such an .npz file,
            or a .txt file with one label per line. With None, the labels stored with the embeddings are
            read, or else the folders in the image names.

    Returns:
        Integers or strings, ``[n]``.

    Raises:
        InputError: there are no labels, their number is not the number of rows, or a file cannot be
            read.
    """
    if path is not None:
        return _labels_file(Path(path), embeddings.shape[0])
    labels = _companions(embeddings, LABELS)
    return _folders(embeddings) if labels is None else labels


def _folders(embeddings: EmbeddingSet) -> np.ndarray:
    names, path = read_names(embeddings), one_line(embeddings.path)
    if names is None:
        raise InputError(f"{path}: tells no identities; give them as `labels`")
    folders = [PurePosixPath(str(name)).parent.as_posix() for name in names]
    if "." in folders:
        name = one_line(names[folders.index(".")])
        raise InputError(
            f"{path}: {name!r} lies in no folder that tells its identity; give the identities as "
            "`labels`"
        )
    return np.array(folders)


def read_numbers(embeddings: EmbeddingSet, path: StrPath | None = None) -> np.ndarray:
    """Return the identity of each row as a number, int64 ``[n]``.

    Args:
        embeddings: as for :func:`read_labels`.
        path: as for :func:`read_labels`; folder names and strings must be numbers.

    Raises:
        InputError: as for :func:`read_labels`, or a label is not a number.
    """
    labels = read_labels(embeddings, path)
    if labels.dtype.kind == "U":
        for label in labels.tolist():
            if not (label.isascii() and label.isdigit() and len(label) < 18):
                raise InputError(
                    f"{one_line(path or embeddings.path)}: label {one_line(label)!r} is not the "
                    "number of a row; give numbers as `labels`"
                )
    return labels.astype(np.int64)


def _companions(embeddings: EmbeddingSet, keys: Sequence[str]) -> np.ndarray | None:
    """Return the first of these arrays that is stored with the embeddings; None if there is none."""
    parts = []
    for file in embeddings.files:
        found = _read_array(file, keys) if file.suffix.lower() == ".npz" else None
        if found is None:
            return None
        parts.append(found)
    values = np.concatenate(parts)
    return _checked(values, embeddings.shape[0], f"{one_line(embeddings.path)}: {keys[0]!r}")


def _labels_file(path: Path, num_rows: int) -> np.ndarray:
    file, key = split_key(path)
    name, suffix = one_line(path), file.suffix.lower()
    if suffix == ".txt":
        return _checked(_read_lines(file), num_rows, name)
    if suffix not in (".npy", ".npz"):
        raise InputError(f"{name}: labels are a .npy, .npz or .txt file; give one of these")
    keys = LABELS if key is None else (key,)
    found = _read_array(file, keys)
    if found is None:
        raise InputError(f"{name}: holds none of the arrays {', '.join(keys)}; name one of them")
    return _checked(found, num_rows, name)


def _read_lines(path: Path) -> np.ndarray:
    try:
        return np.array(path.read_text(encoding="utf-8").splitlines(), np.str_)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _read_array(path: Path, keys: Sequence[str]) -> np.ndarray | None:
    """Read the array of a .npy file, or the first of these arrays in an .npz file."""
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            return next((content[key] for key in keys if key in content.files), None)
    except Exception as error:  # a damaged file makes NumPy raise nearly anything
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, OSError) and error.errno is not None:
        return os_input_error(path, "cannot read", error)
    return InputError(f"{one_line(path)}: damaged ({one_line(error)}); write the file again")


def _checked(labels: np.ndarray, num_rows: int, name: str) -> np.ndarray:
    if labels.dtype.kind not in "iuU" or labels.shape != (num_rows,):
        raise InputError(
            f"{name}: holds {labels.dtype} {labels.shape} for {num_rows} rows of embeddings; one "
            "integer or string for each row is needed"
        )
    return labels
