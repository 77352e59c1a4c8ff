"""The ``embed`` stage: it turns face images into a gallery of embeddings."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from hyperface_jax.errors import InputError, require
from hyperface_jax.faces import Extracted, ScrfdDetector, extract, open_images, read_landmarks
from hyperface_jax.io.claims import refuse_foreign_file
from hyperface_jax.io.files import atomic_save_npz, atomic_write_text, one_line, writing
from hyperface_jax.io.image_folders import skipped_text
from hyperface_jax.runs.support.recognizers import open_on_devices
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import option
from hyperface_jax.runs.support.watch import QUIET, Watch

if TYPE_CHECKING:
    from hyperface_jax.faces import Recognizer
    from hyperface_jax.faces.image_sets import Images

_MARK = "recognizer_sha256"
"""Name of the array that marks a file as written by this stage."""


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Embed face images with a recognizer. The file that it writes can serve as a gallery for pack.

    The faces should already be aligned to 112 x 112 pixels; otherwise, provide a detector or landmarks.
    Files that cannot be used are skipped and listed.
    """

    images: Path = option(group="input", is_positional=True)
    """Folder, .tar file or .lmdb of images (.jpg, .png, .webp, .bmp, .gif, .tif, .ppm, .pgm). Subfolders
    are included."""
    recognizer: Path = option(group="recognizer")
    """Recognizer: the folder of a training run, a .pt, .pth, .ckpt or .safetensors file of an IR
    network, or an .onnx file."""
    out: Path
    """.npz file to write, with the embeddings, image names, norms and the recognizer's hash."""
    landmarks: Path | None = option(None, group="input")
    """Five landmarks for each image: a .csv file with the columns name,x1,y1,...,x5,y5, or an .npz file
    with the arrays names and landmarks."""
    detect: Path | None = option(None, group="input", metavar="MODEL")
    """.onnx file of an SCRFD detector with landmarks, such as insightface's det_10g.onnx: it finds the
    main face of each image, which is then aligned. Images without a face are skipped."""
    flip: bool = option(False, group="recognizer")
    """Add the embedding of the mirrored image to that of the image."""
    color: Literal["rgb", "bgr"] | None = option(None, group="recognizer", aliases=("colour",))
    """Channel order that the recognizer was trained with. Default: that of its variant, or what an
    .onnx file states, else rgb."""
    batch_size: int = option(256, group="machine")
    """Number of images per batch, across all devices."""
    devices: int | None = option(None, group="machine")
    """Number of devices to split each batch across. Default: all. An .onnx file runs where onnxruntime
    decides."""


def embed(config: Embed, *, watch: Watch = QUIET) -> Result:
    """Embed face images with a recognizer, and write a gallery.

    Args:
        config: the settings.
        watch: receives messages and progress.

    Returns:
        The number of embeddings, the number of skipped files, and the file.

    Raises:
        InputError: a setting, a file, or every image is unusable; nothing was written.
    """
    _check_settings(config)
    recognizer = open_on_devices(config.recognizer, config.devices, color=config.color, watch=watch)
    image_set = open_images(config.images)
    landmarks = None if config.landmarks is None else read_landmarks(config.landmarks)
    detector = None if config.detect is None else ScrfdDetector(config.detect)
    _make_folder(config.out)
    start = time.perf_counter()
    with watch.progress("embedding", "images", len(image_set.names)) as update:
        extracted = extract(
            image_set,
            recognizer,
            batch_size=config.batch_size,
            landmarks=landmarks,
            detector=detector,
            flip=config.flip,
            progress=update,
        )
    seconds = time.perf_counter() - start
    extracted = extracted._replace(skipped=[*extracted.skipped, *image_set.skipped])
    _write(config, extracted, recognizer)
    _warn(config, image_set, extracted, watch)
    return _result(config, extracted, recognizer, len(image_set.names), seconds)


def _check_settings(config: Embed) -> None:
    require(config, [("batch_size", config.batch_size >= 1, "at least 1")])
    if config.detect is not None and config.landmarks is not None:
        raise InputError("`detect` and `landmarks` both say where the faces are: drop one of them")
    name = one_line(config.out)
    if config.out.suffix.lower() != ".npz":
        raise InputError(f"`out={name}`: must end in .npz")
    refuse_foreign_file(config.out, "embed", _has_mark)


def _has_mark(path: Path) -> bool:
    with suppress(Exception), np.load(path, allow_pickle=False) as archive:
        return _MARK in archive.files
    return False


def _make_folder(path: Path) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"`out={one_line(path)}`: its folder is read-only; choose another")


def _skipped_path(path: Path) -> Path:
    """Return the path of the list of skipped images that goes with a gallery."""
    return path.with_suffix(".skipped.txt")


def _write(config: Embed, extracted: Extracted, recognizer: Recognizer) -> None:
    """Write the gallery and, if any images were skipped, a list of them next to it."""
    lines = [f"{one_line(name)}\t{reason}\n" for name, reason in extracted.skipped]
    if lines:
        atomic_write_text(_skipped_path(config.out), "".join(lines))
    else:
        _skipped_path(config.out).unlink(missing_ok=True)
    marks = {_MARK: recognizer.digest, "is_flip_fused": config.flip, "color": recognizer.color}
    atomic_save_npz(
        config.out,
        embeddings=extracted.embeddings,
        names=extracted.names,
        norms=extracted.norms,
        **marks,
    )


def _warn(
    config: Embed,
    image_set: Images,
    extracted: Extracted,
    watch: Watch,
) -> None:
    if image_set.skipped:
        watch.warn(f"{one_line(config.images)}: {skipped_text(image_set.skipped)}")
    if extracted.num_unaligned:
        watch.warn(
            f"{extracted.num_unaligned} images are not of an aligned face's 112 x 112 pixels and were "
            "cropped in the middle: give `detect` or `landmarks`, or align them first"
        )
    if extracted.skipped:
        listed = one_line(_skipped_path(config.out))
        watch.warn(f"{len(extracted.skipped)} files were skipped: see {listed}")


def _result(
    config: Embed, extracted: Extracted, recognizer: Recognizer, num_images: int, seconds: float
) -> Result:
    num, dim = extracted.embeddings.shape
    num_skipped, rate = len(extracted.skipped), num_images / max(seconds, 1e-9)
    summary = {
        "num_embeddings": num,
        "dim": dim,
        "num_skipped": num_skipped,
        "num_unaligned": extracted.num_unaligned,
        "recognizer_sha256": recognizer.digest,
        "color": recognizer.color,
        "is_flip_fused": config.flip,
        "seconds": seconds,
        "images_per_second": rate,
    }
    text = (
        f"{num} embeddings of dimension {dim}, {num_skipped} files skipped, {rate:.0f} images/s: "
        f"{one_line(config.out)}"
    )
    return Result(config.out, summary, text)
