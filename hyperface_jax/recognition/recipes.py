"""Training recipes: published settings by name. To add one, add an entry to ``RECIPES``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import optax

from hyperface_jax.errors import InputError, require
from hyperface_jax.recognition.augment import Augmentation
from hyperface_jax.recognition.margins import AdaFace, ArcFace, CosFace, MarginHead

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADS: Mapping[str, type] = {"adaface": AdaFace, "arcface": ArcFace, "cosface": CosFace}
Decay = Literal["steps", "linear"]
_FACTOR = 0.1
_AUGMENTATION = Augmentation()


@dataclass(frozen=True)
class Recipe:
    """Training settings: loss, optimizer, schedule and augmentation.

    Attributes:
        head: margin head, a key of ``HEADS``.
        margin: margin of the head; None uses the published one.
        batch_size: number of images per step, over all devices.
        num_epochs: number of passes over the data.
        learning_rate: highest learning rate of the schedule.
        decay: "steps" divides the learning rate by 10 at each milestone; "linear" decreases it to 0.
        milestones: epochs at which the decay "steps" lowers the learning rate.
        warmup_epochs: epochs over which the learning rate rises from 0, which helps against early NaNs.
        momentum: momentum of SGD.
        weight_decay: weight decay of SGD, added to the gradient before the momentum.
        decay_norms: whether weight decay also applies to batch norms.
        max_gradient_norm: norm to which the backbone's gradient is clipped; None does not clip.
        ema: decay of an exponential moving average of the weights, which then becomes the result; None
            keeps no average.
        sample_rate: share of the classes that take part in a step (Partial FC).
        class_norm: length of each class weight at the start, in a random direction, as in AdaFace; None
            draws the weights from N(0, 0.01^2) as insightface does, which have length 0.2 in 512
            dimensions.
        attribute_weight: weight of the attribute error in the loss, if attributes are given.
        augmentation: augmentation that is applied to each image.
    """

    head: str = "adaface"
    margin: float | None = None
    batch_size: int = 256
    num_epochs: int = 30
    learning_rate: float = 0.1
    decay: Decay = "steps"
    milestones: tuple[int, ...] = (12, 20, 26)
    warmup_epochs: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_norms: bool = False
    max_gradient_norm: float | None = None
    ema: float | None = None
    sample_rate: float = 1.0
    class_norm: float | None = 1.0
    attribute_weight: float = 10.0
    augmentation: Augmentation = _AUGMENTATION

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise InputError(f"`head={self.head}`: choose one of {', '.join(HEADS)}")
        checks = (
            ("margin", 0 <= (self.margin or 0) <= 1, "between 0 and 1"),
            ("batch_size", self.batch_size >= 2, "at least 2"),
            ("num_epochs", self.num_epochs >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < float("inf"), "above 0"),
            (
                "warmup_epochs",
                0 <= self.warmup_epochs < self.num_epochs,
                "less than the epochs",
            ),
            ("momentum", 0 <= self.momentum < 1, "at least 0 and less than 1"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("max_gradient_norm", (self.max_gradient_norm or 1) > 0, "above 0"),
            ("ema", 0 <= (self.ema or 0) < 1, "at least 0 and less than 1"),
            ("attribute_weight", 0 <= self.attribute_weight < float("inf"), "0 or more"),
            ("sample_rate", 0 < self.sample_rate <= 1, "above 0 and at most 1"),
            ("class_norm", 0 < (self.class_norm or 1) < float("inf"), "above 0"),
        )
        require(self, checks)

    def make_head(self) -> MarginHead:
        """Return the margin head."""
        settings = {} if self.margin is None else {"margin": self.margin}
        return HEADS[self.head](**settings)

    def schedule(self, steps_per_epoch: int) -> optax.Schedule:
        """Return the learning rate as a function of the step."""
        num_steps = self.num_epochs * steps_per_epoch
        num_warmup = int(self.warmup_epochs * steps_per_epoch)
        if self.decay == "linear":
            falling = optax.linear_schedule(self.learning_rate, 0.0, num_steps - num_warmup)
        else:
            cuts: dict[int, float] = {}
            for epoch in self.milestones:
                step = epoch * steps_per_epoch - num_warmup
                cuts[step] = cuts.get(step, 1.0) * _FACTOR
            falling = optax.piecewise_constant_schedule(self.learning_rate, cuts)
        if not num_warmup:
            return falling
        rising = optax.linear_schedule(0.0, self.learning_rate, num_warmup)
        return optax.join_schedules([rising, falling], [num_warmup])


RECIPES: Mapping[str, Recipe] = {
    "hyperface": Recipe(),
    "casia": Recipe(batch_size=512, num_epochs=26, milestones=(12, 20, 24)),
    "insightface": Recipe(
        head="arcface",
        batch_size=1024,
        num_epochs=20,
        decay="linear",
        decay_norms=True,
        class_norm=None,
        max_gradient_norm=5.0,
        augmentation=Augmentation(crop=0, low_resolution=0, photometric=0),
    ),
}
"""The recipes by name.

hyperface: the recipe of the HyperFace paper, for synthetic data.
    ``hyperface train --data DIR --out RUN --backbone iresnet50``
casia: AdaFace's recipe for CASIA-WebFace. Published accuracy of R50, in percent: LFW 99.42,
    CFP-FP 96.41, CPLFW 89.97, CALFW 93.23, AgeDB 94.38 (not reproduced here).
    ``hyperface train --data casia.rec --out RUN --backbone iresnet50 --recipe casia``
insightface: ArcFace with a linear schedule and gradient clipping, for large data sets.
    ``hyperface train --data ms1m.rec --out RUN --recipe insightface --variant insightface``
"""
