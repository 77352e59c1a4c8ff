"""A generator of toy faces that decides on a person and lets the renderer of the world draw it.

It stands in for a generator that draws every face well. The one in :mod:`.diffusion` has learned to
draw from pixels; this one knows how to draw, and has only learned who an embedding can be.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hyperface_jax.errors import InputError
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.files import atomic_write_json, one_line, read_json
from hyperface_jax.io.torch_files import read_state_dict, write_state_dict
from hyperface_jax.toyfaces.flow import FlowSettings, make_network, persons_of
from hyperface_jax.toyfaces.parameters import NUM_NOISE, nuisance_of, preset_sides
from hyperface_jax.toyfaces.renderer import draw_batches

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath

WEIGHTS, SETTINGS = "model.safetensors", "generator.json"
_BLOCK = 256


class ParametricGenerator:
    """Draws the person of an embedding; see :class:`hyperface_jax.synthesis.generators.Generator`.

    Args:
        network: a trained network from :func:`.flow.make_network`.
        settings: settings of the flow.
        digest: hash of the weights.
        image_size: height and width of the images, in pixels.
        preset: circumstances of the pictures.
    """

    name = "toy faces, parametric"

    def __init__(
        self,
        network: nnx.Module,
        settings: FlowSettings,
        digest: str,
        *,
        image_size: int = 32,
        preset: str = "portrait",
    ) -> None:
        self._graph, self._parameters = nnx.split(network)
        self._settings = settings
        self._circumstances = preset_sides(preset)[0]
        self.image_size = image_size
        self.condition_dim = settings.condition_dim
        self.noise_shape = (NUM_NOISE,)
        told = json.dumps({**asdict(settings), "size": image_size, "preset": preset})
        self.digest = hashlib.sha256(f"{digest} {told}".encode()).hexdigest()

    def persons(self, conditions: np.ndarray) -> np.ndarray:
        """Return the latents of the persons, ``[n, d]`` to ``[n, 24]``."""
        found = [
            persons_of(self._graph, self._parameters, block, self._settings.num_steps)
            for block in _blocks(np.asarray(conditions, np.float32))
        ]
        return np.concatenate(found)[: len(conditions)]

    def __call__(self, conditions: np.ndarray, noise: np.ndarray, /) -> np.ndarray:
        """Decide on the persons, and draw them in the circumstances that the noise stands for."""
        views = [nuisance_of(block, self._circumstances) for block in _blocks(noise)]
        nuisance = np.concatenate(views)[: len(noise)]
        persons = jnp.asarray(self.persons(conditions))
        return np.concatenate([*draw_batches(persons, jnp.asarray(nuisance), size=self.image_size)])


def _blocks(rows: np.ndarray) -> list[Any]:
    """Split rows into blocks of one size, the last of them padded, so that one program serves all."""
    padded = np.arange(-(-len(rows) // _BLOCK) * _BLOCK) % len(rows)
    return [jnp.asarray(rows[padded[i : i + _BLOCK]]) for i in range(0, len(padded), _BLOCK)]


def load_parametric(path: StrPath, *, image_size: int = 32) -> ParametricGenerator:
    """Read a generator from the folder that :func:`save_parametric` wrote.

    Raises:
        InputError: a file is missing or damaged.
    """
    path = Path(path)
    try:
        settings = FlowSettings(**read_json(path / SETTINGS)["flow"])
        graph, state = nnx.split(make_network(settings, jax.random.key(0)))
        arrays = read_state_dict(path / WEIGHTS)
        flat = {_name(keys): leaf for keys, leaf in nnx.to_flat_state(state)}
        if differing := sorted(flat.keys() ^ arrays.keys()):
            raise ValueError(f"weights that differ: {differing[0]}")
        for name, leaf in flat.items():
            leaf.set_value(jnp.asarray(np.asarray(arrays[name], np.float32)).reshape(leaf.shape))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{one_line(path)}: no parametric generator of toy faces ({one_line(error)}); give a "
            f"folder with {SETTINGS} and {WEIGHTS} of one training"
        ) from error
    network = nnx.merge(graph, state)
    return ParametricGenerator(
        network, settings, file_sha256(path / WEIGHTS), image_size=image_size
    )


def save_parametric(path: StrPath, network: nnx.Module, settings: FlowSettings) -> None:
    """Write a generator in half precision."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    state = nnx.split(network)[1]
    arrays = {
        _name(keys): np.asarray(leaf.get_value(), np.float16)
        for keys, leaf in nnx.to_flat_state(state)
    }
    write_state_dict(path / WEIGHTS, arrays)
    atomic_write_json(path / SETTINGS, {"flow": asdict(settings)})


def _name(keys: Any) -> str:
    return ".".join(map(str, keys))


def parametric() -> ParametricGenerator:
    """Return the generator that comes with the package, for ``hyperface synthesize --generator``."""
    from hyperface_jax.toyfaces.pretrained import PARAMETRIC

    return load_parametric(PARAMETRIC)


def parametric_64() -> ParametricGenerator:
    """Return the same generator with images of 64 x 64 pixels, for figures."""
    from hyperface_jax.toyfaces.pretrained import PARAMETRIC

    return load_parametric(PARAMETRIC, image_size=64)
