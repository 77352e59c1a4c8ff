"""What a training run does between its steps: it logs, validates and saves."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hyperface_jax.recognition.train import to_tree
from hyperface_jax.runs.training.results import write_model

if TYPE_CHECKING:
    from hyperface_jax.recognition.fitting import Fitted
    from hyperface_jax.runs.support.jobs import Saving
    from hyperface_jax.runs.support.watch import Watch
    from hyperface_jax.runs.training.job import Account, Job
    from hyperface_jax.runs.training.log import Log
    from hyperface_jax.typing import Update


class Recorder:
    """The callbacks of :func:`.fit` for a run on disk.

    Args:
        job: the training job.
        account: figures of the run so far; kept up to date.
        log: receives the figures.
        saving: saves the checkpoints.
        update: called with the number of steps done.
        watch: receives the figures of each epoch.
    """

    def __init__(
        self, job: Job, account: Account, log: Log, saving: Saving, update: Update, watch: Watch
    ) -> None:
        self._job, self._account, self._log = job, account, log
        self._saving, self._update, self._watch = saving, update, watch
        self._start = time.perf_counter()

    def log(self, fitted: Fitted, figures: dict[str, float]) -> None:
        """Write the figures of the last step."""
        now = time.perf_counter()
        self._account.seconds += now - self._start
        self._start = now
        self._log.write(fitted, figures)
        rate = figures["images_per_second"]
        self._update(fitted.step, f"loss {fitted.loss:.4f}  {rate:.0f} images/s")

    def validate(self, fitted: Fitted) -> None:
        """Measure the held-out pairs; keep the weights if they are the best and the settings say so."""
        if not self._job.validation:
            return
        model, trainer = fitted.model(), fitted.trainer
        settings: dict[str, Any] = {"mesh": trainer.mesh, "batch_size": trainer.recipe.batch_size}
        found: dict[str, float] = {}
        for item in self._job.validation:
            self._update(fitted.step, f"validating on {item.name}")
            found[item.name] = item.accuracy(model, **settings)
        self._note(found, fitted)
        self._log.write(fitted, {f"accuracy/{name}": value for name, value in found.items()})
        listed = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
        self._watch.say(f"epoch {round(fitted.epoch)}: {listed}")
        self._start = time.perf_counter()

    def _note(self, found: dict[str, float], fitted: Fitted) -> None:
        account = self._account
        account.accuracy = found
        mean = sum(found.values()) / len(found)
        if mean > account.best_accuracy:
            account.best_accuracy, account.best_epoch = mean, round(fitted.epoch)
            if self._job.config.choose_by_validation:
                write_model(self._job, fitted)

    def save(self, fitted: Fitted) -> None:
        """Save the state, the position in the data and the account."""
        data = self._job.training.loader.get_state()
        notes = {"data": data, "loss": fitted.loss, **asdict(self._account)}
        self._saving.save(fitted.step, to_tree(fitted.state), notes)
