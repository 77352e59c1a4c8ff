"""The results of a training run: model, summary and report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from hyperface_jax import processes
from hyperface_jax.io import run_directory as names
from hyperface_jax.io.files import atomic_write_json
from hyperface_jax.io.torch_files import write_state_dict
from hyperface_jax.recognition.backbones import COLOR_ORDER
from hyperface_jax.recognition.labeled import summary
from hyperface_jax.recognition.weights import RUN_SETTINGS, RUN_WEIGHTS, export_weights
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.versions import versions

if TYPE_CHECKING:
    from hyperface_jax.recognition.fitting import Fitted
    from hyperface_jax.runs.support.watch import Watch
    from hyperface_jax.runs.training.job import Account, Job

_PACKAGES = ("hyperface_jax", "jax", "jaxlib", "flax", "optax", "grain", "orbax-checkpoint")


def write_model(job: Job, fitted: Fitted) -> None:
    """Write the weights in the published format, and a description of their network."""
    model, shape = fitted.model(), fitted.trainer.backbone
    described = {
        "backbone": job.config.backbone,
        "variant": shape.variant,
        "image_size": shape.image_size,
        "embedding_dim": shape.embedding_dim,
        "color": COLOR_ORDER[shape.variant],
    }

    def write() -> None:
        write_state_dict(job.run / RUN_WEIGHTS, export_weights(model))
        atomic_write_json(job.run / RUN_SETTINGS, described)

    processes.on_first_process(write)


def write_results(job: Job, fitted: Fitted, account: Account, watch: Watch) -> Result:
    """Write model, report and summary; only the first process returns figures."""
    if not job.config.choose_by_validation:
        write_model(job, fitted)
    skipped = job.training.loader.skipped()
    if skipped:
        watch.warn(f"{len(skipped)} images could not be read, such as: {skipped[0]}")
    found = processes.on_first_process(lambda: _finish(job, fitted, account, skipped))
    return found or Result(job.run.path, {}, "")


def _finish(job: Job, fitted: Fitted, account: Account, skipped: list[str]) -> Result:
    from hyperface_jax.reports.training import write_training_report

    trainer, source, seconds = fitted.trainer, job.source, account.seconds
    num_images = trainer.num_steps * trainer.recipe.batch_size
    figures: dict[str, Any] = {
        **summary(source),
        "steps": trainer.num_steps,
        "epochs": trainer.recipe.num_epochs,
        "loss": fitted.loss,
        "accuracy": account.accuracy,
        "best_accuracy": account.best_accuracy if job.validation else None,
        "best_epoch": account.best_epoch,
        "chosen_by_validation": job.config.choose_by_validation,
        "skipped_images": skipped,
        "num_files_not_read": len(source.skipped),
        "seconds": seconds,
        "images_per_second": num_images / seconds if seconds else None,
        "device": jax.devices()[0].device_kind,
        "num_devices": trainer.mesh.size if trainer.mesh else 1,
        "versions": versions(*_PACKAGES),
    }
    page = write_training_report(job.run.path, figures)
    atomic_write_json(job.run / names.SUMMARY, figures)
    text = f"loss {fitted.loss:.4f}; model: {job.run / RUN_WEIGHTS}; report: {page}"
    return Result(job.run.path, figures, text)
