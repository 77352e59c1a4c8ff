"""The files of IJB-B and IJB-C as insightface ships them.

A folder such as ``IJBC`` holds cropped faces in ``loose_crop`` and text files in ``meta``, whose names
start with ``ijbb`` or ``ijbc``:

* ``*_face_tid_mid.txt``: a line ``image template medium`` for each face.
* ``*_name_5pts_score.txt``: a line ``image x1 y1 ... x5 y5 score`` for each face, in the same order.
* ``*_template_pair_label.txt``: a line ``template template label`` for each pair, 1 for one person.
* ``*_1N_gallery_*.csv`` and ``*_1N_probe_mixed.csv``: a header, then lines that start with
  ``template,subject``.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import csv_input_error, one_line, os_input_error

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath

META, IMAGES = "meta", "loose_crop"

_FACES, _MARKS, _PAIRS = "_face_tid_mid.txt", "_name_5pts_score.txt", "_template_pair_label.txt"
_GALLERIES, _PROBES = "_1N_gallery_*.csv", "_1N_probe_mixed.csv"
_BLOCK_BYTES = 1 << 24
_NUM_MARKS = 10


class IjbFaces(NamedTuple):
    """The faces of a benchmark.

    Attributes:
        name: name of the benchmark, such as ``ijbc``.
        names: file name of each face, ``[n]``.
        template_ids: template of each face, int64 ``[n]``.
        media_ids: image or video of each face, int64 ``[n]``.
        landmarks: landmarks in pixels of the crop, float32 ``[n, 5, 2]``.
        scores: detector score of each face, float32 ``[n]``.
    """

    name: str
    names: list[str]
    template_ids: np.ndarray
    media_ids: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray


class TemplatePairs(NamedTuple):
    """Pairs of templates, ``[p]`` each: int32 ids, int32 ids, and whether both are of one person."""

    first_ids: np.ndarray
    second_ids: np.ndarray
    is_same: np.ndarray


class Subjects(NamedTuple):
    """Templates, int64 ``[t]``, all different, and the person that each shows, int64 ``[t]``."""

    template_ids: np.ndarray
    subject_ids: np.ndarray


def read_ijb_faces(root: StrPath) -> IjbFaces:
    """Read which faces belong to which template, and their landmarks.

    Args:
        root: folder that holds ``meta``.

    Returns:
        The faces, in the order of the files.

    Raises:
        InputError: a file is missing or damaged, or the two lists do not name the same faces in order.
    """
    path = _only(root, f"*{_FACES}")
    name = path.name.removesuffix(_FACES)
    names, numbers = _table(path, 2, int)
    marked = path.with_name(f"{name}{_MARKS}")
    others, values = _table(marked, _NUM_MARKS + 1, float)
    if names != others:
        at = next(
            (i for i, pair in enumerate(zip(names, others, strict=False)) if len({*pair}) > 1), 0
        )
        raise InputError(
            f"{one_line(marked)}: lists {len(others)} faces, and {path.name} {len(names)}; from line "
            f"{at + 1} on they are not the same: take both files from one archive"
        )
    values = values.astype(np.float32)
    marks = values[:, :_NUM_MARKS].reshape(-1, 5, 2)
    return IjbFaces(name, names, numbers[:, 0], numbers[:, 1], marks, values[:, _NUM_MARKS])


def read_template_pairs(root: StrPath) -> TemplatePairs:
    """Read the pairs of templates of 1:1 verification, a block of the file at a time.

    Args:
        root: folder that holds ``meta``.

    Raises:
        InputError: the file is missing, or a line is not ``template template label``.

    Cost: 9 bytes of memory for each pair, and a block of 16 MiB.
    """
    path = _only(root, f"*{_PAIRS}")
    parts: list[tuple[np.ndarray, ...]] = []
    line = 0
    for block in _blocks(path):
        num_lines = block.count(b"\n") + (not block.endswith(b"\n"))
        numbers = _numbers(block)
        if numbers is None or numbers.shape != (num_lines, 3) or not _are_labels(numbers[:, 2]):
            raise InputError(
                f"{one_line(path)}: a line of {line + 1} to {line + num_lines} is not 'template "
                "template label' with the label 0 or 1; get the file again"
            )
        line += num_lines
        first, second, label = numbers.T
        parts.append((first.astype(np.int32), second.astype(np.int32), label == 1))
    if not parts:
        raise InputError(f"{one_line(path)}: holds no pairs; get the file again")
    return TemplatePairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def read_searches(root: StrPath) -> tuple[dict[str, Subjects], Subjects] | None:
    """Read the galleries by name (``G1`` and ``G2``, or ``S1`` and ``S2``) and the probes of 1:N search.

    Args:
        root: folder that holds ``meta``.

    Returns:
        The galleries and the probes; None if there are no such files.

    Raises:
        InputError: a file is damaged, or there are galleries without probes.
    """
    galleries = sorted((Path(root) / META).glob(f"*{_GALLERIES}"))
    if not galleries:
        return None
    probes = _subjects(_only(root, f"*{_PROBES}"))
    return {path.stem.rpartition("_")[2]: _subjects(path) for path in galleries}, probes


def _only(root: StrPath, pattern: str) -> Path:
    found = sorted((Path(root) / META).glob(pattern))
    if len(found) != 1:
        held = "several" if found else "no"
        raise InputError(
            f"{one_line(root)}: holds {held} {META}/{pattern}; give the folder of IJB-B or of IJB-C, as "
            "insightface ships it"
        )
    return found[0]


def _table(
    path: Path, num_columns: int, kind: type[int] | type[float]
) -> tuple[list[str], np.ndarray]:
    """Read lines of a name and numbers."""
    names, values = [], array("q" if kind is int else "d")
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                name, *fields = line.split() or [""]
                if len(fields) != num_columns or not _extended(values, kind, fields):
                    raise InputError(
                        f"{one_line(path)}: line {number} is not a name and {num_columns} numbers; get "
                        "the file again"
                    )
                names.append(name)
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{one_line(path)}: is no text ({error}); get the file again") from error
    if not names:
        raise InputError(f"{one_line(path)}: is empty; get the file again")
    return names, np.array(values).reshape(-1, num_columns)


def _extended(values: array[Any], kind: type[int] | type[float], fields: list[str]) -> bool:
    try:
        values.extend([kind(field) for field in fields])
    except (ValueError, OverflowError):
        return False
    return True


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield whole lines of a file, without the line ends of Windows."""
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                yield (block + file.readline()).replace(b"\r", b"")
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error


def _numbers(block: bytes) -> np.ndarray | None:
    """Return three numbers a line, or None if there is anything else."""
    if block.translate(None, b"0123456789 \t\n"):
        return None
    values = np.fromstring(block, np.int64, sep=" ")
    return values.reshape(-1, 3) if values.size % 3 == 0 else None


def _are_labels(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0, 1)).all())


def _subjects(path: Path) -> Subjects:
    found: dict[int, int] = {}
    reader: Any = None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            next(reader, None)
            for row in filter(None, reader):
                if len(row) < 2 or not (row[0].strip().isdecimal() and row[1].strip().isdecimal()):
                    raise InputError(
                        f"{one_line(path)}: line {reader.line_num} does not start with "
                        "template,subject; get the file again"
                    )
                template, subject = int(row[0]), int(row[1])
                if found.setdefault(template, subject) != subject:
                    raise InputError(
                        f"{one_line(path)}: line {reader.line_num}: template {template} is of subject "
                        f"{subject} here and of {found[template]} before; get the file again"
                    )
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error
    except csv.Error as error:
        raise csv_input_error(path, reader.line_num, error) from error
    if not found:
        raise InputError(f"{one_line(path)}: lists no templates; get the file again")
    return Subjects(np.array(list(found)), np.array(list(found.values())))
