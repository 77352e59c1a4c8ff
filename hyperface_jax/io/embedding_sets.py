"""Sets of embeddings that stay in their file, with the names and identities that go with the rows.

:func:`~hyperface_jax.io.embeddings.read_embeddings` holds a whole file in memory; here every row is
checked once and unit rows are made of a slice at a time, so that a .npy file may be larger than the
memory. The verbs that write embeddings write names or identities beside them.
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
from hyperface_jax.io.formats import split_key
from hyperface_jax.io.run_directory import EMBEDDINGS

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath

FACES = "embeddings"
"""Folder of a data set for the embeddings of its faces, an .npz a shard."""
LABELS = ("labels", "identities", "persons")
"""Arrays that hold the identity of each row, the first that is there."""
NAMES = "names"


@dataclass(frozen=True)
class EmbeddingSet:
    """Embeddings whose rows are scaled to unit length when they are asked for.

    Attributes:
        matrix: as stored, ``[n, d]``; of a .npy file a memory map.
        path: the file or folder that was named.
        files: the files that it is read from.
        sha256: hexadecimal digest of the content, and of the key if one was given; of several files
            that of their digests.
    """

    matrix: np.ndarray
    path: Path
    files: tuple[Path, ...]
    sha256: str

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimension, ``(n, d)``."""
        return self.matrix.shape[0], self.matrix.shape[1]

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Return unit rows, float32."""
        return unit_rows(self.matrix[rows], one_line(self.path))


def open_embedding_set(path: StrPath) -> EmbeddingSet:
    """Open embeddings and check every row.

    Args:
        path: a .npy, .npz, .safetensors or .parquet file, of which only the first stays on disc;
            ``FILE:KEY``, which names one of several arrays in a file; a run directory of ``hyperface
            pack``; or a data set that was synthesized with a recognizer, whose rows are the faces in
            the order of the shards.

    Returns:
        The set.

    Raises:
        InputError: in one line, what is wrong with the file, where, and how to mend it.
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
        InputError: a file is damaged, or holds something else by that name.
    """
    return _companions(embeddings, (NAMES,))


def read_labels(embeddings: EmbeddingSet, path: StrPath | None = None) -> np.ndarray:
    """Return the identity of each row.

    Args:
        embeddings: the set.
        path: a .npy or .npz file of numbers or strings, ``FILE:KEY`` of such an .npz, or a .txt file
            of one label a line. None takes what came with the embeddings: the labels, else the
            folders of the names.

    Returns:
        Whole numbers or strings, ``[n]``.

    Raises:
        InputError: there are none, not one a row, or a file cannot be read.
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
        path: as for :func:`read_labels`; folders and strings must be numbers.

    Raises:
        InputError: as for :func:`read_labels`, or a label is no number.
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
    """Return the first of these arrays that lies beside the embeddings, None without one."""
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
        raise InputError(f"{name}: holds none of the arrays {', '.join(keys)}; name one so")
    return _checked(found, num_rows, name)


def _read_lines(path: Path) -> np.ndarray:
    try:
        return np.array(path.read_text(encoding="utf-8").splitlines(), np.str_)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _read_array(path: Path, keys: Sequence[str]) -> np.ndarray | None:
    """Read the only array of a .npy file, or the first of these in an .npz."""
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
            "whole number or string each is needed"
        )
    return labels
