"""Recognizers as stages open them: on devices of this process, with what their files hold told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperface_jax.errors import InputError
from hyperface_jax.faces.opening import open_recognizer
from hyperface_jax.io.files import one_line
from hyperface_jax.runs.support.jobs import local_mesh

if TYPE_CHECKING:
    from pathlib import Path

    from hyperface_jax.faces import Recognizer
    from hyperface_jax.io.images import Color
    from hyperface_jax.runs.support.watch import Watch

_SHOWN = 4


def open_on_devices(
    path: Path, devices: int | None, *, color: Color | None, watch: Watch, field: str = "recognizer"
) -> Recognizer:
    """Open a recognizer that cuts each batch over devices.

    Args:
        path: as for :func:`~hyperface_jax.faces.open_recognizer`.
        devices: how many; None takes all, and is the only choice for an ONNX file.
        color: as for :func:`~hyperface_jax.faces.open_recognizer`.
        watch: what is told of weights that stay unused.
        field: the setting that holds the path, for errors.

    Raises:
        InputError: there are fewer devices, they would change nothing, or there is no recognizer.
    """
    mesh = local_mesh(devices)
    if devices is not None and path.suffix.lower() == ".onnx":
        raise InputError(
            f"`devices={devices}` does not go with an .onnx as `{field}`: onnxruntime chooses where it "
            "runs; drop `devices`"
        )
    recognizer = open_recognizer(path, mesh=mesh, color=color)
    tell_unused(path, recognizer, watch)
    return recognizer


def tell_unused(path: Path, recognizer: Recognizer, watch: Watch) -> None:
    """Say which weights of a recognizer's file have no place in its network.

    Args:
        path: of the file.
        recognizer: opened from it; one in ONNX has no such weights.
        watch: what is told.
    """
    unused: tuple[str, ...] = getattr(recognizer, "unused", ())
    if unused:
        shown = ", ".join(one_line(key) for key in unused[:_SHOWN])
        more = ", ..." if len(unused) > _SHOWN else ""
        watch.say(
            f"{one_line(path)}: {len(unused)} weights beside the network stay unused, as of a "
            f"classifier: {shown}{more}"
        )
