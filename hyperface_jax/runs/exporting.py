"""The ``export`` stage: it writes a recognizer as an ONNX file, and checks the file."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.faces import OnnxRecognizer
from hyperface_jax.faces.flax_recognizer import load_recognizer
from hyperface_jax.io.claims import refuse_foreign_file
from hyperface_jax.io.files import atomic_write_bytes, one_line, writing
from hyperface_jax.recognition.onnx_export import PRODUCER, SCALING, onnx_bytes
from hyperface_jax.runs.support.recognizers import tell_unused
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import option
from hyperface_jax.runs.support.watch import QUIET, Watch

if TYPE_CHECKING:
    from hyperface_jax.faces import Recognizer

TOLERANCE = 1e-5
"""Largest difference of an entry of a unit embedding between the file and the network."""

_NUM_CHECKED = 4
_HEAD = 256


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a recognizer as an ONNX file, and compare the file's embeddings with those of the network.

    The file takes float32 images [n, 3, size, size] with pixels scaled to (x - 127.5) / 127.5, as those
    of insightface do. Its metadata state the channel order, which embed and evaluate follow.
    """

    model: Path = option(is_positional=True)
    """Recognizer: the folder of a training run, or a .pt, .pth, .ckpt or .safetensors file of an IR
    network."""
    out: Path
    """.onnx file to write."""
    color: Literal["rgb", "bgr"] | None = option(None, aliases=("colour",))
    """Channel order that the file takes. insightface feeds rgb. Default: that of the model."""
    model_color: Literal["rgb", "bgr"] | None = None
    """Channel order that the model was trained with. Default: that of its variant."""


def export(config: Export, *, watch: Watch = QUIET) -> Result:
    """Write a recognizer as an ONNX file, after comparing it with the network.

    Args:
        config: the settings.
        watch: receives remarks.

    Returns:
        The input convention, the largest difference, and the file.

    Raises:
        InputError: the model or a setting cannot be used, a library is not installed, or the embeddings
            differ by more than ``TOLERANCE``; nothing was written.
    """
    _check_settings(config)
    recognizer = load_recognizer(config.model, color=config.model_color)
    tell_unused(config.model, recognizer, watch)
    colors = {"own_color": recognizer.color, "color": config.color}
    content = onnx_bytes(recognizer.model(), source=recognizer.digest, **colors)
    summary = _compared(content, recognizer, config)
    with writing(config.out):
        config.out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(config.out, content)
    text = (
        f"{one_line(config.out)}: takes {summary['color'].upper()}, {SCALING}, "
        f"[n, 3, {recognizer.image_size}, {recognizer.image_size}]; embeddings of dimension "
        f"{recognizer.embedding_dim}, the network's to {summary['max_difference']:.1e}"
    )
    return Result(config.out, summary, text)


def _check_settings(config: Export) -> None:
    if config.out.suffix.lower() != ".onnx":
        raise InputError(f"`out={one_line(config.out)}`: must end in .onnx")
    if config.model.suffix.lower() == ".onnx":
        raise InputError(f"`model={one_line(config.model)}`: is an ONNX file already; copy it")
    if not config.model.exists():
        raise InputError(f"`model={one_line(config.model)}`: there is no such recognizer")
    refuse_foreign_file(config.out, "export", _is_ours)


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return PRODUCER.encode() in file.read(_HEAD)


def _compared(content: bytes, recognizer: Recognizer, config: Export) -> dict[str, Any]:
    """Run the file as ``embed`` would, and return the figures of the summary."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unchecked.onnx"
        path.write_bytes(content)
        written = OnnxRecognizer(path)
        difference = _max_difference(written, recognizer)
    if not difference <= TOLERANCE:
        raise InputError(
            f"`model={one_line(config.model)}`: the embeddings of its ONNX file differ by "
            f"{difference:.1e}, more than {TOLERANCE}; nothing was written"
        )
    return {
        "color": written.color,
        "scaling": SCALING,
        "image_size": recognizer.image_size,
        "embedding_dim": recognizer.embedding_dim,
        "weights_sha256": recognizer.digest,
        "onnx_sha256": written.digest,
        "max_difference": difference,
    }


def _max_difference(one: Recognizer, other: Recognizer) -> float:
    size = one.image_size
    shape = (_NUM_CHECKED, size, size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    rows = [embed(images).astype(np.float64) for embed in (one, other)]
    unit = [raw / np.linalg.norm(raw, axis=1, keepdims=True) for raw in rows]
    return float(np.abs(unit[0] - unit[1]).max())
