"""The results of a finished packing: embeddings, diagnostics, summary and report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax import bounds, meshes, processes
from hyperface_jax.codes import best_known, better_record, record
from hyperface_jax.io import run_directory as names
from hyperface_jax.io.embeddings import write_coordinates, write_embeddings
from hyperface_jax.io.files import atomic_save_npz, atomic_write_json
from hyperface_jax.io.sharded import write_sharded
from hyperface_jax.packing import GallerySubspace, LoopState, PackingProblem
from hyperface_jax.packing.api import polished
from hyperface_jax.packing.figures import (
    PackingFigures,
    count_violations,
    measure,
    measure_sets,
    random_max_cosine,
)
from hyperface_jax.packing.searching import measured
from hyperface_jax.reports.plots import is_free
from hyperface_jax.runs.packing.inputs import Inputs
from hyperface_jax.runs.packing.job import Job
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.versions import versions
from hyperface_jax.runs.support.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from hyperface_jax.io.run_directory import RunDirectory
    from hyperface_jax.runs.packing.settings import Pack

COORDINATES = "coordinates.txt"
"""The points as text, as tables of spherical codes keep them."""
_MOST_DIAGNOSED = 200_000
_BELOW = 1e-8  # the angles of some records have seven decimals
_PACKAGES = ("hyperface_jax", "jax", "jaxlib", "optax", "numpy", "scipy", "orbax-checkpoint")


class Packed(NamedTuple):
    """The final rows, the identity that each belongs to, and their figures."""

    x: Any
    row: Any
    max_cosine: float
    figures: PackingFigures


def write_results(
    job: Job, inputs: Inputs, state: LoopState, seconds: float, watch: Watch
) -> Result:
    """Write embeddings, diagnostics, summary and report; only the first process returns figures."""
    best = job.loop.best(job.placed, state)
    packed = _finished(job, best, watch)
    before = _measured(job, job.initial_points())
    _write_embeddings(job, inputs, packed)
    if not processes.is_first_process():
        return Result(job.run.path, {}, "")
    best_step = best.now.step if best.best is None else best.best.step
    summary = _summarize(job, packed, int(best_step), seconds)
    if packed.row is None and is_free(summary):
        summary |= new_record(job.run.path, packed.x)
    summary["initial_max_cosine"] = float(np.max(before.nearest))
    summary["initial_max_cosine_rows"] = len(before.nearest)
    atomic_save_npz(job.run / names.DIAGNOSTICS, **_diagnostics(before, packed.figures))
    return write_summary(job.run, summary, watch)


def write_summary(run: RunDirectory, summary: dict[str, Any], watch: Watch) -> Result:
    """Write the summary and the report."""
    from hyperface_jax.reports.pack import write_report

    atomic_write_json(run / names.SUMMARY, summary)
    report = write_report(run.path)
    if violations := summary["keep_out_violations"]:
        watch.warn(
            f"keep-out is infeasible here: {violations} identities still lie within cosine "
            f"{summary['keep_out_cosine']} of a keep-out row, the closest one at "
            f"{summary['keep_out_max_cosine']:.4f}"
        )
    return Result(run.path, summary, "\n".join([*_in_words(summary), f"report: {report}"]))


def _finished(job: Job, state: LoopState, watch: Watch) -> Packed:
    """Finish the best points, polish them if requested, and measure them."""
    method, sweep = job.loop.method, job.loop.sweep
    if not job.config.relax and getattr(method, "measured_rows", None):
        x, row = job.loop.repaired(job.placed, state)
        figures = _measured(job, x)
        return Packed(x, row, float(np.max(figures.nearest)), figures)
    with watch.progress("measuring all pairs", "", 1) as update:
        final = job.loop.finish(job.placed, state, update)
    if job.config.polish:
        x, cosine = polished(job.problem, np.asarray(final.x)[: job.config.num_ids])
        figures = _on_host(measure(job.placed, jnp.asarray(x, jnp.float32)))
        return Packed(x, None, cosine, figures)
    gallery, _ = measure_sets(job.placed, final.x, sweep=sweep)
    figures = _on_host(PackingFigures(final.nearest, gallery, final.keep_out))
    return Packed(final.x, final.row, float(np.max(figures.nearest)), figures)


def _measured(job: Job, x: Any) -> PackingFigures:
    """Measure all points, or only as many rows as the method measures while it runs."""
    sweep, method = job.loop.sweep, job.loop.method
    num_rows = getattr(method, "measured_rows", None)
    parts = method.num_parts(sweep.num_devices)
    return _on_host(measure(job.placed, x, sweep=sweep, num_rows=num_rows, num_parts=parts))


def _on_host(figures: PackingFigures) -> PackingFigures:
    is_point = meshes.gathered(figures.nearest) > -np.inf

    def points_only(values: Any) -> Any:
        return None if values is None else meshes.gathered(values)[is_point]

    return PackingFigures(*map(points_only, figures))


def _write_embeddings(job: Job, inputs: Inputs, packed: Packed) -> None:
    path = job.run / names.EMBEDDINGS
    frozen = inputs.frozen_rows
    if packed.row is not None:
        write_sharded(path, packed.x, packed.row, job.config.num_ids, before=frozen)
    else:
        write_embeddings(path, packed.x if frozen is None else _stacked(frozen, packed.x))


def _stacked(frozen: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Put the frozen rows first without changing their bits: float32 to float64 is exact."""
    return np.concatenate([frozen, rows.astype(np.result_type(frozen, rows))])


def _diagnostics(before: PackingFigures, after: PackingFigures) -> dict[str, np.ndarray]:
    """Return the cosines of the measured rows, at most 200,000 of them."""
    found = {"nearest_before": before.nearest, "nearest_after": after.nearest}
    if before.gallery is not None and after.gallery is not None:
        found |= {"gallery_before": before.gallery, "gallery_after": after.gallery}
    return {name: np.asarray(values[:_MOST_DIAGNOSED]) for name, values in found.items()}


def _summarize(job: Job, packed: Packed, best_step: int, seconds: float) -> dict[str, Any]:
    """Collect the figures of a finished run."""
    config, problem, figures = job.config, job.problem, packed.figures
    gallery = figures.gallery
    violations = count_violations(problem, figures)
    closest = None if figures.keep_out is None else float(np.max(figures.keep_out))
    num_measured = len(figures.nearest)
    return {
        "num_ids": config.num_ids,
        "num_frozen": job.problem.num_frozen,
        "dim": problem.dim,
        "method": config.method,
        "steps": job.loop.method.steps,
        "seed": config.seed,
        "restarts": config.restarts,
        "polished": config.polish,
        "max_cosine_rows": num_measured,
        "max_cosine_is_exact": num_measured == config.num_ids,
        "mean_nearest_cosine": float(np.mean(figures.nearest)),
        "threshold": config.threshold,
        **yardsticks(config.num_ids + job.problem.num_frozen, problem.dim, packed.max_cosine),
        "best_step": best_step,
        "gallery_mean_cosine": None if gallery is None else float(np.mean(gallery)),
        "gallery_min_cosine": None if gallery is None else float(np.min(gallery)),
        "subspace_dims": _subspace_dims(problem),
        "keep_out_cosine": config.keep_out_cosine,
        "keep_out_violations": violations,
        "keep_out_max_cosine": closest,
        "seconds": seconds,
        "pairs_per_second": _pairs(job) / seconds if seconds else None,
        **machine(job.loop.sweep.num_devices),
    }


def _subspace_dims(problem: PackingProblem) -> int | None:
    model = problem.manifold
    return model.num_dims if isinstance(model, GallerySubspace) else None


def yardsticks(num_points: int, dim: int, max_cosine: float) -> dict[str, Any]:
    """Return the max cosine and what to compare it with.

    That is the lower bound, the best construction, a record that is better than it, and random points.
    """
    bound, code = bounds.tightest(num_points, dim), best_known(num_points, dim)
    listed = better_record(num_points, dim)
    return {
        "max_cosine": max_cosine,
        "min_angle_deg": math.degrees(math.acos(max(min(max_cosine, 1.0), -1.0))),
        "lower_bound": bound.value,
        "lower_bound_name": bound.name,
        "gap": max_cosine - bound.value,
        "best_known": code.max_cosine,
        "best_known_name": code.name,
        "record": listed and listed.max_cosine,
        "record_source": listed and listed.source,
        "random_max_cosine": random_max_cosine(num_points, dim),
    }


def unheld(config: Pack, dim: int, max_cosine: float) -> dict[str, Any]:
    """Return what all summaries share of packings without gallery, frozen points and keep-out."""
    absent = (
        "gallery_mean_cosine",
        "gallery_min_cosine",
        "subspace_dims",
        "keep_out_violations",
        "pairs_per_second",
    )
    return {
        "num_ids": config.num_ids,
        "num_frozen": 0,
        "dim": dim,
        "seed": config.seed,
        "threshold": config.threshold,
        **yardsticks(config.num_ids, dim, max_cosine),
        **dict.fromkeys(absent),
        **machine(1),
    }


def is_new_record(x: Any) -> bool:
    """Tell whether points ``[n, d]`` are better than the record of their size, in float64."""
    listed = record(*x.shape)
    if listed is None or (listed.num_points, listed.dim) != x.shape:
        return False
    return measured(np.asarray(x)) < listed.max_cosine - _BELOW


def new_record(folder: Path, x: Any) -> dict[str, Any]:
    """Tell whether points are better than the record of their size, and if so, write them as text.

    Args:
        folder: where to write them.
        x: ``[n, d]`` points; their max cosine is computed in float64.

    Returns:
        The field ``is_new_record``, for the summary.
    """
    is_new = is_new_record(x)
    if is_new:
        write_coordinates(folder / COORDINATES, x)
    return {"is_new_record": is_new}


def machine(num_devices: int) -> dict[str, Any]:
    """Return the devices and versions that a run was made with."""
    return {
        "device": jax.devices()[0].device_kind,
        "num_devices": num_devices,
        "num_processes": jax.process_count(),
        "versions": versions(*_PACKAGES),
    }


def _pairs(job: Job) -> float:
    """Count the ordered pairs visited: n (n - 1) per full step, n (B - 1) per mini-batch step."""
    n, method = job.config.num_ids, job.loop.method
    others = min(getattr(method, "batch_size", n), n) - 1
    others += job.problem.num_frozen
    return float(method.steps) * job.config.restarts * n * others


def _in_words(summary: dict[str, Any]) -> list[str]:
    of_rows = ""
    if summary.get("certificate"):
        of_rows = ", certified by its construction"
    elif not summary["max_cosine_is_exact"]:
        of_rows = f" over {summary['max_cosine_rows']} rows against all"
    found = f"max cosine {summary['max_cosine']:.6f}{of_rows}"
    parts = [
        f"{found} (angle {summary['min_angle_deg']:.2f} deg)",
        f"lower bound {summary['lower_bound']:.6f} ({summary['lower_bound_name']})",
    ]
    if is_free(summary):
        parts.append(
            f"best construction {summary['best_known']:.6f} ({summary['best_known_name']})"
        )
        if summary["record"] is not None:
            parts.append(f"record {summary['record']:.6f} ({summary['record_source']})")
    lines = [", ".join([*parts, f"{summary['seconds']:.1f} s"])]
    if summary.get("is_new_record"):
        lines.append(f"new record: below the one of the table; the points are in {COORDINATES}")
    if summary["gallery_mean_cosine"] is not None:
        lines.append(f"mean cosine to the nearest gallery row {summary['gallery_mean_cosine']:.4f}")
    if summary.get("subspace_dims") is not None:
        lines.append(f"the subspace of the gallery has {summary['subspace_dims']} directions")
    if summary["keep_out_violations"] == 0:
        lines.append(
            f"keep-out: no violation, closest approach {summary['keep_out_max_cosine']:.4f}"
        )
    return lines
