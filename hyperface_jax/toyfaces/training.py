"""Training of the generator of toy faces.

The generator learns to draw a picture from the direction of *other* pictures of the same person, never
from the picture's own embedding, which would pass on background and light as if they were the person.
"""

from __future__ import annotations

import copy
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hyperface_jax.io.files import atomic_write_bytes
from hyperface_jax.toyfaces.diffusion import fold, make_unet, predict

if TYPE_CHECKING:
    from pathlib import Path

    from hyperface_jax.toyfaces.faces import PersonFaces

_NOBODY = 0.1
"""Share of the training images without a condition."""
_DECAY = 0.998
"""Decay of the moving average of the weights."""
_WARMUP = 200
_LEAST_NOISE = 0.1
"""Term that bounds the weight of images with little noise in the velocity error."""


class GeneratorTraining:
    """A network in training, and everything that is needed to resume its training.

    Args:
        faces: images of persons with their embeddings, two or more for each person.
        steps: number of steps of the whole training; the learning rate falls to 0 at the end.
        batch_size: number of images per step.
        learning_rate: peak learning rate of AdamW.
        seed: random seed.
    """

    def __init__(
        self, faces: PersonFaces, *, steps: int, batch_size: int, learning_rate: float, seed: int
    ) -> None:
        self.faces, self.steps, self.batch_size = faces, steps, batch_size
        self.learning_rate, self.seed = learning_rate, seed
        self.step, self.seconds, self.loss = 0, 0.0, math.nan
        torch.manual_seed(seed)
        self.unet: Any = make_unet(faces.images.shape[2], faces.embeddings.shape[2])
        self.mean = copy.deepcopy(self.unet).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.unet.parameters(), learning_rate, betas=(0.9, 0.99), weight_decay=0.01
        )

    def train_step(self) -> float:
        """Take one step and return the loss; the images depend only on the number of the step."""
        rng = np.random.default_rng([self.seed, self.step])
        images, conditions = self._batch(rng)
        noise = torch.from_numpy(rng.standard_normal(images.shape, np.float32))
        # Logit-normal times, shifted toward much noise, because the person is decided there.
        times = torch.sigmoid(torch.from_numpy(rng.standard_normal(len(images), np.float32)) + 0.4)
        at = times[:, None, None, None]
        found = predict(self.unet, (1 - at) * images + at * noise, times, conditions)
        loss = ((found - images).square() / (at.square() + _LEAST_NOISE)).mean()
        self._descend(loss)
        return loss.item()

    def _batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return folded images, and the direction of one or more other images of each person."""
        num_ids, num_images = self.faces.images.shape[:2]
        size = self.batch_size
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
        share = self.step / self.steps
        rate = 0.5 * (1 + math.cos(math.pi * share)) * min(1, (self.step + 1) / _WARMUP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * rate
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
        """Write a checkpoint that replaces the previous one."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
            "unet": self.unet.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        atomic_write_bytes(path, buffer.getbuffer())

    def restore(self, path: Path) -> None:
        """Resume from a checkpoint."""
        state = torch.load(path, weights_only=True)
        self.step, self.seconds, self.loss = (state[name] for name in ("step", "seconds", "loss"))
        self.unet.load_state_dict(state["unet"])
        self.mean.load_state_dict(state["mean"])
        self.optimizer.load_state_dict(state["optimizer"])
