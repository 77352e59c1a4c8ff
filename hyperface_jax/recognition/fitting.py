"""Training without files: from a source, a network and a recipe to a trained network.

:func:`make_training` brings these three together, and :func:`fit` runs the steps. To keep checkpoints or
a log, or to evaluate held-out images, use the callbacks of :func:`fit`.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from hyperface_jax import processes
from hyperface_jax.errors import InputError
from hyperface_jax.recognition.backbones import (
    COLOR_ORDER,
    BackboneConfig,
    IResNet,
    backbone_config,
)
from hyperface_jax.recognition.data import Loader, make_loader
from hyperface_jax.recognition.recipes import RECIPES, Recipe
from hyperface_jax.recognition.train import Metrics, Trainer, TrainState

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from jax.sharding import Mesh

    from hyperface_jax.recognition.labeled import Source

    Figures = dict[str, float]

_PAPER = RECIPES["hyperface"]


class NotFiniteError(InputError):
    """The loss or its gradient is not finite. The weights are still those from before the step."""


@dataclass(frozen=True)
class Fitted:
    """A network and its training state after some number of steps.

    Attributes:
        trainer: the fixed settings of a training step.
        state: state of the network and its optimizers; the next step donates its buffers.
        step: number of steps done.
        loss: loss at the last step for which it was read; NaN before the first.
    """

    trainer: Trainer
    state: TrainState
    step: int = 0
    loss: float = math.nan

    @property
    def is_done(self) -> bool:
        """Whether all steps of the recipe are done."""
        return self.step >= self.trainer.num_steps

    @property
    def epoch(self) -> float:
        """Number of passes over the data that are done."""
        return self.step / self.trainer.steps_per_epoch

    @property
    def is_epoch_end(self) -> bool:
        """Whether the last step was the last of an epoch."""
        return self.step > 0 and self.step % self.trainer.steps_per_epoch == 0

    def model(self) -> IResNet:
        """Return the network in evaluation mode, with averaged weights if the recipe keeps them."""
        return self.trainer.model(self.state)


@dataclass(frozen=True)
class Training:
    """A network to train and its batches, made by :func:`make_training`.

    Attributes:
        trainer: the fixed settings of a training step.
        loader: the batches of this process.
        seed: seed of everything random.
        attributes: known attributes of each identity, ``[C, k]``; None if there are none.
    """

    trainer: Trainer
    loader: Loader
    seed: int = 0
    attributes: np.ndarray | None = None

    def start(self) -> Fitted:
        """Return the network before the first step."""
        return Fitted(self.trainer, self.trainer.init(jax.random.key(self.seed)))

    def batch(self) -> tuple[Any, ...]:
        """Return the next batch, placed on the devices."""
        images, labels = next(self.loader)
        known = () if self.attributes is None else (self.attributes[labels],)
        return self.trainer.put((images, labels, *known))


def make_training(
    source: Source,
    backbone: str | BackboneConfig = "iresnet50",
    recipe: Recipe = _PAPER,
    *,
    seed: int = 0,
    attributes: np.ndarray | None = None,
    mesh: Mesh | None = None,
    dtype: Any = jnp.float32,
    num_workers: int = 0,
) -> Training:
    """Bring images, a network and a recipe together.

    All processes of a job must call this function.

    Args:
        source: the labeled images; see :func:`.open_source` and :class:`.ArraySource`.
        backbone: a key of ``BACKBONES``, or a shape from :func:`.backbone_config`.
        recipe: loss, optimizer, schedule and augmentation.
        seed: seed of everything random, below 2^32.
        attributes: known attributes of each identity, ``[C, k]``, from :func:`.read_attributes`; the
            embedding is also trained to predict them.
        mesh: devices to shard the batch and the classes over; None trains on one device.
        dtype: type in which the convolutions compute, float32 or bfloat16.
        num_workers: number of processes that read images; 0 reads in threads.

    Returns:
        The training to pass to :func:`fit`.

    Raises:
        InputError: a setting is out of range, or there are too few images for it.
    """
    shape = backbone_config(backbone) if isinstance(backbone, str) else backbone
    num_devices = mesh.size if mesh else 1
    if recipe.batch_size % num_devices:
        raise InputError(
            f"`batch_size={recipe.batch_size}`: {num_devices} devices cannot share it evenly"
        )
    num_processes = jax.process_count()
    loader = make_loader(
        source,
        batch_size=recipe.batch_size // num_processes,
        image_size=shape.image_size,
        seed=seed,
        augmentation=recipe.augmentation,
        color=COLOR_ORDER[shape.variant],
        dtype="uint8",
        num_epochs=recipe.num_epochs,
        num_workers=num_workers,
        shard=(jax.process_index(), num_processes),
    )
    num_attributes = 0 if attributes is None else attributes.shape[1]
    trainer = Trainer(
        shape, recipe, source.num_classes, loader.steps_per_epoch, mesh, dtype, num_attributes
    )
    return Training(trainer, loader, seed, attributes)


def _ignore(*values: Any) -> None:
    del values


def _never() -> bool:
    return False


def fit(
    training: Training,
    start: Fitted | None = None,
    *,
    num_steps: int | None = None,
    log_every: int = 20,
    on_log: Callable[[Fitted, Figures], object] = _ignore,
    on_epoch: Callable[[Fitted], object] = _ignore,
    on_save: Callable[[Fitted], object] = _ignore,
    is_save_due: Callable[[], bool] = _never,
    is_asked: Callable[[], bool] = _never,
) -> Fitted:
    """Train a network.

    All processes of a job must call this function. A callback may read the state in its argument but
    must not keep it, because the next step donates its buffers. To resume later in another process, save
    ``to_tree(fitted.state)`` (see :func:`.to_tree`) and ``fitted.step``.

    Args:
        training: the network and its batches.
        start: the state to continue from, with buffers that are donated; None starts from the beginning.
        num_steps: number of the step to stop at; None runs all steps of the recipe.
        log_every: number of steps between two calls of ``on_log``.
        on_log: called with the network and the figures of its last step, also at the end of each epoch.
        on_epoch: called with the network at the end of each epoch, after ``on_log``.
        on_save: called with the network at the end, and whenever a save is due.
        is_save_due: called after each step; returns whether to save now.
        is_asked: called after each step; returns whether to save and stop.

    Returns:
        The network after the last step.

    Raises:
        NotFiniteError: the loss or its gradient is not finite.
        InputError: more than a tenth of the images cannot be read.
    """
    trainer = training.trainer
    fitted = training.start() if start is None else start
    last = trainer.num_steps if num_steps is None else min(num_steps, trainer.num_steps)
    training.loader.seek(fitted.step)
    rate = _Rate(fitted.step)
    try:
        while fitted.step < last:
            state, metrics = trainer.step(fitted.state, *training.batch())
            fitted = replace(fitted, state=state, step=fitted.step + 1)
            is_last = fitted.step == last
            if is_last or fitted.is_epoch_end or fitted.step % log_every == 0:
                fitted = _checked(fitted, metrics)
                on_log(fitted, _figures(trainer, metrics, rate.since_last(fitted.step)))
            if fitted.is_epoch_end:
                on_epoch(fitted)
                rate = _Rate(fitted.step)
            is_stopping, is_due = processes.any_process(is_asked(), is_save_due())
            if is_stopping or is_due or is_last:
                fitted = _checked(fitted, metrics)
                on_save(fitted)
            if is_stopping:
                break
    finally:
        training.loader.close()
    return fitted


class _Rate:
    """Measures steps per second since the previous call."""

    def __init__(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()

    def since_last(self, step: int) -> float:
        now = time.perf_counter()
        rate = (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        return rate


def _figures(trainer: Trainer, metrics: Metrics, steps_per_second: float) -> Figures:
    figures = {name: float(value) for name, value in metrics._asdict().items()}
    del figures["is_finite"]
    if not trainer.num_attributes:
        del figures["attribute_error"]
    return figures | {"images_per_second": steps_per_second * trainer.recipe.batch_size}


def _checked(fitted: Fitted, metrics: Metrics) -> Fitted:
    """Record the loss, or raise an error with a diagnosis if the step was not finite."""
    loss = float(metrics.loss)
    if bool(metrics.is_finite):
        return replace(fitted, loss=loss)
    what = "loss" if not math.isfinite(loss) else "gradient"
    raise NotFiniteError(
        f"the {what} is not finite at step {int(fitted.state.step)} (loss {loss}, gradient norm "
        f"{float(metrics.gradient_norm)}, mean embedding norm {float(metrics.embedding_norm):.3g}, "
        f"learning rate {float(metrics.learning_rate):.3g}): lower `learning_rate`, add "
        "`warmup_epochs=1` or `max_gradient_norm=5`, and start again"
    )
