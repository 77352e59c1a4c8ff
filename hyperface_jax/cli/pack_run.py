"""The run behind ``hyperface pack``: devices, resume, loop, checkpoints."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax import sharding
from hyperface_jax.cli.job import Job
from hyperface_jax.cli.loop import (
    INTERRUPTED,
    Saving,
    StopRequest,
    job_mesh,
    open_run,
    run_together,
    say,
)
from hyperface_jax.cli.pack import FREE_TO_CHANGE, Inputs, Pack, resolved_config
from hyperface_jax.cli.pack_results import write_results
from hyperface_jax.cli.progress import StepProgress
from hyperface_jax.codes import refinable
from hyperface_jax.errors import InputError
from hyperface_jax.io import run_directory as names
from hyperface_jax.io.checkpoints import Checkpointer
from hyperface_jax.io.embeddings import Embeddings
from hyperface_jax.io.files import JsonLines
from hyperface_jax.io.run_directory import RunDirectory
from hyperface_jax.packing import (
    Initializer,
    PackingProblem,
    PackingSolver,
    PackingState,
    StepRecord,
    annealed,
    farthest_first,
    from_code,
    from_gallery,
    from_points,
    paper,
    refining_annealing,
    stochastic,
    uniform,
)
from hyperface_jax.packing.manifolds import manifold_of
from hyperface_jax.pairwise import Sweep

_STATES_ON_DISK = 12


def pack(config: Pack, inputs: Inputs) -> int:
    """Run, resume or report a packing; return the exit code. All processes of a job call it."""
    needed = _STATES_ON_DISK * 4 * config.num_ids * inputs.dim * config.restarts
    run = open_run(config.out, needed)
    try:
        return run_together(lambda: _pack(config, inputs, run), run.path)
    finally:
        run.close()


def _pack(config: Pack, inputs: Inputs, run: RunDirectory) -> int:
    num_frozen = inputs.frozen.num_points if inputs.frozen else 0
    job = Job(config, *build(config, inputs, run.stored_config()), run, num_frozen)
    resolved = _resolved(config, inputs, job.solver)
    sharding.on_first_process(lambda: run.claim(resolved, ignore=FREE_TO_CHANGE))
    if run.is_finished:
        cosine = run.summary()["max_cosine"]
        say(f"{run.path}: already finished, max cosine {cosine:.6f}; nothing changed")
        return 0
    with Checkpointer(run / names.CHECKPOINTS) as checkpointer:
        state, seconds, is_done = loop(job, checkpointer)
    if not is_done:
        say(f"{run.path}: stopped and saved; run the same command to go on")
        return INTERRUPTED
    write_results(job, inputs, state, seconds)
    return 0


def choose_mesh(config: Pack) -> Any:
    """Return the mesh to shard over; None for one device."""
    count = config.devices or (1 if config.restarts > 1 else jax.device_count())
    is_alone = count < jax.device_count() or config.restarts > 1 or config.polish
    if jax.process_count() > 1 and is_alone:
        raise InputError("--devices, --restarts and --polish are for a single process: drop them")
    return job_mesh(count)


def build(
    config: Pack, inputs: Inputs, stored: dict[str, Any]
) -> tuple[PackingProblem, PackingSolver]:
    """Turn settings, inputs and the settings of the run on disk into a problem and its solver."""
    mesh = choose_mesh(config)

    problem = PackingProblem(
        num_points=config.num_ids,
        dim=inputs.dim,
        gallery=_points(inputs.gallery),
        alpha=config.alpha,
        manifold=manifold_of(config.neighbours),
        keep_out=_points(inputs.keep_out),
        keep_out_cosine=config.keep_out_cosine,
        frozen=_points(inputs.frozen),
    )
    if mesh is None:
        problem = jax.tree.map(jnp.asarray, problem)
    settings: dict[str, Any] = {"initializer": _initializer(config, inputs), "sweep": Sweep(mesh)}
    if config.steps is not None:
        settings["num_iterations"] = config.steps
    try:
        return _method(config, problem, settings, stored.get("num_groups"))
    except ValueError as error:
        raise InputError(f"--method {config.method}: {error}") from error


def _method(
    config: Pack, problem: PackingProblem, settings: dict[str, Any], num_groups: int | None
) -> tuple[PackingProblem, PackingSolver]:
    if config.method == "paper":
        return paper(problem, learning_rate=config.learning_rate, **settings)
    if config.method == "stochastic":
        settings |= {"batch_size": config.batch_size, "relax": config.relax}
        return stochastic(problem, num_groups=num_groups, **settings)
    if config.init == "code":
        settings["choose_annealing"] = refining_annealing
    problem, solver = annealed(problem, **settings)
    if config.coarse_steps > solver.num_iterations:
        raise ValueError(f"coarse_steps={config.coarse_steps} is more than all steps")
    return problem, replace(solver, coarse_steps=config.coarse_steps)


def _from_code(config: Pack, inputs: Inputs) -> Initializer:
    try:
        return from_code(refinable(max(config.num_ids, 2), inputs.dim))
    except ValueError as error:
        raise InputError(f"--init code: {error}") from error


def _initializer(config: Pack, inputs: Inputs) -> Initializer:
    if config.init == "code":
        return _from_code(config, inputs)
    if inputs.init is not None:
        return from_points(_points(inputs.init))
    if config.init == "uniform" or inputs.gallery is None:
        return uniform
    start = farthest_first if config.init == "farthest" else from_gallery
    return start(_points(inputs.gallery))


def _points(file: Embeddings | None) -> Any:
    return None if file is None else file.points


def _resolved(config: Pack, inputs: Inputs, solver: PackingSolver) -> dict[str, Any]:
    start = config.init or ("gallery" if inputs.gallery else "uniform")
    return resolved_config(
        config,
        inputs,
        init=start,
        steps=solver.num_iterations,
        batch_size=getattr(solver, "batch_size", None),
        num_groups=getattr(solver, "num_groups", None),
        inner_iterations=solver.inner_iterations,
    )


def loop(job: Job, checkpointer: Checkpointer) -> tuple[PackingState, float, bool]:
    """Run to the end or to a signal; return the state, the seconds spent and whether it is done."""
    restored = checkpointer.restore(job.like_state())
    if restored:
        state, seconds = restored.state, restored.notes["seconds"]
        say(f"{job.run.path}: resuming at step {_step(state)}")
    else:
        state, seconds = job.initial(), 0.0
    total, done = job.solver.num_iterations, _step(state)
    saving = Saving(checkpointer, job.config.checkpoint_seconds)
    with StopRequest() as stop, _history(job, done) as history, _progress(total, done) as progress:
        while done < total:
            start = time.perf_counter()
            state, records = job.advance(state, job.solver.scan_length(done))
            jax.block_until_ready(state)
            seconds += time.perf_counter() - start
            done = _step(state)
            if history:
                for row in _history_rows(job, records, seconds):
                    history.append(row)
            progress.update(done, _figure(state))
            is_stopping, is_due = sharding.any_process(stop.requested, saving.is_due)
            if is_due or is_stopping or done == total:
                saving.save(done, state, {"seconds": seconds})
            if is_stopping:
                break
    return state, seconds, done >= total


def _history(job: Job, done: int) -> Any:
    """Open the history behind the steps done; the first process alone writes it."""
    if not sharding.is_first_process():
        return contextlib.nullcontext()
    job.run.truncate_history(done)
    return JsonLines(job.run / names.HISTORY)


def _progress(total: int, done: int) -> StepProgress:
    return StepProgress(total, done, is_silent=not sharding.is_first_process())


def _figure(state: PackingState) -> str:
    best = float(jnp.min(state.best_max_cosine))
    if math.isfinite(best):
        return f"max cosine {best:.5f}"
    return f"max cosine of the pairs that met {float(jnp.max(state.max_cosine)):.5f}"


def _step(state: PackingState) -> int:
    return int(jnp.max(state.step))


def _history_rows(job: Job, records: StepRecord, seconds: float) -> list[dict[str, Any]]:
    columns = {name: np.asarray(leaf) for name, leaf in records._asdict().items()}
    beta = getattr(job.problem.energy, "beta", None)
    columns["inverse_temperature"] = (
        np.asarray(beta(columns["step"])) if beta else np.full(len(columns["step"]), np.nan)
    )
    columns["gallery_mean_cosine"] = columns.pop("gallery_cosine")
    rows = []
    for i in range(len(columns["step"])):
        row = {name: _plain(column[i]) for name, column in columns.items()}
        rows.append({**row, "seconds": round(seconds, 3)})
    return rows


def _plain(value: Any) -> int | float | None:
    number = value.item()
    return number if isinstance(number, int) or math.isfinite(number) else None
