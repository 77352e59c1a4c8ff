"""The parts that images are drawn with: embeddings, generator, face crop and recognizer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.embeddings import Embeddings, file_sha256, read_embeddings
from hyperface_jax.io.files import one_line
from hyperface_jax.io.images import TEMPLATE_SIZE, align, center_crop, resize
from hyperface_jax.io.resampling import resize_linear
from hyperface_jax.io.run_directory import EMBEDDINGS
from hyperface_jax.runs.support.settings import changed
from hyperface_jax.synthesis import Generator, Variation, import_generator
from hyperface_jax.synthesis.generators import guided

if TYPE_CHECKING:
    from hyperface_jax.faces import Recognizer
    from hyperface_jax.faces.detectors import Detector
    from hyperface_jax.runs.support.watch import Watch
    from hyperface_jax.runs.synthesis.settings import Arc2FaceOptions, Synthesize
    from hyperface_jax.synthesis.arc2face import Arc2FaceConfig
    from hyperface_jax.synthesis.rendering import Crop, Embed

_LCM = {"steps": 4, "guidance": 1.0, "scheduler": "lcm"}


class Parts(NamedTuple):
    """Everything that an image depends on, except for the seed and its number."""

    embeddings: Embeddings
    variation: Variation
    generator: Generator
    crop: Crop | None
    crop_name: str
    recognizer: Recognizer | None

    @property
    def embed(self) -> Embed | None:
        """The recognizer as a function from faces to unit rows."""
        return None if self.recognizer is None else partial(_unit, self.recognizer)


def open_parts(config: Synthesize, watch: Watch) -> Parts:
    """Open all parts, and refuse those that do not fit together.

    Args:
        config: the settings.
        watch: receives remarks about faces that are not aligned and about unused weights.

    Raises:
        InputError: a part cannot be opened, or two of them differ in dimension.
    """
    variation = variation_of(config)
    embeddings = _read_identities(config)
    generator = _open_generator(config)
    if generator.condition_dim != embeddings.dim:
        raise InputError(
            f"`embeddings={one_line(config.embeddings)}`: rows of dimension {embeddings.dim}, but "
            f"{generator.name} takes {generator.condition_dim}; pack embeddings of the recognizer that "
            "it was trained with"
        )
    recognizer = _open_recognizer(config, embeddings.dim, watch)
    crop = _make_crop(config, generator, watch)
    is_file = config.crop not in ("none", "center")
    crop_name = f"scrfd {file_sha256(config.crop)}" if is_file else config.crop
    return Parts(embeddings, variation, generator, crop, crop_name, recognizer)


def variation_of(config: Synthesize) -> Variation:
    """Return how conditions differ from the embeddings."""
    if config.min_cosine is None:
        return Variation(beta=config.beta)
    share = 1.0 if config.cap_share is None else config.cap_share
    return Variation(beta=config.beta, min_cosine=config.min_cosine, cap_share=share)


def _read_identities(config: Synthesize) -> Embeddings:
    path = config.embeddings
    found = read_embeddings(path / EMBEDDINGS if path.is_dir() else path)
    if config.num_ids is not None and config.num_ids > found.num_points:
        raise InputError(
            f"`num_ids={config.num_ids}`: {one_line(path)} holds {found.num_points} embeddings"
        )
    if config.negatives and (config.num_ids or found.num_points) < 2:
        raise InputError(
            f"`negatives={config.negatives:g}`: a single identity has no neighbor; draw 2 or more"
        )
    return found


def _open_generator(config: Synthesize) -> Generator:
    path = Path(config.generator)
    if not path.is_dir():
        name = one_line(config.generator)
        if ":" not in config.generator:
            raise InputError(
                f"`generator={name}`: neither the folder of a model nor module:name of a generator"
            )
        if given := next(iter(changed(config.arc2face)), None):
            raise InputError(f"`{given}`: only the folder of a model has this option")
        generator = import_generator(config.generator)
        return guided(generator) if config.negatives else generator
    from hyperface_jax.synthesis.arc2face import Arc2Face

    settings = _arc2face_config(config.arc2face, path)
    if config.negatives and settings.guidance <= 1:
        raise InputError(
            f"`negatives={config.negatives:g}`: change nothing with `guidance={settings.guidance:g}`, "
            "which is off; leave them out, or give a `guidance` above 1"
        )
    return Arc2Face(settings)


def _arc2face_config(options: Arc2FaceOptions, path: Path) -> Arc2FaceConfig:
    from hyperface_jax.synthesis.arc2face import Arc2FaceConfig

    defaults = _LCM if options.lcm_lora else {}
    return Arc2FaceConfig(arc2face=path, **(defaults | changed(options)))


def _open_recognizer(config: Synthesize, dim: int, watch: Watch) -> Recognizer | None:
    if config.recognizer is None:
        return None
    from hyperface_jax.faces.opening import open_recognizer
    from hyperface_jax.runs.support.recognizers import tell_unused

    recognizer = open_recognizer(config.recognizer, color=config.color)
    tell_unused(config.recognizer, recognizer, watch)
    if recognizer.embedding_dim != dim:
        raise InputError(
            f"`recognizer={one_line(config.recognizer)}`: embeds in {recognizer.embedding_dim} "
            f"dimensions, but the identities have {dim}; use the recognizer of the gallery"
        )
    return recognizer


def _make_crop(config: Synthesize, generator: Generator, watch: Watch) -> Crop | None:
    if config.crop == "none":
        return None
    if config.crop == "center":
        if generator.image_size > TEMPLATE_SIZE:
            watch.warn(
                "faces are cut from the middle and not aligned: give an SCRFD .onnx as `crop`, or make "
                "sure that the test faces are cut in the same way"
            )
        return partial(_cut_center, size=config.face_size)
    if not config.crop.endswith(".onnx"):
        raise InputError(
            f"`crop={one_line(config.crop)}`: must be none, center, or an SCRFD .onnx file"
        )
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
    raw = recognizer(np.stack([resize_linear(face, size, size) for face in faces])).astype(
        np.float64
    )
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    if not np.all(np.isfinite(norms)):
        raise InputError("recognizer: an embedding is not finite; check its weights")
    return (raw / np.maximum(norms, np.finfo(np.float64).tiny)).astype(np.float32)
