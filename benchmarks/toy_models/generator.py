"""How G, the generator of toy faces, was made.

    python -m benchmarks.toy_models.generator --work WORK

Run the same command again to go on from its last checkpoint.
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

from benchmarks.common import console
from hyperface_jax import sphere
from hyperface_jax.evaluation import identify
from hyperface_jax.faces.flax_recognizer import load_recognizer
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.files import atomic_write_json
from hyperface_jax.recognition.weights import RUN_WEIGHTS
from hyperface_jax.runs.support.versions import versions
from hyperface_jax.runs.support.watch import QUIET, Watch
from hyperface_jax.toyfaces.diffusion import Sampling, load_generator, save_generator
from hyperface_jax.toyfaces.faces import PersonFaces, draw_persons, embed_persons
from hyperface_jax.toyfaces.pretrained import GENERATOR, METRICS, RECOGNIZER
from hyperface_jax.toyfaces.training import GeneratorTraining

_PACKAGES = ("hyperface_jax", "jax", "numpy", "torch", "diffusers")
_LOG_EVERY = 20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Train the generator of toy faces, and measure it on persons it has not seen."""

    work: Path
    """Folder for the checkpoint; run the same command again to resume."""
    out: Path = GENERATOR
    """Folder for the model."""
    recognizer: Path = RECOGNIZER
    """Recognizer that the embeddings are of."""
    num_ids: int = 16000
    """Persons in the training set."""
    images_per_id: int = 8
    """Their images."""
    preset: str = "portrait"
    """Circumstances of the images."""
    steps: int = 3000
    """Optimizer steps."""
    batch_size: int = 128
    """Images a step."""
    learning_rate: float = 1.5e-3
    """The highest, of AdamW; falls to 0 by a cosine."""
    num_test_ids: int = 200
    """Unseen persons to measure on."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints."""
    seed: int = 0
    """Seed of everything random."""


def train(settings: Settings, watch: Watch = QUIET) -> None:
    """Train, measure, and write the model to its folder."""
    recognizer = load_recognizer(settings.recognizer)
    faces = _faces(settings, recognizer, "generation", settings.num_ids, settings.preset)
    run = GeneratorTraining(
        faces,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
    )
    _train(run, settings, watch)
    sampling = Sampling(image_size=recognizer.image_size, condition_dim=recognizer.embedding_dim)
    save_generator(settings.out, run.mean, sampling)
    metrics = {
        "command": "python -m benchmarks.toy_models.generator --work WORK",
        "settings": {
            name: value for name, value in asdict(settings).items() if not isinstance(value, Path)
        },
        "recognizer_sha256": file_sha256(settings.recognizer / RUN_WEIGHTS),
        "loss": run.loss,
        "seconds": run.seconds,
        "fidelity": measure(settings),
        "versions": versions(*_PACKAGES),
    }
    atomic_write_json(settings.out / METRICS, metrics)


def _faces(
    settings: Settings, recognizer: Any, role: str, num_ids: int, preset: str
) -> PersonFaces:
    images = draw_persons(
        settings.seed,
        role,
        num_ids,
        settings.images_per_id,
        preset=preset,
        size=recognizer.image_size,
    )
    return embed_persons(recognizer, images)


def _train(run: GeneratorTraining, settings: Settings, watch: Watch) -> None:
    settings.work.mkdir(parents=True, exist_ok=True)
    checkpoint = settings.work / "generator.pt"
    if checkpoint.exists():
        run.restore(checkpoint)
    start = saved = logged = time.perf_counter()
    with watch.progress("training", "steps", run.steps, run.step) as update:
        losses = []
        while run.step < run.steps:
            losses.append(run.train_step())
            now = time.perf_counter()
            if run.step % _LOG_EVERY == 0 or run.step == run.steps:
                run.loss, losses = float(np.mean(losses)), []
                rate = _LOG_EVERY * run.batch_size / (now - logged)
                update(run.step, f"loss {run.loss:.4f}  {rate:.0f} images/s")
                logged = now
            if now - saved > settings.checkpoint_seconds or run.step == run.steps:
                run.seconds, start = run.seconds + now - start, now
                run.save(checkpoint)
                saved = now


def measure(settings: Settings) -> dict[str, float]:
    """Measure how well unseen persons are drawn.

    The target is the direction of half of a person's images, as for a packed identity; real images
    are the other half. Cosines are those of the recognizer.

    Returns:
        ``real_target_cosine`` and ``drawn_target_cosine``, mean cosines of real and drawn images to
        the target; ``real_pair_cosine``, of two real images; ``drawn_from_one_cosine``, of an image
        drawn from one real image to it; ``drawn_rank_1`` and ``real_rank_1``, shares whose nearest
        target is their own.
    """
    recognizer = load_recognizer(settings.recognizer)
    model = load_generator(settings.out)
    num, images_per_id = settings.num_test_ids, settings.images_per_id
    return fidelity_of(model, recognizer, num, images_per_id, settings.seed)


def fidelity_of(
    model: Any, recognizer: Any, num_ids: int, images_per_id: int, seed: int
) -> dict[str, float]:
    """Measure any generator of toy faces; see :func:`measure`."""
    size = recognizer.image_size
    images, real = embed_persons(
        recognizer,
        draw_persons(seed, "reference", num_ids, images_per_id, preset="easy", size=size),
    )
    half = images_per_id // 2
    target = PersonFaces(images[:, :half], real[:, :half]).directions()
    drawn, single = (
        _drawn(model, recognizer, conditions, seed) for conditions in (target, real[:, 0])
    )
    others = real[:, half]
    return {
        "real_target_cosine": _mean_cosine(others, target),
        "drawn_target_cosine": _mean_cosine(drawn, target),
        "real_pair_cosine": _mean_cosine(others, real[:, 0]),
        "drawn_from_one_cosine": _mean_cosine(single, real[:, 0]),
        "real_rank_1": _rank_1(others, target),
        "drawn_rank_1": _rank_1(drawn, target),
    }


def _drawn(model: Any, recognizer: Any, conditions: np.ndarray, seed: int) -> np.ndarray:
    """Draw an image of each condition, and embed it."""
    shape = (len(conditions), *model.noise_shape)
    noise = np.asarray(jax.random.normal(jax.random.key(seed), shape))
    return np.asarray(sphere.normalize(jnp.asarray(recognizer(model(conditions, noise)))))


def _mean_cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(np.sum(x * y, axis=1)))


def _rank_1(x: np.ndarray, targets: np.ndarray) -> float:
    persons = np.arange(len(x))
    return identify(x, persons, targets, persons).rank_rates[1]


if __name__ == "__main__":
    train(tyro.cli(Settings), console())
