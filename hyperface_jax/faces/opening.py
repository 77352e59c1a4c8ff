"""Opening of recognizers of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hyperface_jax.errors import InputError
from hyperface_jax.faces.onnx_recognizer import OnnxRecognizer
from hyperface_jax.io.files import one_line

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from hyperface_jax.faces.recognizer import Recognizer
    from hyperface_jax.io.files import StrPath
    from hyperface_jax.io.images import Color

_WEIGHT_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
_ONNX_SUFFIX = ".onnx"


def open_recognizer(
    path: StrPath, *, mesh: Mesh | None = None, color: Color | None = None
) -> Recognizer:
    """Open a recognizer of the kind found at ``path``.

    Args:
        path: the folder of a training run, a weight file of an IR network, or an ONNX file.
        mesh: devices to shard each batch over; None uses one device. It is ignored for an ONNX file,
            which runs where onnxruntime puts it.
        color: channel order of the recognizer's training images; None uses what an ONNX file states, or
            RGB if it does not, and that of the variant otherwise.

    Returns:
        The recognizer. If it comes from a weight file, its ``unused`` lists the other names in the file.

    Raises:
        InputError: there is no recognizer at ``path``, or a library that it needs is not installed.
    """
    path = Path(path)
    name = one_line(path)
    if not path.exists():
        raise InputError(f"{name}: there is no such recognizer; check the path")
    if path.suffix.lower() == _ONNX_SUFFIX and path.is_file():
        return OnnxRecognizer(path, color=color)
    if not path.is_dir() and path.suffix.lower() not in _WEIGHT_SUFFIXES:
        raise InputError(
            f"{name}: no recognizer; give the folder of a training run, or a file in "
            f"{', '.join(_WEIGHT_SUFFIXES)} or {_ONNX_SUFFIX}"
        )
    try:
        from hyperface_jax.faces.flax_recognizer import load_recognizer

        return load_recognizer(path, mesh=mesh, color=color)
    except ImportError as error:
        raise InputError(
            f"{name}: needs {error.name}; pip install '.[recognition]' in a checkout"
        ) from error
