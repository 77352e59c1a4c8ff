"""How the parametric generator of toy faces was made.

    python -m benchmarks.toy_models.parametric

It takes minutes, so it is not resumable.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

from benchmarks.common import console
from benchmarks.toy_models.generator import fidelity_of
from hyperface_jax.faces.flax_recognizer import load_recognizer
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.files import atomic_write_json
from hyperface_jax.recognition.weights import RUN_WEIGHTS
from hyperface_jax.response.network import Training
from hyperface_jax.runs.support.versions import versions
from hyperface_jax.runs.support.watch import QUIET, Watch
from hyperface_jax.toyfaces.faces import draw_persons, embed_persons
from hyperface_jax.toyfaces.flow import FlowLoss, FlowSettings, make_network
from hyperface_jax.toyfaces.parameters import Traits
from hyperface_jax.toyfaces.parametric import load_parametric, save_parametric
from hyperface_jax.toyfaces.population import sample_identities, split_key
from hyperface_jax.toyfaces.pretrained import METRICS, PARAMETRIC, RECOGNIZER

_PACKAGES = ("hyperface_jax", "jax", "jaxlib", "flax", "optax", "numpy")
_CHUNK = 100
_PERSONS_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Train the parametric generator of toy faces, and measure it on persons it has not seen."""

    out: Path = PARAMETRIC
    """Folder for the model."""
    recognizer: Path = RECOGNIZER
    """Recognizer that the embeddings are of."""
    num_ids: int = 16000
    """Persons in the training set."""
    images_per_id: int = 6
    """Their images."""
    preset: str = "portrait"
    """Circumstances of the images."""
    steps: int = 6000
    """Optimizer steps."""
    batch_size: int = 512
    """Persons a step."""
    learning_rate: float = 1e-3
    """The highest, of AdamW; falls to 0 by a cosine."""
    num_test_ids: int = 400
    """Unseen persons to measure on."""
    seed: int = 0
    """Seed of everything random."""


def train(settings: Settings, watch: Watch = QUIET) -> None:
    """Train, measure, and write the model to its folder."""
    start = time.perf_counter()
    recognizer = load_recognizer(settings.recognizer)
    data = _training_set(settings, recognizer, watch)
    network, loss = _fit(settings, data, recognizer.embedding_dim, watch)
    seconds = time.perf_counter() - start
    save_parametric(settings.out, network, FlowSettings(condition_dim=recognizer.embedding_dim))
    model = load_parametric(settings.out)
    metrics = {
        "command": "python -m benchmarks.toy_models.parametric",
        "settings": {
            name: value for name, value in asdict(settings).items() if not isinstance(value, Path)
        },
        "recognizer_sha256": file_sha256(settings.recognizer / RUN_WEIGHTS),
        "loss": loss,
        "seconds": seconds,
        "fidelity": fidelity_of(model, recognizer, settings.num_test_ids, 8, settings.seed),
        "traits": traits_of(model, recognizer, settings),
        "versions": versions(*_PACKAGES),
    }
    atomic_write_json(settings.out / METRICS, metrics)


def _training_set(settings: Settings, recognizer: Any, watch: Watch) -> tuple[Any, Any]:
    """Return the latents and the embeddings of the training persons, drawn a part at a time."""
    images_per_id = settings.images_per_id
    latents = sample_identities(split_key(settings.seed, "generation"), settings.num_ids).latents
    images = draw_persons(
        settings.seed, "generation", settings.num_ids, images_per_id, preset=settings.preset
    )
    parts = []
    with watch.progress("embedding", "persons", settings.num_ids) as update:
        for first in range(0, settings.num_ids, _PERSONS_AT_ONCE):
            part = images[first : first + _PERSONS_AT_ONCE]
            parts.append(embed_persons(recognizer, part).embeddings.astype(np.float16))
            update(first + len(part))
    return jnp.asarray(latents), jnp.asarray(np.concatenate(parts))


def _fit(settings: Settings, data: Any, dim: int, watch: Watch) -> tuple[nnx.Module, float]:
    key, init_key = jax.random.split(jax.random.key(settings.seed))
    graph, parameters = nnx.split(make_network(FlowSettings(condition_dim=dim), init_key))
    training = Training(
        loss=FlowLoss(graph, settings.batch_size),
        num_steps=settings.steps,
        learning_rate=settings.learning_rate,
    )
    descent, loss = training.begin(parameters), float("nan")
    with watch.progress("training", "steps", settings.steps) as update:
        while int(descent.step) < settings.steps:
            descent, value = training.advance(descent, data, key, _CHUNK)
            loss = float(value)
            update(int(descent.step), f"loss {loss:.4f}")
    return nnx.merge(graph, descent.average), loss


def traits_of(model: Any, recognizer: Any, settings: Settings) -> dict[str, dict[str, float]]:
    """Compare the traits of drawn persons with those of the real persons that the targets are of.

    Returns:
        For each trait: ``spread``, the standard deviation over drawn persons as a share of that over
        real persons (1 if no variety is lost); and ``r2``, the share of the trait's variance that
        passes through the embedding (below 0 if it is left open).
    """
    num = settings.num_test_ids
    real = np.asarray(sample_identities(split_key(settings.seed, "reference"), num).latents)
    images = draw_persons(settings.seed, "reference", num, 4, preset="easy")
    drawn = model.persons(embed_persons(recognizer, images).directions())
    spread = drawn.std(axis=0) / real.std(axis=0)
    r2 = 1 - ((drawn - real) ** 2).mean(axis=0) / real.var(axis=0)
    return {
        name: {"spread": float(spread[i]), "r2": float(r2[i])}
        for i, name in enumerate(Traits._fields)
    }


if __name__ == "__main__":
    train(tyro.cli(Settings), console())
