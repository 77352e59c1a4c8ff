"""Lists of pairs of images, in the formats of published benchmarks and in common formats.

* ``pairs.txt`` of LFW: a header, then lines ``name i j`` or ``name i name j``.
* ``pairs.txt`` of CPLFW and CALFW: no header; a pair is two lines ``path label`` with the same label.
  The label is 0 for two persons. For one person it is 1, or in CALFW the number of the fold, from 1.
* A .csv file with the columns ``path1``, ``path2`` and ``label``, separated by commas, semicolons or
  tabs.
* Lines ``path1 path2 label``, split at tabs or semicolons if a line has any, otherwise at spaces.

Labels are 0 or 1, or True or False. A list that is not UTF-8 is read as Latin-1.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import csv_input_error, one_line

CSV_COLUMNS = ("path1", "path2", "label")
LFW_SUFFIXES = (".jpg", ".png", ".jpeg")
LIST_FORMATS = "a pairs.txt of LFW or CPLFW, a .csv, or lines 'path1 path2 label'"

_LABELS = {"0": False, "1": True, "false": False, "true": True}
_FOLDS = {str(fold): True for fold in range(1, 11)}
"""Labels that CALFW writes for a pair of one person."""
_SEPARATORS = ("\t", ";")
_NUM_NAMED = 5
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


class Pair(NamedTuple):
    """Two images, and whether they show the same person."""

    first: Path
    second: Path
    is_same: bool


@dataclass(frozen=True)
class _List:
    """A list: its file, the folder that its paths are relative to, and its encoding."""

    path: Path
    root: Path
    encoding: str

    def image(self, name: str) -> Path:
        """Return the path of an image; its name on disk may have the encoding of the list."""
        found = self.root / name
        if self.encoding == "utf-8-sig" or found.is_file():
            return found
        other = self.root / os.fsdecode(name.encode(self.encoding))
        return other if other.is_file() else found

    def error(self, number: int, text: str) -> InputError:
        """Return the error for a line."""
        return InputError(f"{one_line(self.path)}: line {number}{text}")


def listed_pairs(path: Path, content: bytes, root: Path) -> list[Pair]:
    """Read a list in any of the formats above.

    Args:
        path: the file, for error messages; its suffix tells whether it is a .csv file.
        content: content of the file.
        root: folder that the paths are relative to.

    Returns:
        The pairs, in the order of the list.

    Raises:
        InputError: the format is unknown, a line is wrong, or images are missing.
    """
    text, encoding = _text(path, content)
    source = _List(path, root, encoding)
    pairs = list(_pairs(source, text))
    if not pairs:
        raise InputError(f"{one_line(path)}: holds no pairs; give {LIST_FORMATS}")
    _check_exist(path, (image for pair in pairs for image in (pair.first, pair.second)))
    return pairs


def _text(path: Path, content: bytes) -> tuple[str, str]:
    """Decode a list, and tell its encoding."""
    try:
        return content.decode("utf-8-sig"), "utf-8-sig"
    except UnicodeDecodeError as error:
        text = content.decode("latin-1")
        if _NO_TEXT.search(text):
            raise InputError(
                f"{one_line(path)}: is neither text nor a pickle; give {LIST_FORMATS}"
            ) from error
        return text, "latin-1"


def _pairs(source: _List, text: str) -> Iterator[Pair]:
    if source.path.suffix.lower() == ".csv":
        return _csv_pairs(source, text)
    lines = [
        (number, line.strip())
        for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1)
        if line.strip()
    ]
    if lines and re.fullmatch(r"\d+(\s+\d+)?", lines[0][1]):
        return _lfw_pairs(source, lines)
    if lines and _is_half(_fields(lines[0][1])):
        return _two_line_pairs(source, lines)
    return (_line_pair(source, number, line) for number, line in lines)


def _fields(line: str) -> list[str]:
    separator = next((mark for mark in _SEPARATORS if mark in line), None)
    return [field.strip() for field in line.split(separator)]


def _line_pair(source: _List, number: int, line: str) -> Pair:
    fields = _fields(line)
    if len(fields) != 3:
        raise source.error(
            number,
            f" has {len(fields)} fields; 'path1 path2 label' is needed, with tabs between them if a "
            "path has spaces",
        )
    return _pair(source, number, fields)


def _csv_pairs(source: _List, text: str) -> Iterator[Pair]:
    options = {"skipinitialspace": True, "delimiter": _delimiter(text)}
    reader = csv.DictReader(io.StringIO(text, newline=""), **options)
    try:
        missing = [name for name in CSV_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise InputError(
                f"{one_line(source.path)}: the header lacks {', '.join(missing)}; name the columns "
                f"{', '.join(CSV_COLUMNS)}"
            )
        for row in reader:
            yield _pair(source, reader.line_num, [row[name] or "" for name in CSV_COLUMNS])
    except csv.Error as error:
        raise csv_input_error(source.path, reader.line_num, error) from error


def _delimiter(text: str) -> str:
    """Return the separator that finds the most columns in a header; a comma in case of a tie."""
    header = text.partition("\n")[0]
    marks = (*_SEPARATORS, ",")
    return max(marks, key=lambda mark: (_num_named(header, mark), mark == ","))


def _num_named(header: str, mark: str) -> int:
    return len(set(CSV_COLUMNS) & {name.strip(' \r"') for name in header.split(mark)})


def _pair(source: _List, number: int, fields: Sequence[str]) -> Pair:
    first, second, label = (field.strip() for field in fields)
    is_same = _LABELS.get(label.lower())
    if not first or not second or is_same is None:
        raise source.error(
            number,
            f": {one_line(f'{first!r}, {second!r}, {label!r}')}; two paths and the label 0 or 1 are "
            "needed",
        )
    return Pair(source.image(first), source.image(second), is_same)


def _half_label(fields: Sequence[str]) -> bool | None:
    return (_LABELS | _FOLDS).get(fields[-1].lower())


def _is_half(fields: Sequence[str]) -> bool:
    return len(fields) == 2 and _half_label(fields) is not None


def _two_line_pairs(source: _List, lines: Sequence[tuple[int, str]]) -> Iterator[Pair]:
    halves = [(number, _fields(line)) for number, line in lines]
    for number, fields in halves:
        if not (_is_half(fields) and fields[0]):
            raise source.error(number, " is not 'path label' like the first line; fix it")
    if len(halves) % 2:
        raise source.error(halves[-1][0], " has no partner; a pair is two lines 'path label'")
    for (_, first), (number, second) in zip(halves[::2], halves[1::2], strict=True):
        if first[1].lower() != second[1].lower():
            raise source.error(
                number,
                f": label {second[1]} after {first[1]}; the two lines of a pair have the same label, 1 "
                "for one person and 0 for two",
            )
        yield Pair(source.image(first[0]), source.image(second[0]), bool(_half_label(first)))


def _lfw_pairs(source: _List, lines: Sequence[tuple[int, str]]) -> Iterator[Pair]:
    header = [int(field) for field in lines[0][1].split()]
    num_pairs = 2 * header[0] * (header[1] if len(header) > 1 else 1)
    if len(lines) - 1 != num_pairs:
        raise InputError(
            f"{one_line(source.path)}: the header promises {num_pairs} pairs, {len(lines) - 1} "
            "follow; get the file again"
        )
    for number, line in lines[1:]:
        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) == 3:
            fields = [*fields[:2], fields[0], fields[2]]
        if len(fields) != 4 or not (fields[1].isdecimal() and fields[3].isdecimal()):
            raise source.error(number, " is not 'name i j' or 'name i name j'; fix it")
        first, second = (_lfw_image(source, *fields[i : i + 2]) for i in (0, 2))
        yield Pair(first, second, fields[0] == fields[2])


def _lfw_image(source: _List, name: str, number: str) -> Path:
    stem = f"{name}/{name}_{int(number):04d}"
    paths = [source.image(f"{stem}{suffix}") for suffix in LFW_SUFFIXES]
    return next((path for path in paths if path.is_file()), paths[0])


def _check_exist(path: Path, images: Iterable[Path]) -> None:
    missing = [image for image in dict.fromkeys(images) if not image.is_file()]
    if missing:
        named = ", ".join(one_line(image) for image in missing[:_NUM_NAMED])
        more = ", ..." if len(missing) > _NUM_NAMED else ""
        raise InputError(
            f"{one_line(path)}: {len(missing)} images are missing: {named}{more}; "
            "check the folder of the images"
        )
