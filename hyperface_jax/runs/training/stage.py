"""The ``train`` stage itself: it opens the data, resumes, runs the loop and saves checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperface_jax import processes
from hyperface_jax.errors import Stopped
from hyperface_jax.io import run_directory as names
from hyperface_jax.io.checkpoints import Checkpointer
from hyperface_jax.io.files import one_line
from hyperface_jax.io.image_folders import skipped_text
from hyperface_jax.recognition.fitting import Fitted, NotFiniteError, fit
from hyperface_jax.recognition.sources import open_source
from hyperface_jax.recognition.train import from_tree, to_tree
from hyperface_jax.runs.support.jobs import Saving, join_job, open_run, run_together
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.watch import QUIET, Watch
from hyperface_jax.runs.training.job import Account, Job, make_job, make_recipe
from hyperface_jax.runs.training.log import Log
from hyperface_jax.runs.training.recorder import Recorder
from hyperface_jax.runs.training.results import write_results
from hyperface_jax.runs.training.settings import FREE_TO_CHANGE, Train, check_settings

if TYPE_CHECKING:
    from hyperface_jax.io.run_directory import RunDirectory
    from hyperface_jax.recognition.labeled import Source
    from hyperface_jax.recognition.recipes import Recipe

_STATES_ON_DISK = 4
_BYTES_A_STATE = 2**30


def train(config: Train, *, watch: Watch = QUIET) -> Result:
    """Train a face recognizer on images of identities.

    All processes of a job call this function. The same call resumes an unfinished run, and returns the
    figures of a finished one.

    Args:
        config: the settings.
        watch: receives messages and progress, and can stop the run.

    Returns:
        The figures of ``summary.json``, and the run directory.

    Raises:
        InputError: a setting or a file cannot be used, or the loss is not finite.
        Stopped: a stop was requested; everything is saved.
    """
    check_settings(config)
    recipe = make_recipe(config)
    join_job(config.distributed)
    watch = watch.of_this_process()
    source = open_source(config.data)
    if source.skipped:
        watch.warn(f"{one_line(config.data)}: {skipped_text(source.skipped)}")
    run = open_run(config.out, _STATES_ON_DISK * _BYTES_A_STATE)
    try:
        return run_together(
            lambda watch: _train(config, recipe, source, run, watch),
            run.path,
            watch,
            stall_seconds=config.stall_seconds,
        )
    finally:
        run.close()


def _train(
    config: Train, recipe: Recipe, source: Source, run: RunDirectory, watch: Watch
) -> Result:
    job = make_job(config, recipe, source, run)
    resolved = job.resolved_config()
    # Runs from before there was a choice do not say what they took.
    of_later = () if "class_norm" in run.stored_config() else ("class_norm",)
    processes.on_first_process(lambda: run.claim(resolved, ignore=(*FREE_TO_CHANGE, *of_later)))
    if run.is_finished:
        summary = run.summary()
        text = f"{run.path}: already finished, loss {summary['loss']:.4f}; nothing changed"
        return Result(run.path, summary, text)
    with Checkpointer(run / names.CHECKPOINTS) as checkpointer:
        fitted, account = _loop(job, checkpointer, watch)
    if not fitted.is_done:
        raise Stopped(run.path)
    return write_results(job, fitted, account, watch)


def _loop(job: Job, checkpointer: Checkpointer, watch: Watch) -> tuple[Fitted, Account]:
    """Run to the end, or until a stop is requested."""
    start, account = _start(job, checkpointer, watch)
    saving = Saving(checkpointer.save, job.config.checkpoint_seconds)
    opened = watch.progress("training", "steps", job.trainer.num_steps, start.step)
    with watch.stopping() as is_asked, Log(job.run, start.step) as log, opened as update:
        update(start.step, "compiling")
        recorder = Recorder(job, account, log, saving, update, watch)
        try:
            fitted = fit(
                job.training,
                start,
                log_every=job.config.log_every,
                on_log=recorder.log,
                on_epoch=recorder.validate,
                on_save=recorder.save,
                is_save_due=lambda: saving.is_due,
                is_asked=is_asked,
            )
        except NotFiniteError as error:
            raise NotFiniteError(
                f"{job.run.path}: {error} with another `out`; the last checkpoint holds the weights "
                "of an earlier step"
            ) from error
    return fitted, account


def _start(job: Job, checkpointer: Checkpointer, watch: Watch) -> tuple[Fitted, Account]:
    """Resume from the latest checkpoint, or begin."""
    like = job.trainer.state_shapes()
    restored = checkpointer.restore(to_tree(like))
    if not restored:
        return job.training.start(), Account()
    notes = dict(restored.notes)
    job.training.loader.set_state(notes.pop("data"))
    state = from_tree(restored.state, like)
    start = Fitted(job.trainer, state, int(state.step), notes.pop("loss"))
    watch.say(f"{job.run.path}: resuming at step {start.step}")
    return start, Account(**notes)
