"""The ``align`` stage: it cuts aligned faces out of photographs."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from hyperface_jax.errors import InputError, Stopped, require
from hyperface_jax.faces import ScrfdDetector, open_images
from hyperface_jax.faces.alignment import NO_FACE, aligned_faces
from hyperface_jax.io.claims import claim
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.files import atomic_write_bytes, atomic_write_text, one_line, writing
from hyperface_jax.io.image_folders import RECORD, skipped_text
from hyperface_jax.io.images import TEMPLATE_SIZE, encode
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import option
from hyperface_jax.runs.support.watch import QUIET, Watch

if TYPE_CHECKING:
    from hyperface_jax.faces.alignment import AlignedFace
    from hyperface_jax.faces.image_sets import Images
    from hyperface_jax.typing import Update

_SUFFIX = ".png"


@dataclass(frozen=True, kw_only=True)
class Align:
    """Find the main face of each photograph, and write it aligned to 112 x 112 pixels.

    Subfolders are kept, so a folder of people can be trained on afterwards. Photographs that cannot be
    read or show no face are listed. To resume, run the same command again.
    """

    images: Path = option(is_positional=True)
    """Folder, .tar file or .lmdb of photographs. Subfolders are included."""
    detect: Path = option(metavar="MODEL")
    """.onnx file of an SCRFD detector with landmarks, such as insightface's det_10g.onnx."""
    out: Path
    """Folder for the faces, each a .png under the name of its photograph."""
    size: int = TEMPLATE_SIZE
    """Height and width of the faces, in pixels."""
    threshold: float = 0.5
    """Lowest score of a face, between 0 and 1."""
    landmarks: Path | None = option(None, metavar="FILE")
    """.csv file to write the five landmarks of each face to, as embed reads them."""


def align(config: Align, *, watch: Watch = QUIET) -> Result:
    """Find the main face of each photograph, and write it aligned.

    The same call resumes an unfinished folder: photographs whose face is there are not read again.

    Args:
        config: the settings.
        watch: receives messages and progress, and can stop the run.

    Returns:
        The numbers of faces and of photographs without one, and the folder.

    Raises:
        InputError: a setting or a file cannot be used, or no photograph shows a face.
        Stopped: a stop was requested; the faces cut so far are saved.
    """
    _check_settings(config)
    detector = ScrfdDetector(config.detect, threshold=config.threshold)
    images = open_images(config.images)
    _claim(config)
    targets = [config.out / name for name in _target_names(images.names)]
    # Landmarks are not stored with the faces, so a list of them needs every photograph.
    is_there = [config.landmarks is None and target.exists() for target in targets]
    wanted = [index for index, there in enumerate(is_there) if not there]
    if len(wanted) < len(targets):
        watch.say(f"{len(targets) - len(wanted)} faces are there already: going on")
    faces = _Faces(images.names, targets)
    start = time.perf_counter()
    opened = watch.progress("aligning", "images", len(targets), len(targets) - len(wanted))
    with watch.stopping() as is_asked, opened as update:
        for face in aligned_faces(images, detector, size=config.size, indices=wanted):
            faces.add(face)
            _tell(update, len(targets) - len(wanted), faces)
            if faces.num_done < len(wanted) and is_asked():
                raise Stopped(config.out)
    seconds = time.perf_counter() - start
    num_faces = len(targets) - len(faces.skipped)
    if not num_faces:
        name, reason = faces.skipped[0]
        raise InputError(
            f"{one_line(config.images)}: none of {len(targets)} images gives a face; the first, "
            f"{one_line(name)}: {reason}"
        )
    _write_lists(config, images, faces)
    _warn(config, images, faces, watch)
    return _result(config, faces, num_faces, seconds)


class _Faces:
    """What has been found so far."""

    def __init__(self, names: Sequence[str], targets: Sequence[Path]) -> None:
        self._names, self._targets = names, targets
        self.num_done = 0
        self.rows: list[list[Any]] = []
        self.skipped: list[tuple[str, str]] = []

    def add(self, face: AlignedFace) -> None:
        """Write a face, or note why there is none."""
        self.num_done += 1
        name, target = self._names[face.number], self._targets[face.number]
        if face.pixels is None or face.landmarks is None:
            self.skipped.append((name, face.reason))
            return
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(target, encode(face.pixels))
        self.rows.append([name, *face.landmarks.round(2).ravel().tolist()])

    @property
    def num_without(self) -> int:
        """Number of photographs that were read and show no face."""
        return sum(reason == NO_FACE for _, reason in self.skipped)


def _check_settings(config: Align) -> None:
    checks = [
        ("size", config.size >= 1, "at least 1"),
        ("threshold", 0 < config.threshold < 1, "between 0 and 1"),
    ]
    require(config, checks)
    if config.landmarks is not None and config.landmarks.suffix.lower() != ".csv":
        raise InputError(f"`landmarks={one_line(config.landmarks)}`: must end in .csv")
    if config.images.is_dir() and config.out.resolve().is_relative_to(config.images.resolve()):
        raise InputError(
            f"`out={one_line(config.out)}`: lies in the folder of the photographs; choose another"
        )


def _claim(config: Align) -> None:
    """Make the folder, or check that it holds faces of the same detector and size."""
    settings = {
        "verb": "align",
        "detector_sha256": file_sha256(config.detect),
        "size": config.size,
        "threshold": config.threshold,
    }
    with writing(config.out):
        config.out.mkdir(parents=True, exist_ok=True)
    claim(config.out, RECORD, settings, kind="folder of faces")


def _target_names(names: Sequence[str]) -> list[str]:
    """Return the name of each face's file: that of its photograph, ending in .png.

    Where several photographs differ only in their endings, these are kept.

    Examples:
        >>> _target_names(["ann/1.jpg", "2.jpg", "2.webp"])
        ['ann/1.png', '2.jpg.png', '2.webp.png']
    """
    stems = [PurePosixPath(name).with_suffix("").as_posix() for name in names]
    count = Counter(stems)
    pairs = zip(names, stems, strict=True)
    return [f"{name if count[stem] > 1 else stem}{_SUFFIX}" for name, stem in pairs]


def _tell(update: Update, num_before: int, faces: _Faces) -> None:
    missing = f"{len(faces.skipped)} without a face" if faces.skipped else ""
    update(num_before + faces.num_done, missing)


def _skipped_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.skipped.txt")


def _write_lists(config: Align, images: Images, faces: _Faces) -> None:
    """Write the list of photographs that gave no face beside the folder, and the landmarks."""
    path, skipped = _skipped_path(config.out), [*faces.skipped, *images.skipped]
    if skipped:
        lines = [f"{one_line(name)}\t{reason}\n" for name, reason in skipped]
        atomic_write_text(path, "".join(lines))
    else:
        path.unlink(missing_ok=True)
    if config.landmarks is not None:
        table = io.StringIO(newline="")
        csv.writer(table, lineterminator="\n").writerows(faces.rows)
        atomic_write_text(config.landmarks, table.getvalue())


def _warn(config: Align, images: Images, faces: _Faces, watch: Watch) -> None:
    if images.skipped:
        watch.warn(f"{one_line(config.images)}: {skipped_text(images.skipped)}")
    if faces.skipped:
        watch.warn(
            f"{len(faces.skipped)} images gave no face: see {one_line(_skipped_path(config.out))}"
        )


def _result(config: Align, faces: _Faces, num_faces: int, seconds: float) -> Result:
    rate = faces.num_done / max(seconds, 1e-9)
    summary = {
        "num_faces": num_faces,
        "num_without_face": faces.num_without,
        "num_unreadable": len(faces.skipped) - faces.num_without,
        "seconds": seconds,
        "images_per_second": rate,
    }
    text = (
        f"{num_faces} faces, {faces.num_without} images without one, "
        f"{summary['num_unreadable']} unreadable, {rate:.0f} images/s: {one_line(config.out)}"
    )
    return Result(config.out, summary, text)
