"""The files below a folder: which of them are images, and why the others are not read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from hyperface_jax.io.files import one_line
from hyperface_jax.io.images import NUM_START, has_image_suffix, is_image_start

HIDDEN = "hidden, the name starts with a dot"
NO_IMAGE = "no image by its ending or its first bytes"
NO_FILE = "no file that can be read, such as a broken link"
IN_TAR = "links or other special members of a .tar: unpack it and give the folder"
CYCLE = "a link to a folder that it lies in"
RECORD = "faces.json"
"""File that ``hyperface faces`` leaves next to its images; readers skip it without a warning."""
_NUM_NAMES = 3
_Stamp = tuple[int, int]


class FoundFile(NamedTuple):
    """A file below a folder.

    Attributes:
        name: path of the file relative to the folder, with slashes.
        size: size of an image in bytes; 0 for other files.
        reason: why the file is not an image; empty for an image.
    """

    name: str
    size: int
    reason: str


class Skipped(NamedTuple):
    """A file that is not read, and why."""

    name: str
    reason: str


def files_below(root: str, prefix: str = "", above: tuple[_Stamp, ...] = ()) -> Iterator[FoundFile]:
    """Yield every file below a folder, in no particular order; links to folders are followed.

    Args:
        root: the folder.
        prefix: prefix of the names, empty or ending in a slash.
        above: device and inode number of the parent folders; links to them are not followed.

    Raises:
        OSError: a folder cannot be read.
    """
    status = os.stat(root)  # noqa: PTH116
    above = (*above, (status.st_dev, status.st_ino))
    with os.scandir(root) as entries:
        for entry in entries:
            if _is_a(entry.is_dir):
                yield from _folder(entry, f"{prefix}{entry.name}", above)
            elif prefix or entry.name != RECORD:
                yield _file(entry, f"{prefix}{entry.name}")


def _is_a(kind: Callable[[], bool]) -> bool:
    """Test the kind of an entry; a link that leads to itself is of no kind."""
    try:
        return kind()
    except OSError:
        return False


def _folder(entry: os.DirEntry[str], name: str, above: tuple[_Stamp, ...]) -> Iterator[FoundFile]:
    if entry.is_symlink():
        status = entry.stat()
        if (status.st_dev, status.st_ino) in above:
            yield FoundFile(name, 0, CYCLE)
            return
    yield from files_below(entry.path, f"{name}/", above)


def _file(entry: os.DirEntry[str], name: str) -> FoundFile:
    if entry.name.startswith("."):
        return FoundFile(name, 0, HIDDEN)
    if not _is_a(entry.is_file):
        return FoundFile(name, 0, NO_FILE)
    if has_image_suffix(name) or _starts_as_image(entry.path):
        return FoundFile(name, entry.stat().st_size, "")
    return FoundFile(name, 0, NO_IMAGE)


def _starts_as_image(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return is_image_start(file.read(NUM_START))
    except OSError:
        return False


def skipped_text(skipped: Iterable[Skipped]) -> str:
    """Say how many files are not read and why, with the first few names.

    Examples:
        >>> skipped_text([Skipped("b.txt", "no image"), Skipped("a.txt", "no image")])
        '2 files are not read: 2 are no image (a.txt, b.txt)'
    """
    ordered = sorted(skipped)
    counts = Counter(reason for _, reason in ordered)
    parts = []
    for reason, count in counts.most_common():
        names = [one_line(name) for name, why in ordered if why == reason]
        dots = ", ..." if count > _NUM_NAMES else ""
        parts.append(f"{count} are {reason} ({', '.join(names[:_NUM_NAMES])}{dots})")
    return f"{len(ordered)} files are not read: {'; '.join(parts)}"


def skipped_in_brackets(skipped: Sequence[Skipped]) -> str:
    """Return the same in parentheses for the middle of a sentence; empty if every file is read."""
    return f" ({skipped_text(skipped)})" if skipped else ""
