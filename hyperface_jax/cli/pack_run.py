"""The run behind ``hyperface pack``: resume, loop, checkpoints, results."""

from __future__ import annotations

import importlib.metadata
import math
import platform
import signal
import time
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax import bounds
from hyperface_jax.cli.pack import Inputs, Pack, resolved_config, warn
from hyperface_jax.cli.progress import StepProgress
from hyperface_jax.io import run_directory as names
from hyperface_jax.io.checkpoints import Checkpointer
from hyperface_jax.io.embeddings import write_embeddings
from hyperface_jax.io.files import JsonLines, atomic_save_npz, atomic_write_json
from hyperface_jax.io.run_directory import RunDirectory
from hyperface_jax.packing import (
    PackingProblem,
    PackingSolver,
    PackingState,
    StepRecord,
    annealed,
    from_gallery,
    from_points,
    paper,
    stochastic,
    uniform,
)
from hyperface_jax.packing.constraints import repair_keep_out
from hyperface_jax.packing.figures import PackingFigures, count_violations, measure
from hyperface_jax.packing.restarts import advance_restarts, best_restart, init_restarts

_IGNORED = ("out", "checkpoint_seconds", "command")
_STATES_ON_DISK = 12
_INTERRUPTED = 130


def pack(config: Pack, inputs: Inputs) -> int:
    """Run, resume or report a packing; return the exit code."""
    needed = _STATES_ON_DISK * 4 * config.num_ids * inputs.dim * config.restarts
    run = RunDirectory(config.out, needed_bytes=needed)
    try:
        problem, solver = build(config, inputs)
        run.claim(_resolved(config, inputs, solver), ignore=_IGNORED)
        if run.is_finished:
            cosine = run.summary()["max_cosine"]
            print(f"{run.path}: already finished, max cosine {cosine:.6f}; nothing changed")
            return 0
        job = Job(config, problem, solver, run)
        with Checkpointer(run / names.CHECKPOINTS) as checkpointer:
            state, seconds, is_done = loop(job, checkpointer)
        if not is_done:
            print(f"{run.path}: stopped and saved; run the same command to go on")
            return _INTERRUPTED
        write_results(job, inputs, state, seconds)
        return 0
    finally:
        run.close()


class Job(NamedTuple):
    """What the loop needs."""

    config: Pack
    problem: PackingProblem
    solver: PackingSolver
    run: RunDirectory


def build(config: Pack, inputs: Inputs) -> tuple[PackingProblem, PackingSolver]:
    """Turn settings and inputs into a problem and its solver."""

    def rows(file):
        return None if file is None else jnp.asarray(file.points)

    problem = PackingProblem(
        num_points=config.num_ids,
        dim=inputs.dim,
        gallery=rows(inputs.gallery),
        alpha=config.alpha,
        keep_out=rows(inputs.keep_out),
        keep_out_cosine=config.keep_out_cosine,
        frozen=rows(inputs.frozen),
    )
    settings: dict[str, Any] = {"initializer": _initializer(config, inputs)}
    if config.steps is not None:
        settings["num_iterations"] = config.steps
    if config.method == "paper":
        return paper(problem, learning_rate=config.learning_rate, **settings)
    if config.method == "stochastic":
        return stochastic(problem, batch_size=config.batch_size, **settings)
    return annealed(problem, **settings)


def _initializer(config: Pack, inputs: Inputs):
    if inputs.init is not None:
        return from_points(jnp.asarray(inputs.init.points))
    if config.init == "uniform" or inputs.gallery is None:
        return uniform
    return from_gallery(jnp.asarray(inputs.gallery.points))


def _resolved(config: Pack, inputs: Inputs, solver: PackingSolver) -> dict[str, Any]:
    start = config.init or ("gallery" if inputs.gallery else "uniform")
    return resolved_config(
        config,
        inputs,
        init=start,
        steps=solver.num_iterations,
        batch_size=getattr(solver, "batch_size", None),
        inner_iterations=solver.inner_iterations,
    )


def loop(job: Job, checkpointer: Checkpointer) -> tuple[PackingState, float, bool]:
    """Run to the end or to a signal; return the state, the seconds spent and whether it is done."""
    state = _initial(job)
    restored = checkpointer.restore(state)
    seconds = 0.0
    if restored:
        state, seconds = restored.state, restored.notes["seconds"]
        print(f"{job.run.path}: resuming at step {_step(state)}")
    job.run.truncate_history(_step(state))
    total, done = job.solver.num_iterations, _step(state)
    saved_at = time.monotonic()
    with (
        StopRequest() as stop,
        JsonLines(job.run / names.HISTORY) as history,
        StepProgress(total, done) as progress,
    ):
        while done < total and not stop.requested:
            start = time.perf_counter()
            state, records = _advance(job, state, min(job.solver.inner_iterations, total - done))
            jax.block_until_ready(state)
            seconds += time.perf_counter() - start
            done = _step(state)
            for row in _history_rows(job, records, seconds):
                history.append(row)
            progress.update(done, f"max cosine {float(jnp.min(state.best_max_cosine)):.5f}")
            is_due = time.monotonic() - saved_at >= job.config.checkpoint_seconds
            if is_due or stop.requested or done == total:
                checkpointer.save(done, state, {"seconds": seconds})
                saved_at = time.monotonic()
    return state, seconds, done >= total


def _initial(job: Job) -> PackingState:
    key = jax.random.key(job.config.seed)
    if job.config.restarts == 1:
        return job.solver.init_state(job.problem, key)
    return init_restarts(job.solver, job.problem, key, job.config.restarts)


def _advance(job: Job, state: PackingState, num_steps: int) -> tuple[PackingState, StepRecord]:
    if job.config.restarts == 1:
        return job.solver.advance(job.problem, state, num_steps)
    state, records = advance_restarts(job.solver, job.problem, state, num_steps)
    return state, jax.tree.map(lambda leaf: jnp.min(leaf, axis=0), records)


def _step(state: PackingState) -> int:
    return int(jnp.max(state.step))


def _history_rows(job: Job, records: StepRecord, seconds: float) -> list[dict[str, Any]]:
    columns = {name: np.asarray(leaf) for name, leaf in records._asdict().items()}
    beta = getattr(job.problem.energy, "beta", None)
    columns["inverse_temperature"] = (
        np.asarray(beta(records.step)) if beta else np.full(len(columns["step"]), np.nan)
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


class StopRequest:
    """Turn Ctrl-C and SIGTERM into a request that the loop honours after the current scan."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: Any) -> None:
        del number, frame
        self.requested = True


class Packed(NamedTuple):
    """The final rows and their exact figures."""

    x: np.ndarray
    max_cosine: float
    figures: PackingFigures


def final_points(job: Job, state: PackingState) -> Packed:
    """Select, repair and polish the final points, and measure them."""
    best = best_restart(state) if job.config.restarts > 1 else state
    x, problem = best.best_x, job.problem
    if problem.keep_out is not None and problem.keep_out_cosine is not None:
        x = jax.jit(repair_keep_out)(x, problem.keep_out, problem.keep_out_cosine)
    figures = measure(problem, x)
    if not job.config.polish:
        return Packed(np.asarray(x), float(jnp.max(figures.nearest)), figures)
    polished = _polish(x, problem.frozen)
    figures = measure(problem, jnp.asarray(polished.x, jnp.float32))
    return Packed(polished.x, polished.max_cosine, figures)


def _polish(x: Any, frozen: Any):
    from hyperface_jax.packing.polish import polish

    points = np.asarray(x, np.float64)
    num_frozen = 0
    if frozen is not None:
        num_frozen = frozen.shape[0]
        points = np.concatenate([np.asarray(frozen, np.float64), points])
    result = polish(points, num_frozen=num_frozen)
    return replace(result, x=result.x[num_frozen:])


def write_results(job: Job, inputs: Inputs, state: PackingState, seconds: float) -> None:
    """Write embeddings, diagnostics, summary and report, and say where they are."""
    from hyperface_jax.reports.pack import write_report

    packed = final_points(job, state)
    before = measure(job.problem, _start(job))
    summary = summarise(job, packed, state, seconds)
    summary["initial_max_cosine"] = float(jnp.max(before.nearest))
    rows = packed.x
    if inputs.frozen_rows is not None:
        rows = _stacked(inputs.frozen_rows, rows)
    write_embeddings(job.run / names.EMBEDDINGS, rows)
    diagnostics = {"nearest_before": before.nearest, "nearest_after": packed.figures.nearest}
    if before.gallery is not None:
        diagnostics |= {"gallery_before": before.gallery, "gallery_after": packed.figures.gallery}
    atomic_save_npz(
        job.run / names.DIAGNOSTICS, **{k: np.asarray(v) for k, v in diagnostics.items()}
    )
    atomic_write_json(job.run / names.SUMMARY, summary)
    report = write_report(job.run.path)
    _announce(summary, report)


def _start(job: Job) -> Any:
    state = _initial(job)
    return state.x if job.config.restarts == 1 else state.x[0]


def _stacked(frozen: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Put the frozen rows first without changing a bit of them: float32 into float64 is exact."""
    return np.concatenate([frozen, rows.astype(np.result_type(frozen, rows))])


def summarise(job: Job, packed: Packed, state: PackingState, seconds: float) -> dict[str, Any]:
    """Collect the figures of a finished run."""
    config, problem, figures = job.config, job.problem, packed.figures
    num_frozen = 0 if problem.frozen is None else problem.frozen.shape[0]
    bound = bounds.tightest(config.num_ids + num_frozen, problem.dim)
    best = best_restart(state) if config.restarts > 1 else state
    gallery = figures.gallery
    violations = count_violations(problem, figures)
    closest = None if figures.keep_out is None else float(jnp.max(figures.keep_out))
    return {
        "num_ids": config.num_ids,
        "num_frozen": num_frozen,
        "dim": problem.dim,
        "method": config.method,
        "steps": job.solver.num_iterations,
        "seed": config.seed,
        "restarts": config.restarts,
        "polished": config.polish,
        "max_cosine": packed.max_cosine,
        "mean_nearest_cosine": float(jnp.mean(figures.nearest)),
        "min_angle_deg": math.degrees(math.acos(max(min(packed.max_cosine, 1.0), -1.0))),
        "lower_bound": bound.value,
        "lower_bound_name": bound.name,
        "gap": packed.max_cosine - bound.value,
        "best_step": int(best.best_step),
        "gallery_mean_cosine": None if gallery is None else float(jnp.mean(gallery)),
        "gallery_min_cosine": None if gallery is None else float(jnp.min(gallery)),
        "keep_out_cosine": config.keep_out_cosine,
        "keep_out_violations": violations,
        "keep_out_max_cosine": closest,
        "seconds": seconds,
        "pairs_per_second": _pairs(job) / seconds if seconds else None,
        "device": jax.devices()[0].device_kind,
        "versions": _versions(),
    }


def _pairs(job: Job) -> float:
    """Count the ordered pairs visited: n (n - 1) a full step, n (B - 1) a mini-batch step."""
    n, solver = job.config.num_ids, job.solver
    others = min(getattr(solver, "batch_size", n), n) - 1
    if job.problem.frozen is not None:
        others += job.problem.frozen.shape[0]
    return float(solver.num_iterations) * job.config.restarts * n * others


def _versions() -> dict[str, str]:
    packages = ("hyperface_jax", "jax", "jaxlib", "optax", "numpy", "scipy", "orbax-checkpoint")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **versions}


def _announce(summary: dict[str, Any], report: Any) -> None:
    print(
        f"max cosine {summary['max_cosine']:.6f} (angle {summary['min_angle_deg']:.2f} deg), "
        f"lower bound {summary['lower_bound']:.6f} ({summary['lower_bound_name']}), "
        f"{summary['seconds']:.1f} s"
    )
    if summary["gallery_mean_cosine"] is not None:
        print(f"mean cosine to the nearest gallery row {summary['gallery_mean_cosine']:.4f}")
    if violations := summary["keep_out_violations"]:
        warn(
            f"keep-out is infeasible here: {violations} identities stay within cosine "
            f"{summary['keep_out_cosine']} of a keep-out row, the closest at "
            f"{summary['keep_out_max_cosine']:.4f}"
        )
    elif violations == 0:
        print(f"keep-out: no violation, closest approach {summary['keep_out_max_cosine']:.4f}")
    print(f"report: {report}")
