"""Opening recognizers for stages: on the devices of this process, with remarks about their files."""

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
    """Open a recognizer that splits each batch across devices.

    Args:
        path: as for :func:`~hyperface_jax.faces.open_recognizer`.
        devices: number of devices; None takes all, and is the only choice for an ONNX file.
        color: as for :func:`~hyperface_jax.faces.open_recognizer`.
        watch: receives a remark about unused weights.
        field: name of the setting that holds the path, for error messages.

    Raises:
        InputError: there are fewer devices than requested, the number would have no effect, or there is
            no recognizer at the path.
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
    """Say which weights in a recognizer's file are not part of its network.

    Args:
        path: path of the file.
        recognizer: the recognizer opened from it; one in ONNX has no such weights.
        watch: receives the remark.
    """
    unused: tuple[str, ...] = getattr(recognizer, "unused", ())
    if unused:
        shown = ", ".join(one_line(key) for key in unused[:_SHOWN])
        more = ", ..." if len(unused) > _SHOWN else ""
        watch.say(
            f"{one_line(path)}: {len(unused)} weights beside the network stay unused, as of a "
            f"classifier: {shown}{more}"
        )
