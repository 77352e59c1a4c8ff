"""The run behind ``hyperface train``: data, loop, checkpoints, validation, results."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tensorboardX import SummaryWriter

from hyperface_jax import processes
from hyperface_jax.cli.loop import (
    INTERRUPTED,
    Saving,
    StopRequest,
    job_mesh,
    open_run,
    run_together,
    say,
)
from hyperface_jax.cli.pack import warn
from hyperface_jax.cli.progress import StepProgress
from hyperface_jax.cli.train import Train
from hyperface_jax.cli.validation import Validation, read_validation
from hyperface_jax.cli.versions import versions
from hyperface_jax.errors import InputError
from hyperface_jax.io import run_directory as names
from hyperface_jax.io.checkpoints import Checkpointer
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.files import JsonLines, atomic_write_json, one_line
from hyperface_jax.io.image_folders import skipped_text
from hyperface_jax.io.run_directory import RunDirectory
from hyperface_jax.io.torch_files import write_state_dict
from hyperface_jax.recognition.attributes import read_attributes
from hyperface_jax.recognition.backbones import BACKBONES, COLOR_ORDER, DROPOUT
from hyperface_jax.recognition.data import Loader, make_loader
from hyperface_jax.recognition.sources import Source, open_source, summary
from hyperface_jax.recognition.train import Metrics, Trainer, TrainState, from_tree, to_tree
from hyperface_jax.recognition.weights import RUN_SETTINGS, RUN_WEIGHTS, export_weights

_PACKAGES = ("hyperface_jax", "jax", "jaxlib", "flax", "optax", "grain", "orbax-checkpoint")
_TENSORBOARD = "tensorboard"
_IGNORED = (
    "out",
    "checkpoint_seconds",
    "devices",
    "distributed",
    "workers",
    "log_every",
    "data",
    "attributes",
)
_STATES_ON_DISK = 4
_BYTES_A_STATE = 2**30


def train(config: Train) -> int:
    """Run, resume or report a training; return the exit code. All processes of a job call it."""
    source = open_source(config.data)
    if source.skipped:
        warn(f"{one_line(config.data)}: {skipped_text(source.skipped)}")
    run = open_run(config.out, _STATES_ON_DISK * _BYTES_A_STATE)
    try:
        return run_together(lambda: _train(config, source, run), run.path)
    finally:
        run.close()


@dataclass(frozen=True)
class _Job:
    """What the loop and the results share."""

    config: Train
    trainer: Trainer
    loader: Loader
    run: RunDirectory
    validation: list[Validation]
    attributes: np.ndarray | None
    """Known of each class, ``[classes, k]``."""

    def batch(self) -> tuple[Any, ...]:
        """Return what the next step trains on, on its devices."""
        images, labels = next(self.loader)
        known = () if self.attributes is None else (self.attributes[labels],)
        return self.trainer.put((images, labels, *known))


def _train(config: Train, source: Source, run: RunDirectory) -> int:
    job = _prepared(config, source, run)
    resolved = _resolved(config, source, job.trainer)
    processes.on_first_process(lambda: run.claim(resolved, ignore=_IGNORED))
    if run.is_finished:
        say(f"{run.path}: already finished, loss {run.summary()['loss']:.4f}; nothing changed")
        return 0
    with Checkpointer(run / names.CHECKPOINTS) as checkpointer:
        ended = _loop(job, checkpointer)
    job.loader.close()
    if not ended.is_done:
        say(f"{run.path}: stopped and saved; run the same command to go on")
        return INTERRUPTED
    _write_results(job, ended)
    return 0


def _prepared(config: Train, source: Source, run: RunDirectory) -> _Job:
    recipe = config.make_recipe()
    if config.backbone not in BACKBONES:
        raise InputError(f"--backbone {config.backbone}: choose one of {', '.join(BACKBONES)}")
    shape = BACKBONES[config.backbone]
    size = config.image_size or shape.image_size
    dropout = DROPOUT[config.variant]
    shape = replace(
        shape,
        variant=config.variant,
        image_size=size,
        dropout=dropout,
        embedding_dim=config.embedding_dim or shape.embedding_dim,
    )
    attributes = None
    if config.attributes is not None:
        attributes = read_attributes(config.attributes, source.classes)
    mesh = job_mesh(config.devices)
    num_processes = jax.process_count()
    if recipe.batch_size % (mesh.size if mesh else 1):
        raise InputError(
            f"--batch-size {recipe.batch_size}: {mesh.size if mesh else 1} devices cannot share it "
            "evenly"
        )
    loader = make_loader(
        source,
        batch_size=recipe.batch_size // num_processes,
        image_size=size,
        seed=config.seed,
        augmentation=recipe.augmentation,
        color=COLOR_ORDER[config.variant],
        dtype="uint8",
        num_epochs=recipe.num_epochs,
        num_workers=config.workers,
        shard=(jax.process_index(), num_processes),
    )
    dtype = jnp.bfloat16 if config.bf16 else jnp.float32
    trainer = Trainer(
        shape,
        recipe,
        source.num_classes,
        loader.steps_per_epoch,
        mesh,
        dtype,
        0 if attributes is None else attributes.shape[1],
    )
    validation = [read_validation(path, config.images, size) for path in config.validate]
    return _Job(config, trainer, loader, run, validation, attributes)


def _resolved(config: Train, source: Source, trainer: Trainer) -> dict[str, Any]:
    chosen = asdict(trainer.recipe)
    return {
        "command": "train",
        **{name: value for name, value in asdict(config).items() if name not in chosen},
        **chosen,
        "image_size": trainer.backbone.image_size,
        "embedding_dim": trainer.backbone.embedding_dim,
        "milestones": list(trainer.recipe.milestones),
        "validate": [str(path) for path in config.validate],
        "data_fingerprint": source.fingerprint,
        "attributes": config.attributes and str(config.attributes),
        "attributes_sha256": config.attributes and file_sha256(config.attributes),
        **summary(source),
    }


@dataclass
class _Progress:
    """How far a run has come, beside its state; a checkpoint keeps it as notes."""

    state: TrainState
    done: int = 0
    seconds: float = 0.0
    loss: float = math.nan
    accuracy: dict[str, float] | None = None
    best_accuracy: float = -1.0
    best_epoch: int | None = None
    is_done: bool = False

    def notes(self, loader: Loader) -> dict[str, Any]:
        """Return what a checkpoint keeps beside the state."""
        kept = ("seconds", "loss", "accuracy", "best_accuracy", "best_epoch")
        return {"data": loader.get_state(), **{name: getattr(self, name) for name in kept}}


def _loop(job: _Job, checkpointer: Checkpointer) -> _Progress:
    """Run to the end or to a signal."""
    progress = _start(job, checkpointer)
    total, first = job.trainer.num_steps, progress.done
    saving = Saving(checkpointer, job.config.checkpoint_seconds)
    is_first = processes.is_first_process()
    bar = StepProgress(total, first, label="training", is_silent=not is_first)
    with StopRequest() as stop, _Log(job, first) as log, bar:
        start = time.perf_counter()
        while progress.done < total:
            progress.state, metrics = job.trainer.step(progress.state, *job.batch())
            progress.done += 1
            is_epoch_end = progress.done % job.trainer.steps_per_epoch == 0
            is_logged = progress.done % job.config.log_every == 0 or progress.done == total
            if is_logged or is_epoch_end:
                _check(job, progress, metrics)
                now = time.perf_counter()
                progress.seconds, start = progress.seconds + now - start, now
                row = log.write(progress, metrics)
                rate = row["images_per_second"]
                bar.update(progress.done, f"loss {progress.loss:.4f}  {rate:.0f} images/s")
            if is_epoch_end:
                _validate(job, progress, log)
                start = time.perf_counter()
            is_stopping, is_due = processes.any_process(stop.requested, saving.is_due)
            if is_due or is_stopping or progress.done == total:
                _check(job, progress, metrics)
                saving.save(progress.done, to_tree(progress.state), progress.notes(job.loader))
            if is_stopping:
                break
    progress.is_done = progress.done >= total
    return progress


def _start(job: _Job, checkpointer: Checkpointer) -> _Progress:
    """Go on from the latest checkpoint, or begin."""
    like = job.trainer.state_shapes()
    restored = checkpointer.restore(to_tree(like))
    if not restored:
        return _Progress(job.trainer.init(jax.random.key(job.config.seed)))
    notes = dict(restored.notes)
    job.loader.set_state(notes.pop("data"))
    state = from_tree(restored.state, like)
    say(f"{job.run.path}: resuming at step {int(state.step)}")
    return _Progress(state, int(state.step), **notes)


def _check(job: _Job, progress: _Progress, metrics: Metrics) -> None:
    """Stop with a diagnosis where the loss is not finite."""
    progress.loss = float(metrics.loss)
    if bool(metrics.is_finite):
        return
    what = "loss" if not math.isfinite(progress.loss) else "gradient"
    raise InputError(
        f"{job.run.path}: the {what} is not finite at step {int(progress.state.step)} (loss "
        f"{progress.loss}, gradient norm {float(metrics.gradient_norm)}, mean embedding norm "
        f"{float(metrics.embedding_norm):.3g}, learning rate {float(metrics.learning_rate):.3g}); the "
        "weights before it are the last checkpoint's: lower --learning-rate, add --warmup-epochs 1 or "
        "--max-gradient-norm 5, and start again with another --out"
    )


def _validate(job: _Job, progress: _Progress, log: _Log) -> None:
    """Measure the held-out pairs; keep the weights if they are the best so far and shall be kept."""
    if not job.validation:
        return
    model = job.trainer.model(progress.state)
    settings = {"mesh": job.trainer.mesh, "batch_size": job.trainer.recipe.batch_size}
    found = {item.name: item.accuracy(model, **settings) for item in job.validation}
    progress.accuracy = found
    mean = sum(found.values()) / len(found)
    if mean > progress.best_accuracy:
        progress.best_accuracy = mean
        progress.best_epoch = progress.done // job.trainer.steps_per_epoch
        if job.config.choose_by_validation:
            _write_model(job, progress.state)
    log.validation(progress)
    listed = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
    say(f"epoch {progress.done // job.trainer.steps_per_epoch}: {listed}")


class _Log:
    """history.jsonl and TensorBoard events, written by the first process."""

    def __init__(self, job: _Job, done: int) -> None:
        self._job, self._last = job, (done, time.perf_counter())
        self._lines: Any = nullcontext()
        self._events: Any = None
        if processes.is_first_process():
            job.run.truncate_history(done + 1)
            self._lines = JsonLines(job.run / names.HISTORY)
            self._events = SummaryWriter(str(job.run / _TENSORBOARD), purge_step=done)

    def __enter__(self) -> _Log:
        self._lines.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._lines.__exit__(*error)
        if self._events:
            self._events.close()

    def write(self, progress: _Progress, metrics: Metrics) -> dict[str, Any]:
        """Log the figures of the step just done, and the rate since the last line."""
        now = time.perf_counter()
        done, then = self._last
        self._last = progress.done, now
        num_images = (progress.done - done) * self._job.trainer.recipe.batch_size
        figures = {name: float(value) for name, value in metrics._asdict().items()}
        del figures["is_finite"]
        if self._job.attributes is None:
            del figures["attribute_error"]
        figures["images_per_second"] = num_images / max(now - then, 1e-9)
        return self._append(progress, figures)

    def validation(self, progress: _Progress) -> None:
        """Log what the held-out pairs gave."""
        accuracy = progress.accuracy or {}
        self._append(progress, {f"accuracy/{name}": value for name, value in accuracy.items()})
        self._last = progress.done, time.perf_counter()

    def _append(self, progress: _Progress, figures: dict[str, float]) -> dict[str, Any]:
        epoch = progress.done / self._job.trainer.steps_per_epoch
        row = {"step": progress.done, "epoch": round(epoch, 4), **figures}
        if self._events:
            self._lines.append(row)
            for name, value in figures.items():
                self._events.add_scalar(name, value, progress.done)
        return row


def _write_model(job: _Job, state: TrainState) -> None:
    """Write the weights in the published format, and what network they are of."""
    model = job.trainer.model(state)
    shape = job.trainer.backbone

    def write() -> None:
        write_state_dict(job.run / RUN_WEIGHTS, export_weights(model))
        described = {
            "backbone": job.config.backbone,
            "variant": shape.variant,
            "image_size": shape.image_size,
            "embedding_dim": shape.embedding_dim,
            "color": COLOR_ORDER[shape.variant],
        }
        atomic_write_json(job.run / RUN_SETTINGS, described)

    processes.on_first_process(write)


def _write_results(job: _Job, ended: _Progress) -> None:
    if not job.config.choose_by_validation:
        _write_model(job, ended.state)
    skipped = job.loader.skipped()
    if skipped:
        warn(f"{len(skipped)} images could not be read, such as: {skipped[0]}")
    processes.on_first_process(lambda: _finish(job, ended, skipped))


def _finish(job: _Job, ended: _Progress, skipped: list[str]) -> None:
    from hyperface_jax.reports.training import write_training_figure

    num_images = job.trainer.num_steps * job.trainer.recipe.batch_size
    result = {
        **summary(job.loader.source),
        "steps": job.trainer.num_steps,
        "epochs": job.trainer.recipe.num_epochs,
        "loss": ended.loss,
        "accuracy": ended.accuracy,
        "best_accuracy": ended.best_accuracy if job.validation else None,
        "best_epoch": ended.best_epoch,
        "chosen_by_validation": job.config.choose_by_validation,
        "skipped_images": skipped,
        "num_files_not_read": len(job.loader.source.skipped),
        "seconds": ended.seconds,
        "images_per_second": num_images / ended.seconds if ended.seconds else None,
        "device": jax.devices()[0].device_kind,
        "num_devices": job.trainer.mesh.size if job.trainer.mesh else 1,
        "versions": versions(*_PACKAGES),
    }
    figure = write_training_figure(job.run.path)
    atomic_write_json(job.run / names.SUMMARY, result)
    print(f"loss {ended.loss:.4f}; model: {job.run / RUN_WEIGHTS}; curves: {figure}")
