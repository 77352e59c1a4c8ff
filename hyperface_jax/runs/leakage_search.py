"""The ``leakage`` stage: how near embeddings come to other embeddings, or to their own targets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hyperface_jax.errors import InputError, require
from hyperface_jax.io.files import atomic_save_npz, atomic_write_json, one_line, read_json
from hyperface_jax.io.run_directory import SUMMARY
from hyperface_jax.runs.support.described_embeddings import (
    all_thresholds,
    check_folder,
    circumstances,
    describe,
    make_folder,
    make_sweep,
    open_sets,
)
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import option
from hyperface_jax.runs.support.sweep_files import SweepFile
from hyperface_jax.runs.support.watch import QUIET, Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from hyperface_jax.evaluation.neighbors import ClosestPairs, NearestPairs, TargetMatch
    from hyperface_jax.io.embedding_sets import EmbeddingSet
    from hyperface_jax.pairwise import Sweep
    from hyperface_jax.runs.support.pair_images import RowImages

VERB, NEAREST = "leakage", "nearest.npz"
UNFINISHED = ("searching.npz", "ranking.npz")
"""Files that a stopped search leaves: the state of the search, and of the ranking of targets."""
_TOP = 100
_PICTURED = 24
"""Number of pairs whose images the report shows."""


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """Find the most similar pairs of embeddings between two sets. The search is exact.

    Without against and targets, the rows of a single set are compared with each other. FILE is a .npy
    (possibly larger than memory), .npz, .safetensors or .parquet file, a run of pack, or a data set that
    was synthesized with a recognizer. FILE:KEY selects one of several arrays in a file.
    """

    embeddings: Path = option(metavar="FILE")
    """Embeddings to examine, such as those of synthetic images or identities."""
    against: Path | None = option(None, metavar="FILE")
    """Embeddings to compare them with, such as those of the people that a generator was trained on."""
    targets: Path | None = option(None, metavar="FILE")
    """Target embeddings that the examined faces were drawn for, such as a run of pack."""
    labels: Path | None = None
    """.npy, .npz or .txt file with the row number of the target of each embedding. Default: the labels
    stored with the embeddings."""
    out: Path
    """Folder for summary.json, nearest.npz and report.html."""
    top: int | None = option(None, group="report")
    """Number of most similar pairs to list. Default: 100, or all pairs if there are fewer."""
    threshold: tuple[float, ...] = option((), group="report")
    """Additional cosine thresholds above which two embeddings count as the same person. 0.3, 0.4, 0.5,
    0.6 and 0.7 are always reported."""
    images: Path | None = option(None, group="report")
    """Folder or .tar file with the images of the embeddings, or folder of .tar shards, to show in the
    report."""
    against_images: Path | None = option(None, group="report")
    """Folder or .tar file with the images of the other set, or folder of .tar shards, to show in the
    report."""
    devices: int | None = option(None, group="machine")
    """Number of devices to split the rows across. Default: all."""


def leakage(config: Leakage, *, watch: Watch = QUIET) -> Result:
    """Find the most similar pairs of embeddings between two sets. The search is exact.

    A search that is stopped saves its state now and then, and the same call goes on with it. For a
    finished search, the same call writes the same result again.

    Args:
        config: the settings.
        watch: receives messages and progress.

    Returns:
        The contents of ``summary.json``, the folder, and the main figures in words.

    Raises:
        InputError: a setting or a file cannot be used; nothing was done.
        Stopped: a stop was requested; the state of the search is saved.
    """
    check_settings(config)
    task = _open_task(config, watch)
    make_folder(config.out)
    has_search = config.against is not None or config.targets is None
    with watch.stopping() as is_asked:
        stores = _stores(config, task, is_asked, watch)
        search = _searched(task, stores[0], watch) if has_search else None
        results = _Results(search, _matched(task, stores[1], watch))
    result = _write_results(config, task, results)
    for name in UNFINISHED:
        (config.out / name).unlink(missing_ok=True)
    return result


class _Task(NamedTuple):
    """Everything that the search needs, already checked."""

    x: EmbeddingSet
    against: EmbeddingSet | None
    targets: EmbeddingSet | None
    own: np.ndarray | None
    images: RowImages | None
    against_images: RowImages | None
    top: int
    thresholds: list[float]
    sweep: Sweep

    @property
    def num_pairs(self) -> int:
        """Number of pairs that are compared."""
        from hyperface_jax.evaluation.neighbors import count_pairs

        return count_pairs(self.x, self.against)


class _Results(NamedTuple):
    """The results; None for those that were not requested."""

    search: NearestPairs | None
    match: TargetMatch | None


def check_settings(config: Leakage) -> None:
    """Refuse settings that cannot work, before any file is read.

    Raises:
        InputError: a setting cannot work.
    """
    from hyperface_jax.evaluation.neighbors import MOST_PAIRS

    is_fit = config.top is None or 1 <= config.top <= MOST_PAIRS
    require(config, [("top", is_fit, f"between 1 and {MOST_PAIRS}")])
    all_thresholds(config.threshold)
    needs = (("labels", "targets"), ("against_images", "against"))
    for name, other in needs:
        if getattr(config, name) is not None and getattr(config, other) is None:
            raise InputError(f"`{name}`: belongs to `{other}`; give that too")
    if config.targets is not None and config.against is None:
        for name in ("top", "images"):
            if getattr(config, name) is not None:
                raise InputError(f"`{name}`: is of the pairs with `against`; give that too")
    check_folder(config.out, VERB, unfinished=UNFINISHED)


def _open_task(config: Leakage, watch: Watch) -> _Task:
    """Open all files, so that a bad one is found before any work is done."""
    from hyperface_jax.runs.support.pair_images import open_row_images

    sweep = make_sweep(config.devices)
    sets = open_sets(embeddings=config.embeddings, against=config.against, targets=config.targets)
    x, against, targets = (sets.get(name) for name in ("embeddings", "against", "targets"))
    assert x is not None
    task = _Task(
        x,
        against,
        targets,
        None if targets is None else _own_targets(config, x, targets),
        open_row_images("images", config.images, x, watch),
        None
        if against is None
        else open_row_images("against_images", config.against_images, against, watch),
        config.top or _TOP,
        all_thresholds(config.threshold),
        sweep,
    )
    if targets is None or against is not None:
        _check_pairs(config, task)
    return task


def _check_pairs(config: Leakage, task: _Task) -> None:
    if task.num_pairs < 1:
        raise InputError(
            f"`embeddings={one_line(config.embeddings)}`: one row makes no pair; give more, or "
            "`against`"
        )
    if config.top is not None and config.top > task.num_pairs:
        raise InputError(f"`top={config.top}`: there are only {task.num_pairs} pairs; give fewer")


def _own_targets(config: Leakage, x: EmbeddingSet, targets: EmbeddingSet) -> np.ndarray:
    from hyperface_jax.io.embedding_sets import read_numbers

    own = read_numbers(x, config.labels)
    if own.min() < 0 or own.max() >= targets.shape[0]:
        raise InputError(
            f"{one_line(config.labels or config.embeddings)}: labels {own.min()} to {own.max()} for "
            f"the {targets.shape[0]} rows of `targets={one_line(targets.path)}`; number them from 0"
        )
    return own


def _stores(
    config: Leakage, task: _Task, is_asked: Callable[[], bool], watch: Watch
) -> tuple[SweepFile, SweepFile]:
    """Return where the search and the ranking of targets keep their states."""
    searching, ranking = (config.out / name for name in UNFINISHED)
    x, y, targets = (s and s.sha256 for s in (task.x, task.against, task.targets))
    own = None if task.own is None else hashlib.sha256(task.own.tobytes()).hexdigest()
    has_more = task.targets is not None
    return (
        SweepFile(searching, {"x": x, "y": y}, is_asked, watch, is_result_kept=has_more),
        SweepFile(ranking, {"x": x, "targets": targets, "own": own}, is_asked, watch),
    )


def _searched(task: _Task, store: SweepFile, watch: Watch) -> NearestPairs:
    from hyperface_jax.evaluation.neighbors import nearest_pairs

    with watch.progress("searching", "rows", task.x.shape[0]) as update:
        return nearest_pairs(
            task.x,
            task.against,
            num_pairs=task.top,
            sweep=task.sweep,
            progress=update,
            store=store,
        )


def _matched(task: _Task, store: SweepFile, watch: Watch) -> TargetMatch | None:
    if task.targets is None or task.own is None:
        return None
    from hyperface_jax.evaluation.neighbors import target_match

    with watch.progress("ranking targets", "rows", task.x.shape[0]) as update:
        return target_match(
            task.x, task.targets, task.own, sweep=task.sweep, progress=update, store=store
        )


def _write_results(config: Leakage, task: _Task, results: _Results) -> Result:
    """Write the arrays, then the report, and the figures last."""
    from hyperface_jax.reports.leakage import write_leakage_report

    summary = _summarize(task, results)
    arrays: dict[str, np.ndarray] = {}
    if results.search:
        arrays |= {"cosine": results.search.cosine, "nearest": results.search.nearest}
    if results.match:
        arrays |= {"target_cosine": results.match.cosine, "target_rank": results.match.rank}
    atomic_save_npz(config.out / NEAREST, **arrays)
    pictures = _pictures(task, results.search.pairs) if results.search else []
    page = write_leakage_report(config.out, summary, pictures)
    atomic_write_json(config.out / SUMMARY, summary)
    lines = [*_in_words(summary), f"report: {one_line(page)}"]
    return Result(config.out, read_json(config.out / SUMMARY), "\n".join(lines))


def _summarize(task: _Task, results: _Results) -> dict[str, Any]:
    """Gather the contents of summary.json."""
    search: dict[str, Any] | None = None
    if results.search:
        search = {"num_pairs": task.num_pairs, **results.search.summary(task.thresholds)}
        search["pairs"] = [_named(task, pair) for pair in search["pairs"]]
    return {
        **circumstances(VERB),
        "embeddings": describe(task.x),
        "against": None if task.against is None else describe(task.against),
        "targets": None if task.targets is None else describe(task.targets),
        "nearest": search,
        "own_target": results.match.summary(task.thresholds) if results.match else None,
    }


def _named(task: _Task, pair: dict[str, Any]) -> dict[str, Any]:
    """Add the names of the images of a pair where they are known."""
    names = {}
    for key, images in (("row", task.images), ("column", _column_images(task))):
        if images is not None:
            names[f"{key}_image"] = images.name(pair[key])
    return pair | names


def _column_images(task: _Task) -> RowImages | None:
    return task.images if task.against is None else task.against_images


def _pictures(task: _Task, pairs: ClosestPairs) -> list[bytes]:
    from hyperface_jax.runs.support.pair_images import side_by_side

    first, second = task.images, _column_images(task)
    if first is None and second is None:
        return []
    shown = zip(pairs.row[:_PICTURED].tolist(), pairs.column[:_PICTURED].tolist(), strict=True)
    return [
        side_by_side(first and first.square(row), second and second.square(column))
        for row, column in shown
    ]


def _in_words(summary: dict[str, Any]) -> list[str]:
    lines = []
    for key, what in (("nearest", "nearest neighbor"), ("own_target", "own target")):
        found = summary[key]
        if found is None:
            continue
        lines.append(
            f"cosine to the {what} of {found['num_rows']} rows: mean {found['mean_cosine']:.4f}, "
            f"min {found['min_cosine']:.4f}, max {found['max_cosine']:.4f}"
        )
        lines += [
            f"  above {row['threshold']:g}: {row['num']} rows, {100 * row['share']:.3f} %"
            for row in found["above"]
        ]
        if "rank_1" in found:
            lines.append(f"  own target first of all: {100 * found['rank_1']:.2f} %")
    return lines
