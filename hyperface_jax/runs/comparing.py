"""The ``compare`` stage: finished runs side by side, those of one label as mean and error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.claims import refuse_foreign
from hyperface_jax.io.files import atomic_write_json, one_line, read_json
from hyperface_jax.io.run_directory import SUMMARY
from hyperface_jax.runs.evaluation import RESULT
from hyperface_jax.runs.support.described_embeddings import make_folder
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import option
from hyperface_jax.runs.support.watch import QUIET, Watch

COMPARISON = "comparison.json"

_COSINES = ("max_cosine", "mean_nearest_cosine", "gallery_mean_cosine")
_FAR = "1e-03"
_NUM_BINS = 60

Kind = Literal["pack", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare finished runs of pack, or results of evaluate, on one page.

    Runs of one label are repetitions, such as seeds: they are shown as their mean with its standard
    error.
    """

    directories: tuple[Path, ...] = option(is_positional=True, metavar="RUN")
    """Run directories of pack, or folders of evaluate."""
    label: tuple[str, ...] = ()
    """Label of each RUN, in their order. Default: the names of the folders."""
    out: Path
    """Folder for comparison.json and report.html."""
    threshold: tuple[float, ...] = ()
    """Cosine thresholds, for runs of pack: the page tells how many identities have another one above."""


class _Run(NamedTuple):
    """A finished run: its figures by name, and what its plot is drawn from."""

    path: Path
    label: str
    figures: dict[str, float | None]
    drawn: Any


def compare(config: Compare, *, watch: Watch = QUIET) -> Result:
    """Compare finished runs of pack, or results of evaluate, on one page.

    The same call writes the same result again.

    Args:
        config: the settings.
        watch: unused, because nothing here takes long.

    Returns:
        The contents of ``comparison.json``, the folder, and a table of the main figures.

    Raises:
        InputError: a setting or a file cannot be used, or the runs are not of one kind; nothing was
            done.
    """
    del watch
    from hyperface_jax.reports.comparison import write_comparison_report

    check_settings(config)
    kind, runs = _read_runs(config)
    summary = {
        "kind": kind,
        "thresholds": sorted(set(config.threshold)),
        "runs": [{"path": run.path, "label": run.label, **run.figures} for run in runs],
        "groups": {label: _averaged(label, runs) for label in _labels(runs)},
    }
    drawn = _pooled(runs) if kind == "pack" else _curves(runs)
    make_folder(config.out)
    page = write_comparison_report(config.out, summary, drawn)
    atomic_write_json(config.out / COMPARISON, summary)
    lines = [*_table(summary["groups"]), f"report: {one_line(page)}"]
    return Result(config.out, read_json(config.out / COMPARISON), "\n".join(lines))


def check_settings(config: Compare) -> None:
    """Refuse settings that cannot work, before any file is read.

    Raises:
        InputError: a setting cannot work.
    """
    count, num_labels = len(config.directories), len(config.label)
    if count < 2:
        raise InputError("`directories`: two or more runs are compared; give more")
    if num_labels and num_labels != count:
        raise InputError(f"`label`: {num_labels} labels for {count} runs; give one for each")
    places = [path.resolve() for path in config.directories]
    for path, place in zip(config.directories, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{one_line(path)}: is given twice; give each run once")
    names = config.label or tuple(place.name for place in places)
    if not num_labels and len(set(names)) < count:
        raise InputError("`label`: two runs have folders of one name; give a label for each run")
    for value in config.threshold:
        if not -1 <= value <= 1:
            raise InputError(f"`threshold={value}`: must be a cosine, from -1 to 1")
    refuse_foreign(config.out, COMPARISON)


def _read_runs(config: Compare) -> tuple[Kind, list[_Run]]:
    """Read all runs, so that a bad one is found before anything is written."""
    kinds: list[Kind] = [_kind_of(path) for path in config.directories]
    kind = kinds[0]
    for path, other in zip(config.directories, kinds, strict=True):
        if other != kind:
            raise InputError(
                f"{one_line(path)}: is of {other}, and {one_line(config.directories[0])} of {kind}; "
                "compare runs of one kind"
            )
    if kind == "evaluate" and config.threshold:
        raise InputError("`threshold`: is for runs of pack; drop it")
    names = config.label or tuple(path.resolve().name for path in config.directories)
    read: Callable[[Path], tuple[dict[str, float | None], Any]] = (
        _evaluated if kind == "evaluate" else lambda path: _packed(path, config.threshold)
    )
    runs = [
        _Run(path, label, *read(path))
        for path, label in zip(config.directories, names, strict=True)
    ]
    if kind == "evaluate":
        _refuse_other_benchmarks(runs)
    return kind, runs


def _kind_of(path: Path) -> Kind:
    if (path / RESULT).is_file():
        return "evaluate"
    if (path / SUMMARY).is_file() and "max_cosine" in read_json(path / SUMMARY):
        return "pack"
    raise InputError(
        f"{one_line(path)}: holds no finished run of pack and no result of evaluate; name such a folder"
    )


def _packed(path: Path, thresholds: Sequence[float]) -> tuple[dict[str, float | None], Any]:
    from hyperface_jax.reports.pack import read_run

    run = read_run(path)
    nearest = run.diagnostics["nearest_after"]
    figures = {name: run.summary[name] for name in _COSINES}
    figures |= {f"above {value:g}": float(np.mean(nearest > value)) for value in thresholds}
    return figures | {"seconds": run.summary["seconds"]}, nearest


def _evaluated(path: Path) -> tuple[dict[str, float | None], Any]:
    found = read_json(path / RESULT)
    try:
        benchmarks = found["benchmarks"]
        figures = {f"accuracy/{name}": row["accuracy"] for name, row in benchmarks.items()}
        figures["mean accuracy"] = found["mean"]["accuracy"]
        for name, row in benchmarks.items():
            figures |= {f"TAR@{_FAR}/{name}": row["tar_at_far"][_FAR], f"EER/{name}": row["eer"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{one_line(path / RESULT)}: lacks {one_line(error)}; run evaluate again"
        ) from error
    return figures, benchmarks


def _refuse_other_benchmarks(runs: Sequence[_Run]) -> None:
    def files(run: _Run) -> dict[str, Any]:
        return {name: row.get("file_sha256") for name, row in run.drawn.items()}

    for run in runs[1:]:
        if files(run) != files(runs[0]):
            raise InputError(
                f"{one_line(run.path)}: was not measured on the benchmarks of "
                f"{one_line(runs[0].path)}; evaluate both on the same files"
            )


def _labels(runs: Sequence[_Run]) -> list[str]:
    return list(dict.fromkeys(run.label for run in runs))


def _averaged(label: str, runs: Sequence[_Run]) -> dict[str, Any]:
    """Return the mean of each figure over the runs of a label, and its standard error."""
    chosen = [run.figures for run in runs if run.label == label]
    found: dict[str, Any] = {"num_runs": len(chosen), "mean": {}, "error": {}}
    for name in chosen[0]:
        values = [figures[name] for figures in chosen]
        known = np.array([value for value in values if value is not None], np.float64)
        is_known, count = len(known) == len(values), len(values)
        found["mean"][name] = float(known.mean()) if is_known else None
        error = float(known.std(ddof=1)) / math.sqrt(count) if is_known and count > 1 else None
        found["error"][name] = error
    return found


def _pooled(runs: Sequence[_Run]) -> dict[str, Any]:
    """Return the histogram of the nearest cosines of all runs of each label, as shares."""
    from hyperface_jax.evaluation.histograms import bin_edges

    edges = bin_edges(np.concatenate([run.drawn for run in runs]), _NUM_BINS)
    shares = {}
    for label in _labels(runs):
        values = np.concatenate([run.drawn for run in runs if run.label == label])
        shares[label] = np.histogram(values, edges)[0] / len(values)
    return {"edges": edges, "shares": shares}


def _curves(runs: Sequence[_Run]) -> dict[str, Any]:
    """Return the results of the first run of each label on each benchmark."""
    first = {label: next(run for run in runs if run.label == label) for label in _labels(runs)}
    return {
        name: {label: run.drawn[name] for label, run in first.items()} for name in runs[0].drawn
    }


def _table(groups: dict[str, dict[str, Any]]) -> list[str]:
    names = list(next(iter(groups.values()))["mean"])
    width = max(map(len, names))
    heads = [f"{one_line(label)} ({group['num_runs']})" for label, group in groups.items()]
    wide = max(19, *map(len, heads))
    lines = [f"{'':{width}}  " + "  ".join(f"{head:>{wide}}" for head in heads)]
    for name in names:
        cells = [_cell(group["mean"][name], group["error"][name]) for group in groups.values()]
        lines.append(f"{name:{width}}  " + "  ".join(f"{cell:>{wide}}" for cell in cells))
    return lines


def _cell(mean: float | None, error: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.4f}" if error is None else f"{mean:.4f} ± {error:.4f}"
