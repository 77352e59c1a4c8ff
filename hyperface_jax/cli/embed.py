"""``hyperface embed``: a gallery of embeddings from face images."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import tyro

from hyperface_jax.cli.pack import warn
from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_save_npz, atomic_write_text, one_line, os_input_error

if TYPE_CHECKING:
    from hyperface_jax.faces import Extracted, Recognizer

_MARK = "recognizer_sha256"


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Embed face images with a recognizer, for hyperface pack --gallery.

    Faces should be aligned to 112 x 112 already, or --landmarks given. Files that cannot be used are
    skipped and listed.
    """

    images: tyro.conf.Positional[Path]
    """Folder or .tar of images (.jpg, .png, .webp, .bmp, .gif, .tif, .ppm, .pgm), however deep."""
    recognizer: Path
    """Folder of a training run; a .pt, .pth, .ckpt or .safetensors of an IR network; or an .onnx."""
    out: Path
    """File to write, .npz: embeddings, names, norms, and the recognizer's hash."""
    landmarks: Path | None = None
    """Five landmarks an image: a .csv of name,x1,y1,...,x5,y5, or an .npz of names and landmarks."""
    flip: bool = False
    """Add the embedding of the mirrored image."""
    batch_size: int = 256
    """Images a step, over all devices."""
    color: Literal["rgb", "bgr"] | None = None
    """Channel order of the recognizer's training. Default: that of its variant; rgb for .onnx."""
    devices: int | None = None
    """Devices to cut each batch over. Default: all. An .onnx runs where onnxruntime puts it."""

    def run(self) -> int:
        """Embed the images and write the file."""
        check_settings(self)
        from hyperface_jax.cli.progress import ImageProgress
        from hyperface_jax.cli.recognizer import make_mesh, open_recognizer

        mesh = make_mesh(self.devices)
        recognizer = open_recognizer(self.recognizer, mesh=mesh, color=self.color)
        from hyperface_jax.faces import extract, open_images, read_landmarks
        from hyperface_jax.io.image_folders import skipped_text

        image_set = open_images(self.images)
        landmarks = None if self.landmarks is None else read_landmarks(self.landmarks)
        _make_folder(self.out)
        with ImageProgress("embedding", len(image_set.names)) as progress:
            extracted = extract(
                image_set,
                recognizer,
                batch_size=self.batch_size,
                landmarks=landmarks,
                flip=self.flip,
                progress=progress.update,
            )
            seconds = progress.seconds
        if image_set.skipped:
            warn(f"{one_line(self.images)}: {skipped_text(image_set.skipped)}")
            extracted = extracted._replace(skipped=[*extracted.skipped, *image_set.skipped])
        write_gallery(self.out, extracted, recognizer, is_flip_fused=self.flip)
        _announce(self, extracted, len(image_set.names) / seconds)
        return 0


def check_settings(config: Embed) -> None:
    """Refuse settings that cannot work, before any image is read."""
    name = one_line(config.out)
    if config.batch_size < 1:
        raise InputError(f"--batch-size {config.batch_size}: must be at least 1")
    if config.out.suffix.lower() != ".npz":
        raise InputError(f"--out {name}: must end in .npz")
    if config.out.exists() and not _is_gallery(config.out):
        raise InputError(
            f"--out {name}: is there and was not written by embed; choose another name"
        )


def _is_gallery(path: Path) -> bool:
    with suppress(Exception), np.load(path, allow_pickle=False) as archive:
        return _MARK in archive.files
    return False


def skipped_path(path: Path) -> Path:
    """Return the list of skipped images that goes with a gallery."""
    return path.with_suffix(".skipped.txt")


def write_gallery(
    path: Path, extracted: Extracted, recognizer: Recognizer, *, is_flip_fused: bool
) -> None:
    """Write a gallery and, if there is something to list, the skipped images beside it."""
    lines = [f"{one_line(name)}\t{reason}\n" for name, reason in extracted.skipped]
    if lines:
        atomic_write_text(skipped_path(path), "".join(lines))
    else:
        skipped_path(path).unlink(missing_ok=True)
    marks = {_MARK: recognizer.digest, "is_flip_fused": is_flip_fused, "color": recognizer.color}
    atomic_save_npz(
        path,
        embeddings=extracted.embeddings,
        names=extracted.names,
        norms=extracted.norms,
        **marks,
    )


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_input_error(path, "cannot write", error) from error
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"--out {one_line(path)}: its folder is read-only; choose another")


def _announce(config: Embed, extracted: Extracted, rate: float) -> None:
    num, dim = extracted.embeddings.shape
    if extracted.num_unaligned:
        warn(
            f"{extracted.num_unaligned} images are not of an aligned face's 112 x 112 pixels and were "
            "cropped in the middle: give --landmarks, or align them first"
        )
    if extracted.skipped:
        listed = one_line(skipped_path(config.out))
        warn(f"{len(extracted.skipped)} files were skipped: see {listed}")
    print(
        f"{num} embeddings of dimension {dim}, {len(extracted.skipped)} files skipped, "
        f"{rate:.0f} images/s: {one_line(config.out)}"
    )
