"""What stages that run a recognizer tell of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperface_jax.io.files import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from hyperface_jax.faces import Recognizer
    from hyperface_jax.runs.support.watch import Watch

_SHOWN = 4


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
