"""Recognizers from trained backbones, which map uint8 RGB images to raw embeddings."""

from __future__ import annotations

import dataclasses
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from hyperface_jax import meshes
from hyperface_jax.errors import InputError
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.files import one_line, read_json
from hyperface_jax.io.images import normalize
from hyperface_jax.io.probes import check_tells_apart
from hyperface_jax.recognition.backbones import COLOR_ORDER
from hyperface_jax.recognition.weights import RUN_SETTINGS, RUN_WEIGHTS, load_model

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from hyperface_jax.io.files import StrPath
    from hyperface_jax.io.images import Color
    from hyperface_jax.recognition.backbones import IResNet

_CONFIG = "config.json"
_CVLFACE_WEIGHTS, _CVLFACE_SETTINGS = "pretrained_model/model.pt", "model.yaml"
"""Files of a folder of CVLface without ``RUN_WEIGHTS``: the weights, and settings beside them."""
_COLOR_LINE = re.compile(r"^color_space:\s*['\"]?(\w+)", re.MULTILINE)


class FlaxRecognizer:
    """A backbone that embeds images in evaluation mode, with a snapshot of its current weights.

    Args:
        model: the backbone, which is not changed.
        digest: SHA-256 of its weight file, hexadecimal.
        mesh: devices to shard each batch over; None uses one device.
        color: channel order of the backbone's training images; None uses that of its variant.
        unused: names in the weight file that do not belong to the backbone, such as a classifier's.
    """

    def __init__(
        self,
        model: IResNet,
        *,
        digest: str = "",
        mesh: Mesh | None = None,
        color: Color | None = None,
        unused: tuple[str, ...] = (),
    ) -> None:
        self.image_size = model.config.image_size
        self.embedding_dim = model.config.embedding_dim
        self.color: Color = color or COLOR_ORDER[model.config.variant]
        self.digest = digest
        self.unused = unused
        self._mesh = mesh or meshes.make_mesh(jax.local_devices()[:1])
        self._graph, state = nnx.split(model)
        self._state = jax.device_put(state, meshes.replicated(self._mesh))
        self._batch = 0

    def model(self) -> IResNet:
        """Return the backbone in evaluation mode, with its weights on the recognizer's devices."""
        model = nnx.merge(self._graph, self._state)
        model.eval()
        return model

    def __call__(self, images: np.ndarray, /) -> np.ndarray:
        """Embed images.

        A batch is padded to the size of the largest one so far, to avoid compiling again.

        Args:
            images: uint8 RGB, ``[n, s, s, 3]``.

        Returns:
            Raw embeddings, float32 ``[n, d]``.
        """
        num_devices = self._mesh.size
        self._batch = max(self._batch, -(-len(images) // num_devices) * num_devices)
        batch = meshes.shard_rows(images, self._mesh, self._batch)
        raw = _raw(self._graph, self.color, self._state, batch)
        return meshes.gathered(raw)[: len(images)]


@partial(jax.jit, static_argnums=(0, 1))
def _raw(graph: Any, color: Color, state: Any, images: jax.Array) -> jax.Array:
    model = nnx.merge(graph, state)
    model.eval()
    return model(normalize(images, color))


def load_recognizer(
    path: StrPath, *, mesh: Mesh | None = None, color: Color | None = None
) -> FlaxRecognizer:
    """Read a recognizer from a weight file or a training run.

    Args:
        path: a .pt, .pth, .ckpt or .safetensors file of an IR network, the folder of a training run, or
            a folder as CVLface publishes it, with ``config.json`` and ``model.safetensors``, or with
            ``model.yaml`` and ``model.pt`` in ``pretrained_model``.
        mesh: devices to shard each batch over; None uses one device.
        color: channel order of the network's training images; None uses that of its variant.

    Returns:
        The recognizer; its ``unused`` lists the other names in the file.

    Raises:
        InputError: there is no weight file or training run at ``path``, it is damaged, or it is a
            weight file of a network that cannot tell images apart.
    """
    path = Path(path)
    weights = _weights_below(path) if path.is_dir() else path
    if weights is None:
        raise InputError(
            f"{one_line(path)}: holds no {RUN_WEIGHTS}; give the folder of a finished training run, "
            "or a weight file"
        )
    model, report = load_model(weights)
    color = color or _stated_color(weights, is_needed=report.is_cvlface)
    if (weights.parent / RUN_SETTINGS).exists() and path.is_dir():
        _apply_settings(model, path / RUN_SETTINGS)
    else:
        # Use a separate recognizer, because it pads all later batches to its largest one.
        probe = FlaxRecognizer(model, color=color)
        check_tells_apart(probe, probe.image_size, one_line(path))
    return FlaxRecognizer(
        model,
        digest=file_sha256(weights),
        mesh=mesh,
        color=color,
        unused=report.unexpected,
    )


def _weights_below(folder: Path) -> Path | None:
    names = (RUN_WEIGHTS, _CVLFACE_WEIGHTS)
    return next((folder / name for name in names if (folder / name).exists()), None)


def _stated_color(weights: Path, *, is_needed: bool) -> Color | None:
    """Return the channel order in the settings beside weights, as CVLface publishes them."""
    stated = _color_of_json(weights.parent / _CONFIG)
    if stated is None:
        stated = _color_of_yaml(weights.parent / _CVLFACE_SETTINGS)
    if stated is None and not is_needed:
        return None
    order = str(stated).lower()
    if order not in ("rgb", "bgr"):
        raise InputError(
            f"{one_line(weights)}: is of CVLface, and no {_CONFIG} or {_CVLFACE_SETTINGS} beside it "
            "says color_space RGB or BGR: give `color`"
        )
    return "rgb" if order == "rgb" else "bgr"


def _color_of_json(path: Path) -> Any:
    stored = read_json(path) if path.is_file() else {}
    inner = stored.get("conf", stored) if isinstance(stored, dict) else {}
    return inner.get("color_space") if isinstance(inner, dict) else None


def _color_of_yaml(path: Path) -> str | None:
    # One line is all that is needed, and the YAML library is no part of the extra.
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = _COLOR_LINE.search(text)
    return found[1] if found else None


def _apply_settings(model: IResNet, path: Path) -> None:
    """Set the model's image size from the settings, because the weights give it only roughly."""
    settings = read_json(path)
    name, found = one_line(path), model.config
    size = settings.get("image_size")
    if not isinstance(size, int) or size < 1:
        raise InputError(f"{name}: image_size is {size!r}; give the side in pixels")
    config = dataclasses.replace(found, image_size=size)
    if config.map_size != found.map_size or settings.get("variant") != found.variant:
        raise InputError(
            f"{name}: image_size {size} and variant {settings.get('variant')!r} do not fit "
            f"{RUN_WEIGHTS}, which is of {found.variant!r} and about {found.image_size} pixels; "
            "take both files from one run"
        )
    model.config = config
