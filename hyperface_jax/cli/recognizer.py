"""What the verbs that run a recognizer share: opening it, and its devices."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from hyperface_jax import meshes
from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from hyperface_jax.faces import Recognizer
    from hyperface_jax.io.images import Color

_SHOWN = 4
_WEIGHT_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")


def open_recognizer(
    path: Path, *, mesh: Mesh | None = None, color: Color | None = None
) -> Recognizer:
    """Open a recognizer by what is there.

    Args:
        path: the folder of a training run, a weight file of an IR network, or an ONNX file.
        mesh: devices to cut each batch over; an ONNX file runs where onnxruntime puts it.
        color: channel order of its training; None takes the variant's, and RGB for an ONNX file.

    Returns:
        The recognizer. What its file holds beside it is said on standard error.

    Raises:
        InputError: there is none, or what it needs is not installed.
    """
    suffix, name = path.suffix.lower(), one_line(path)
    if not path.exists():
        raise InputError(f"{name}: there is no such recognizer; check the path")
    if not path.is_dir() and suffix not in (*_WEIGHT_SUFFIXES, ".onnx"):
        raise InputError(
            f"{name}: no recognizer; give the folder of a training run, or a file in "
            f"{', '.join(_WEIGHT_SUFFIXES)} or .onnx"
        )
    is_onnx = suffix == ".onnx" and path.is_file()
    try:
        if is_onnx:
            from hyperface_jax.faces.recognizers import OnnxRecognizer

            return OnnxRecognizer(path, color=color or "rgb")
        from hyperface_jax.recognition.recognizer import load_recognizer

        recognizer = load_recognizer(path, mesh=mesh, color=color)
        _tell_unused(name, recognizer.unused)
        return recognizer
    except ImportError as error:
        extra = "onnx" if is_onnx else "recognition"
        raise InputError(
            f"{name}: needs {error.name}; pip install 'hyperface_jax[{extra}]'"
        ) from error


def _tell_unused(name: str, unused: tuple[str, ...]) -> None:
    if unused:
        shown = ", ".join(one_line(key) for key in unused[:_SHOWN])
        more = ", ..." if len(unused) > _SHOWN else ""
        print(
            f"hyperface: note: {name}: {len(unused)} weights beside the network stay unused, as of "
            f"a classifier: {shown}{more}",
            file=sys.stderr,
        )


def make_mesh(num_devices: int | None) -> Mesh:
    """Make the mesh of the first devices, or of all.

    Raises:
        InputError: there are fewer.
    """
    devices = jax.local_devices()
    if num_devices is not None and not 1 <= num_devices <= len(devices):
        raise InputError(f"--devices {num_devices}: must be between 1 and {len(devices)}")
    return meshes.make_mesh(devices[:num_devices])
