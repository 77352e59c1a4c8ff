"""The ``pack`` stage itself: it sets up devices, resumes, runs the loop and saves checkpoints."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax import processes
from hyperface_jax.codes import refinable
from hyperface_jax.errors import InputError, Stopped
from hyperface_jax.io import run_directory as names
from hyperface_jax.io.checkpoints import Checkpointer
from hyperface_jax.io.embeddings import Embeddings
from hyperface_jax.io.files import JsonLines
from hyperface_jax.io.run_directory import RunDirectory
from hyperface_jax.packing import (
    Annealed,
    Loop,
    LoopState,
    Method,
    MiniBatch,
    PackingProblem,
    Paper,
    StepRecord,
    refining_annealing,
    starts,
)
from hyperface_jax.packing.methods import is_measured
from hyperface_jax.pairwise import Sweep
from hyperface_jax.runs.packing.codes import pack_code
from hyperface_jax.runs.packing.inputs import Inputs, manifold_of, read_inputs, resolved_config
from hyperface_jax.runs.packing.job import Job
from hyperface_jax.runs.packing.results import write_results
from hyperface_jax.runs.packing.searching import pack_by_search
from hyperface_jax.runs.packing.settings import (
    ALPHA,
    FREE_TO_CHANGE,
    LEARNING_RATE,
    RENAMED,
    Pack,
    check_settings,
    is_code_alone,
)
from hyperface_jax.runs.support.jobs import Saving, job_mesh, join_job, open_run, run_together
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.watch import QUIET, Watch

_STATES_ON_DISK = 12


def pack(config: Pack, *, watch: Watch = QUIET) -> Result:
    """Choose identities on the hypersphere, as far apart as possible, near the gallery.

    All processes of a job call this function. The same call resumes an unfinished run, and returns the
    figures of a finished one.

    Args:
        config: the settings.
        watch: receives messages and progress, and can stop the run.

    Returns:
        The figures of ``summary.json``, and the run directory.

    Raises:
        InputError: a setting or a file cannot be used; nothing was done.
        Stopped: a stop was requested; everything is saved.
    """
    check_settings(config)
    if config.through is not None:
        return _through_generator(config, watch)
    join_job(config.distributed)
    watch = watch.of_this_process()
    return pack_inputs(config, read_inputs(config, watch), watch)


def pack_inputs(config: Pack, inputs: Inputs, watch: Watch) -> Result:
    """Pack as :func:`pack` does, with settings that were checked and files that were read."""
    if is_code_alone(config):
        return pack_code(config, inputs, watch)
    if config.search is not None:
        return pack_by_search(config, inputs, watch)
    needed = _STATES_ON_DISK * 4 * config.num_ids * inputs.dim * config.restarts
    run = open_run(config.out, needed)
    try:
        return run_together(
            lambda watch: _pack(config, inputs, run, watch),
            run.path,
            watch,
            stall_seconds=config.stall_seconds,
        )
    finally:
        run.close()


def _through_generator(config: Pack, watch: Watch) -> Result:
    # Imported late, because this needs the synthesis extra.
    from hyperface_jax.runs.packing.through import pack_through_generator
    from hyperface_jax.runs.synthesis.stage import synthesize

    return pack_through_generator(config, watch, pack=pack, synthesize=synthesize)


def _pack(config: Pack, inputs: Inputs, run: RunDirectory, watch: Watch) -> Result:
    job = _build(config, inputs, run)
    resolved = _resolved(config, inputs, job)
    processes.on_first_process(lambda: run.claim(resolved, ignore=FREE_TO_CHANGE, renamed=RENAMED))
    if run.is_finished:
        summary = run.summary()
        text = (
            f"{run.path}: already finished, max cosine {summary['max_cosine']:.6f}; nothing changed"
        )
        return Result(run.path, summary, text)
    with Checkpointer(run / names.CHECKPOINTS) as checkpointer:
        state, seconds, is_done = _loop(job, checkpointer, watch)
    if not is_done:
        raise Stopped(run.path)
    return write_results(job, inputs, state, seconds, watch)


def _choose_mesh(config: Pack) -> Any:
    """Return the mesh to shard over; None for a single device."""
    count = config.devices or (1 if config.restarts > 1 else jax.device_count())
    is_alone = count < jax.device_count() or config.restarts > 1 or config.polish
    if jax.process_count() > 1 and is_alone:
        raise InputError("`devices`, `restarts` and `polish` are for a single process: drop them")
    return job_mesh(count)


def _build(config: Pack, inputs: Inputs, run: RunDirectory) -> Job:
    """Make a job from the settings, the inputs and the settings of the run on disk."""
    sweep = Sweep(_choose_mesh(config))
    try:
        problem = PackingProblem(
            num_points=config.num_ids,
            dim=inputs.dim,
            gallery=_points(inputs.gallery),
            alpha=ALPHA if config.alpha is None else config.alpha,
            manifold=manifold_of(config, _points(inputs.gallery)),
            keep_out=_points(inputs.keep_out),
            keep_out_cosine=config.keep_out_cosine,
            frozen=_points(inputs.frozen),
        )
        start = starts.checked(_start(config, inputs), problem)
        restarts = config.restarts if config.restarts > 1 else None
        method = _method(config, run.stored_config())
        loop = Loop.of(method, problem, sweep, restarts)
    except InputError as error:
        raise InputError(f"`method={config.method}`: {error}") from error
    return Job(config, problem, loop.place(problem), loop, start, run)


def _method(config: Pack, stored: dict[str, Any]) -> Method:
    """Return the method; a resumed run keeps what it chose by the size and the devices it began on."""
    settings: dict[str, Any] = {"num_steps": config.steps, "precision": config.precision}
    if config.iterate is not None:
        settings["track_best"] = config.iterate == "best"
    if config.method == "paper":
        return Paper(learning_rate=config.learning_rate or LEARNING_RATE, **settings)
    if config.method == "stochastic":
        settings |= {"batch_size": config.batch_size, "relax": config.relax}
        return MiniBatch(num_groups=stored.get("num_groups"), **settings)
    if config.init == "code":
        settings["annealing"] = refining_annealing
    coarse = stored.get("coarse_steps") if config.coarse_steps is None else config.coarse_steps
    return Annealed(coarse_steps=coarse, **settings)


def _start(config: Pack, inputs: Inputs) -> Any:
    if config.init == "code":
        try:
            return refinable(max(config.num_ids, 2), inputs.dim)
        except ValueError as error:
            raise InputError(f"`init=code`: {error}") from error
    return config.init if inputs.init is None else _points(inputs.init)


def _points(file: Embeddings | None) -> Any:
    return None if file is None else file.points


def _resolved(config: Pack, inputs: Inputs, job: Job) -> dict[str, Any]:
    method = job.loop.method
    start = config.init or ("gallery" if inputs.gallery else "uniform")
    return resolved_config(
        config,
        inputs,
        init=start,
        steps=method.steps,
        batch_size=getattr(method, "batch_size", None),
        num_groups=getattr(method, "num_groups", None),
        iterate="best" if method.track_best else "last",
        coarse_steps=method.coarse_steps,
        precision=method.precision,
        chunk=job.loop.chunk,
    )


def _loop(job: Job, checkpointer: Checkpointer, watch: Watch) -> tuple[LoopState, float, bool]:
    """Run until done or asked to stop; return the state, the seconds spent and whether it is done."""
    restored = checkpointer.restore(job.loop.shapes(job.placed))
    if restored:
        state, seconds = restored.state, restored.notes["seconds"]
        watch.say(f"{job.run.path}: resuming at step {_step(state)}")
    else:
        state, seconds = job.initial(), 0.0
    total, done = job.loop.method.steps, _step(state)
    saving = Saving(checkpointer.save, job.config.checkpoint_seconds)
    opened = watch.progress("packing", "steps", total, done)
    with watch.stopping() as is_asked, _history(job, done) as history, opened as update:
        if done < total:
            update(done, "compiling")
        while done < total:
            start = time.perf_counter()
            state, records = job.loop.advance(job.placed, state, job.loop.chunk_at(done))
            jax.block_until_ready(state)
            seconds += time.perf_counter() - start
            done = _step(state)
            if history:
                for row in _history_rows(job, records, seconds):
                    history.append(row)
            update(done, _figure(state))
            is_stopping, is_due = processes.any_process(is_asked(), saving.is_due)
            if is_due or is_stopping or done == total:
                saving.save(done, state, {"seconds": seconds})
            if is_stopping:
                break
    return state, seconds, done >= total


def _history(job: Job, done: int) -> Any:
    """Open the history to continue after the steps done; only the first process writes it."""
    if not processes.is_first_process():
        return contextlib.nullcontext()
    job.run.truncate_history(done)
    return JsonLines(job.run / names.HISTORY)


def _figure(state: LoopState) -> str:
    if state.best is not None and is_measured(state.best):
        return f"max cosine {float(jnp.min(state.best.max_cosine)):.5f}"
    return f"max cosine of the pairs that met {float(jnp.max(state.now.max_cosine)):.5f}"


def _step(state: LoopState) -> int:
    return int(jnp.max(state.now.step))


def _history_rows(job: Job, records: StepRecord, seconds: float) -> list[dict[str, Any]]:
    """Return one row per step; figures that were not measured, or not exactly, are null."""
    count = len(records.step)
    found = {n: v for n, v in records._asdict().items() if v is not None and n != "is_exact"}
    columns: dict[str, list[Any]] = {name: np.asarray(v).tolist() for name, v in found.items()}
    for name in ("gallery_cosine", "keep_out_cosine"):
        columns.setdefault(name, [None] * count)
    exact = np.asarray(records.is_exact).tolist()
    columns["max_cosine"] = [
        v if e else None for v, e in zip(columns["max_cosine"], exact, strict=True)
    ]
    beta = getattr(job.loop.method.make_energy(), "beta", None)
    columns["inverse_temperature"] = (
        np.asarray(beta(records.step)).tolist() if beta else [None] * count
    )
    columns["gallery_mean_cosine"] = columns.pop("gallery_cosine")
    columns["seconds"] = [round(seconds, 3)] * count
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, values, strict=True)) for values in rows]
