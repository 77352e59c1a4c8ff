"""The report on a packing: a self-contained HTML page.

The run directory already holds every number; this module reads the numbers and draws them.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_write_text, one_line, read_json, read_jsonl
from hyperface_jax.reports.page import Draw, both_sizes, render_page, told
from hyperface_jax.reports.plots import (
    convergence_plot,
    gallery_histogram,
    is_free,
    nearest_histogram,
)

if TYPE_CHECKING:
    import os

REPORT = "report.html"

NUMBERS = (
    "num_ids",
    "dim",
    "steps",
    "seed",
    "max_cosine",
    "mean_nearest_cosine",
    "min_angle_deg",
    "lower_bound",
    "gap",
    "seconds",
)
"""Fields of summary.json that must be finite numbers."""

NUMBERS_OR_NULL = (
    "gallery_mean_cosine",
    "gallery_min_cosine",
    "keep_out_violations",
    "pairs_per_second",
)
"""Fields of summary.json that must exist but may be null."""

TEXTS = ("method", "lower_bound_name", "device")
"""Fields of summary.json that must be strings."""

_OF_CODES = ("gap", "best_known", "best_known_name", "record", "record_source")
"""Fields of summary.json that compare a run with codes."""
_EQUAL = 1e-6

# The run


@dataclass(frozen=True)
class PackRun:
    """The files of a finished run.

    Attributes:
        path: the run directory.
        summary: the figures of the result.
        config: the settings.
        history: one row per step.
        diagnostics: cosines ``nearest_before`` and ``nearest_after``, and with a gallery also
            ``gallery_before`` and ``gallery_after``, ``[n]`` each.
    """

    path: Path
    summary: dict[str, Any]
    config: dict[str, Any]
    history: list[dict[str, Any]]
    diagnostics: dict[str, np.ndarray]


def read_run(run_dir: str | os.PathLike[str]) -> PackRun:
    """Read a finished run and check that it has everything that the report draws.

    Raises:
        InputError: the run is missing, unfinished or damaged; the message names the file and the field.
    """
    path = Path(run_dir)
    if not path.is_dir():
        raise InputError(f"{one_line(path)}: no such run directory; check the path")
    for name in ("config.json", "summary.json", "history.jsonl", "diagnostics.npz"):
        if not (path / name).exists():
            raise InputError(
                f"{one_line(path)}: {name} is missing, so the run is not finished; run the same "
                "command again to finish it"
            )
    summary, history = read_json(path / "summary.json"), read_jsonl(path / "history.jsonl")
    _check_summary(summary, path / "summary.json")
    _check_history(history, summary, path / "history.jsonl")
    diagnostics = _read_diagnostics(path / "diagnostics.npz")
    return PackRun(path, summary, read_json(path / "config.json"), history, diagnostics)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_summary(summary: Mapping[str, Any], path: Path) -> None:
    def require(names: Sequence[str], holds: Any, what: str) -> None:
        for name in names:
            if name not in summary:
                problem = "is missing"
            elif not holds(summary[name]):
                problem = f"is {one_line(json.dumps(summary[name]))[:60]}, not {what}"
            else:
                continue
            raise InputError(
                f"{one_line(path)}: field {name!r} {problem}; delete the file and run the same "
                "command again"
            )

    require(NUMBERS, _is_number, "a number")
    require(NUMBERS_OR_NULL, lambda value: value is None or _is_number(value), "a number or null")
    require(TEXTS, lambda value: isinstance(value, str), "text")
    require(("versions",), lambda value: isinstance(value, dict), "an object")


def _check_history(
    rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], path: Path
) -> None:
    name = one_line(path)
    if not rows and summary["steps"] > 0:
        raise InputError(f"{name}: has no rows; run the same command again in an empty directory")
    for line, row in enumerate(rows, start=1):
        optional = (row.get(field) for field in ("max_cosine", "gallery_mean_cosine"))
        is_good = _is_number(row.get("step")) and "max_cosine" in row
        if not is_good or not all(value is None or _is_number(value) for value in optional):
            raise InputError(
                f"{name}: line {line} needs the numbers 'step' and 'max_cosine'; remove that line"
            )


def _read_diagnostics(path: Path) -> dict[str, np.ndarray]:
    name = one_line(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: np.asarray(archive[key]) for key in archive.files}
    except Exception as error:  # a damaged file makes NumPy raise nearly anything
        raise InputError(f"{name}: damaged ({one_line(error)}); run the packing again") from error
    needed = ["nearest_before", "nearest_after"]
    if "gallery_before" in arrays or "gallery_after" in arrays:
        needed += ["gallery_before", "gallery_after"]
    for key in needed:
        values = arrays.get(key)
        if values is None:
            raise InputError(f"{name}: array {key!r} is missing; run the packing again")
        if values.ndim != 1 or not values.size or values.dtype.kind != "f":
            raise InputError(f"{name}: array {key!r} is not a row of floats; run the packing again")
        if not np.isfinite(values).all():
            raise InputError(
                f"{name}: array {key!r} has NaN or infinite values; run the packing again"
            )
    return {key: arrays[key] for key in needed}


# The page


def write_report(run_dir: str | os.PathLike[str], *, threshold: float | None = None) -> Path:
    """Draw a finished run as a ``report.html`` page in its directory.

    The page is a single file that loads no scripts, fonts or pictures from elsewhere.

    Args:
        run_dir: directory with summary.json, config.json, history.jsonl and diagnostics.npz.
        threshold: verification threshold to mark, a cosine; None marks the one that the run was given.

    Returns:
        The path of the page.

    Raises:
        InputError: the run is missing, unfinished or damaged, the page cannot be written, or a
            library of the ``cli`` extra is not installed.
    """
    run = read_run(run_dir)
    if threshold is not None:
        run.summary["threshold"] = threshold
    path = run.path / REPORT
    atomic_write_text(path, render(run))
    return path


def render(run: PackRun) -> str:
    """Return the page of a run as HTML, with every text of the run escaped.

    Raises:
        InputError: a library of the ``cli`` extra is not installed.
    """
    summary = run.summary
    is_comparable = is_free(summary)
    hidden = ("versions", *(() if is_comparable else _OF_CODES))
    return render_page(
        "pack.html.j2",
        s=summary,
        results={
            name: value
            for name, value in summary.items()
            if value is not None and name not in hidden
        },
        is_comparable=is_comparable,
        held_by=[text for text, is_given in _holders(summary) if is_given],
        better=_better_code(run) if is_comparable else None,
        num_shown={part: len(run.diagnostics[f"nearest_{part}"]) for part in ("before", "after")},
        is_unchanged=_is_unchanged(run.diagnostics),
        num_above=_num_above(run),
        **told(run.config),
        figures=_figures(run),
        has_gallery_curve=any(row.get("gallery_mean_cosine") is not None for row in run.history),
        run_name=run.path.resolve().name,
    )


def _holders(summary: Mapping[str, Any]) -> list[tuple[str, bool]]:
    return [
        ("the gallery", summary["gallery_mean_cosine"] is not None),
        ("the frozen points", bool(summary.get("num_frozen"))),
        ("the keep-out limit", summary.get("keep_out_cosine") is not None),
    ]


def _better_code(run: PackRun) -> str | None:
    """Return the command that writes the best construction, if it is better than the run."""
    summary = run.summary
    known = summary.get("best_known")
    if known is None or known > summary["max_cosine"] - _EQUAL:
        return None
    size = ["--num-ids", str(summary["num_ids"]), "--dim", str(summary["dim"])]
    out = ["--out", f"{run.path.resolve().name}-code"]
    return shlex.join(["hyperface", "pack", *size, "--init", "code", "--steps", "0", *out])


def _is_unchanged(data: Mapping[str, np.ndarray]) -> bool:
    return np.array_equal(data["nearest_before"], data["nearest_after"])


def _num_above(run: PackRun) -> int | None:
    """Count the identities shown whose nearest other one is above the verification threshold."""
    threshold = run.summary.get("threshold")
    if threshold is None:
        return None
    return int(np.count_nonzero(run.diagnostics["nearest_after"] > threshold))


def _figures(run: PackRun) -> dict[str, dict[str, Any]]:
    data, summary = run.diagnostics, run.summary
    draw: dict[str, Draw] = {}
    if any(row["max_cosine"] is not None for row in run.history):
        draw["convergence"] = lambda size: convergence_plot(run.history, summary, size=size)
    draw["nearest"] = lambda size: nearest_histogram(
        data["nearest_before"], data["nearest_after"], summary, size=size
    )
    if "gallery_before" in data:
        draw["gallery"] = lambda size: gallery_histogram(
            data["gallery_before"], data["gallery_after"], summary, size=size
        )
    return both_sizes(draw)
