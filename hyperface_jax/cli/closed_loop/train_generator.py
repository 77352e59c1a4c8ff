"""How G, the generator of toy faces, was made: ``python -m`` this module with ``--work DIR``.

A picture is drawn from the direction of *other* pictures of its person, never from its own embedding:
that would pass background and light on as if they were the person.
"""

from __future__ import annotations

import copy
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import tyro

from hyperface_jax import sphere
from hyperface_jax.cli.progress import StepProgress
from hyperface_jax.cli.versions import versions
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.files import atomic_write_json
from hyperface_jax.recognition.recognizer import RUN_WEIGHTS, load_recognizer
from hyperface_jax.toyfaces.diffusion import (
    Sampling,
    fold,
    load_generator,
    make_unet,
    predict,
    save_generator,
)
from hyperface_jax.toyfaces.faces import Faces, draw_persons, embed_persons
from hyperface_jax.toyfaces.pretrained import GENERATOR, METRICS, RECOGNIZER

_PACKAGES = ("hyperface_jax", "jax", "numpy", "torch", "diffusers")
_NOBODY = 0.1
"""Share of the training images without a condition."""
_DECAY = 0.998
"""Of the running mean of the weights."""
_WARMUP = 200
_LEAST_NOISE = 0.1
"""Bounds the weight of images with little noise, which follows from the error of the velocity."""
_LOG_EVERY = 20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Train the generator of toy faces, and measure it on persons it has not seen."""

    work: Path
    """Folder for the checkpoint; run the same command again to resume."""
    out: Path = GENERATOR
    """Folder for the model."""
    recognizer: Path = RECOGNIZER
    """Recogniser that the embeddings are of."""
    num_ids: int = 16000
    """Persons in the training set."""
    images_per_id: int = 8
    """Their images."""
    preset: str = "portrait"
    """Circumstances of the images."""
    steps: int = 3000
    """Optimiser steps."""
    batch_size: int = 128
    """Images a step."""
    learning_rate: float = 1.5e-3
    """The highest, of AdamW; falls to 0 by a cosine."""
    num_test_ids: int = 200
    """Unseen persons to measure on."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints."""
    seed: int = 0
    """Of everything random."""


class _Run:
    """The network on its way, and all that it needs to go on."""

    def __init__(self, settings: Settings, faces: Faces) -> None:
        self.settings, self.faces = settings, faces
        self.step, self.seconds, self.loss = 0, 0.0, math.nan
        torch.manual_seed(settings.seed)
        self.unet: Any = make_unet(faces.images.shape[2], faces.embeddings.shape[2])
        self.mean = copy.deepcopy(self.unet).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.unet.parameters(), settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
        )

    def train_step(self) -> float:
        """Take one step on images that depend on its number only; return the loss."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.step])
        images, conditions = self._batch(rng)
        noise = torch.from_numpy(rng.standard_normal(images.shape, np.float32))
        # Logit-normal: much noise is where the person is decided.
        times = torch.sigmoid(torch.from_numpy(rng.standard_normal(len(images), np.float32)) + 0.4)
        at = times[:, None, None, None]
        found = predict(self.unet, (1 - at) * images + at * noise, times, conditions)
        loss = ((found - images).square() / (at.square() + _LEAST_NOISE)).mean()
        self._descend(loss)
        return loss.item()

    def _batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return folded images, and the direction of one to all of the other images of each person."""
        num_ids, num_images = self.faces.images.shape[:2]
        size = self.settings.batch_size
        person, picture = rng.integers(num_ids, size=size), rng.integers(num_images, size=size)
        order = rng.random((size, num_images))
        order[np.arange(size), picture] = 2
        ranks = np.argsort(np.argsort(order, axis=1), axis=1)
        is_shown = ranks < rng.integers(1, num_images, size=(size, 1))
        rows = self.faces.embeddings[person]
        direction = np.einsum("bk,bkd->bd", is_shown.astype(np.float32), rows)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        direction[rng.random(size) < _NOBODY] = 0
        return fold(self.faces.images[person, picture]), torch.from_numpy(direction)

    def _descend(self, loss: torch.Tensor) -> None:
        share = self.step / self.settings.steps
        rate = 0.5 * (1 + math.cos(math.pi * share)) * min(1, (self.step + 1) / _WARMUP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        decay = min(_DECAY, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for kept, new in zip(self.mean.parameters(), self.unet.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        self.step += 1

    def save(self, path: Path) -> None:
        """Write a checkpoint in place of the one before."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
            "unet": self.unet.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        unfinished = path.with_suffix(".partial")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, weights_only=True)
        self.step, self.seconds, self.loss = (state[name] for name in ("step", "seconds", "loss"))
        self.unet.load_state_dict(state["unet"])
        self.mean.load_state_dict(state["mean"])
        self.optimizer.load_state_dict(state["optimizer"])


def train(settings: Settings) -> None:
    """Train, measure, and write the model to its folder."""
    torch.set_num_threads(os.cpu_count() or 1)
    recognizer = load_recognizer(settings.recognizer)
    faces = _faces(settings, recognizer, "generation", settings.num_ids, settings.preset)
    run = _Run(settings, faces)
    _train(run)
    sampling = Sampling(image_size=recognizer.image_size, condition_dim=recognizer.embedding_dim)
    save_generator(settings.out, run.mean, sampling)
    metrics = {
        "command": "python -m hyperface_jax.cli.closed_loop.train_generator --work WORK",
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


def _faces(settings: Settings, recognizer: Any, role: str, num_ids: int, preset: str) -> Faces:
    images = draw_persons(
        settings.seed,
        role,
        num_ids,
        settings.images_per_id,
        preset=preset,
        size=recognizer.image_size,
    )
    return embed_persons(recognizer, images)


def _train(run: _Run) -> None:
    settings = run.settings
    settings.work.mkdir(parents=True, exist_ok=True)
    checkpoint = settings.work / "generator.pt"
    if checkpoint.exists():
        run.restore(checkpoint)
    start = saved = logged = time.perf_counter()
    with StepProgress(settings.steps, run.step, label="generator") as bar:
        losses = []
        while run.step < settings.steps:
            losses.append(run.train_step())
            now = time.perf_counter()
            if run.step % _LOG_EVERY == 0 or run.step == settings.steps:
                run.loss, losses = float(np.mean(losses)), []
                rate = _LOG_EVERY * settings.batch_size / (now - logged)
                bar.update(run.step, f"loss {run.loss:.4f}  {rate:.0f} images/s")
                logged = now
            if now - saved > settings.checkpoint_seconds or run.step == settings.steps:
                run.seconds, start = run.seconds + now - start, now
                run.save(checkpoint)
                saved = now


def measure(settings: Settings) -> dict[str, float]:
    """Measure how well unseen persons are drawn.

    The target is the direction of half of a person's images, as for a packed identity; real images
    are the other half. Cosines are those of the recogniser.

    Returns:
        ``real_target_cosine`` and ``drawn_target_cosine``, mean cosines of real and drawn images to
        the target; ``real_pair_cosine``, of two real images; ``drawn_from_one_cosine``, of an image
        drawn from one real image to it; ``drawn_rank_1`` and ``real_rank_1``, shares whose nearest
        target is their own.
    """
    recognizer = load_recognizer(settings.recognizer)
    model = load_generator(settings.out)
    real = _faces(settings, recognizer, "reference", settings.num_test_ids, "easy").embeddings
    half = settings.images_per_id // 2
    target = np.asarray(sphere.normalize(jnp.asarray(real[:, :half].mean(1))))
    drawn, single = (
        _drawn(model, recognizer, conditions, settings.seed) for conditions in (target, real[:, 0])
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
    return float(np.mean(np.argmax(x @ targets.T, axis=1) == np.arange(len(x))))


if __name__ == "__main__":
    train(tyro.cli(Settings))
