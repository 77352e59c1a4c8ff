"""What ``hyperface synthesize`` draws with: embeddings, generator, face cutting and recognizer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hyperface_jax.cli.pack import warn
from hyperface_jax.errors import InputError
from hyperface_jax.faces import open_recognizer
from hyperface_jax.io.embeddings import Embeddings, file_sha256, read_embeddings
from hyperface_jax.io.files import one_line
from hyperface_jax.io.images import TEMPLATE_SIZE, align, center_crop, resize
from hyperface_jax.io.run_directory import EMBEDDINGS
from hyperface_jax.synthesis import Generator, import_generator

if TYPE_CHECKING:
    from hyperface_jax.cli.synthesize import Synthesize
    from hyperface_jax.faces import Recognizer
    from hyperface_jax.faces.detectors import Detector
    from hyperface_jax.synthesis.arc2face import Arc2FaceConfig
    from hyperface_jax.synthesis.rendering import Crop, Embed

_LCM = {"steps": 4, "guidance": 1.0, "scheduler": "lcm"}
_OF_ARC2FACE = (
    "base",
    "steps",
    "guidance",
    "scheduler",
    "dtype",
    "device",
    "lcm_lora",
    "tiny_vae",
    "compile",
    "channels_last",
)


class Parts(NamedTuple):
    """Everything that an image depends on but the seed and its number."""

    embeddings: Embeddings
    generator: Generator
    crop: Crop | None
    crop_name: str
    recognizer: Recognizer | None

    @property
    def embed(self) -> Embed | None:
        """The recognizer as a function to unit rows."""
        return None if self.recognizer is None else partial(_unit, self.recognizer)


def open_parts(config: Synthesize) -> Parts:
    """Open all, and refuse what does not fit together.

    Raises:
        InputError: a part cannot be opened, or two of them differ in dimension.
    """
    embeddings = _read_identities(config)
    generator = _open_generator(config)
    if generator.condition_dim != embeddings.dim:
        raise InputError(
            f"--embeddings {one_line(config.embeddings)}: rows of dimension {embeddings.dim}, and "
            f"{generator.name} takes {generator.condition_dim}; pack embeddings of the recognizer that "
            "it was trained with"
        )
    recognizer = None
    if config.recognizer is not None:
        recognizer = open_recognizer(config.recognizer, color=config.color)
        if recognizer.embedding_dim != embeddings.dim:
            raise InputError(
                f"--recognizer {one_line(config.recognizer)}: embeds in {recognizer.embedding_dim} "
                f"dimensions and the identities have {embeddings.dim}; use the gallery's"
            )
    crop = _make_crop(config, generator)
    is_file = config.crop not in ("none", "center")
    crop_name = f"scrfd {file_sha256(config.crop)}" if is_file else config.crop
    return Parts(embeddings, generator, crop, crop_name, recognizer)


def _read_identities(config: Synthesize) -> Embeddings:
    path = config.embeddings
    found = read_embeddings(path / EMBEDDINGS if path.is_dir() else path)
    if config.num_ids is not None and config.num_ids > found.num_points:
        raise InputError(
            f"--num-ids {config.num_ids}: {one_line(path)} holds {found.num_points} embeddings"
        )
    return found


def _open_generator(config: Synthesize) -> Generator:
    path = Path(config.generator)
    if not path.is_dir():
        if ":" not in config.generator:
            raise InputError(
                f"--generator {one_line(path)}: no folder of a model, and no module:name of a generator"
            )
        _refuse_options(config)
        return import_generator(config.generator)
    from hyperface_jax.synthesis.arc2face import Arc2Face

    return Arc2Face(_arc2face_config(config, path))


def _refuse_options(config: Synthesize) -> None:
    for name in _OF_ARC2FACE:
        if getattr(config, name) not in (None, False):
            raise InputError(
                f"--{name.replace('_', '-')}: only the folder of a model has this option"
            )


def _arc2face_config(config: Synthesize, path: Path) -> Arc2FaceConfig:
    from hyperface_jax.synthesis.arc2face import Arc2FaceConfig

    given = {name: getattr(config, name) for name in _OF_ARC2FACE}
    defaults = _LCM if config.lcm_lora else {}
    chosen = defaults | {name: value for name, value in given.items() if value is not None}
    return Arc2FaceConfig(arc2face=path, **chosen)


def _make_crop(config: Synthesize, generator: Generator) -> Crop | None:
    if config.crop == "none":
        return None
    if config.crop == "center":
        if generator.image_size > TEMPLATE_SIZE:
            warn(
                "faces are cut from the middle and not aligned: give --crop an SCRFD .onnx, or train on "
                "faces cut the same way as the test faces"
            )
        return partial(_cut_center, size=config.face_size)
    if not config.crop.endswith(".onnx"):
        raise InputError(f"--crop {config.crop}: must be none, center, or an SCRFD .onnx file")
    from hyperface_jax.faces.detectors import ScrfdDetector

    return partial(_cut_aligned, detector=ScrfdDetector(config.crop), size=config.face_size)


def _cut_center(image: np.ndarray, *, size: int) -> np.ndarray:
    return resize(center_crop(image, min(image.shape[:2])), size)


def _cut_aligned(image: np.ndarray, *, detector: Detector, size: int) -> np.ndarray | None:
    from hyperface_jax.faces.detectors import landmarks_of

    landmarks = landmarks_of(detector, image)
    return None if landmarks is None else align(image, landmarks, size)


def _unit(recognizer: Recognizer, faces: np.ndarray) -> np.ndarray:
    size = recognizer.image_size
    raw = recognizer(np.stack([resize(face, size) for face in faces])).astype(np.float64)
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    if not np.all(np.isfinite(norms)):
        raise InputError("recognizer: an embedding is not finite; check its weights")
    return (raw / np.maximum(norms, np.finfo(np.float64).tiny)).astype(np.float32)
