"""The ``frontier`` stage: one gallery, several alpha, and which of them to take.

alpha-0.5-neighbors-1/, ...     a run of pack each
summary.json, report.html       their figures, and the recommended one
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from hyperface_jax.errors import InputError, Stopped
from hyperface_jax.io.files import atomic_write_json, one_line
from hyperface_jax.io.run_directory import EMBEDDINGS, SUMMARY, RunDirectory
from hyperface_jax.packing.figures import nearness, nearness_among
from hyperface_jax.packing.manifolds import Manifold
from hyperface_jax.runs.packing.inputs import Inputs, manifold_of, read_inputs
from hyperface_jax.runs.packing.settings import Pack
from hyperface_jax.runs.packing.settings import check_settings as check_packing
from hyperface_jax.runs.packing.stage import pack_inputs
from hyperface_jax.runs.support.described_embeddings import circumstances
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import command, option, plain
from hyperface_jax.runs.support.watch import QUIET, Watch

if TYPE_CHECKING:
    from collections.abc import Mapping

VERB = "frontier"

_OWN = ("out", "alpha", "neighbors")
"""Settings that are not given to every packing unchanged."""
_FREE_TO_CHANGE = (
    "out",
    "alpha",
    "neighbors",
    "gallery",
    "keep_out",
    "threshold",
    "devices",
    "checkpoint_seconds",
    "command",
)
"""Settings that may change when a run is resumed or extended; files are compared by their content."""
_FIGURES = (
    "max_cosine",
    "mean_nearest_cosine",
    "gallery_mean_cosine",
    "gallery_min_cosine",
    "keep_out_violations",
    "seconds",
)
"""Figures of a packing that the summary repeats."""
_MOST_ROWS = 4096
"""Largest number of gallery rows of which the nearness to the others is measured."""


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """Pack near a gallery with several alpha, show what each costs and gives, and recommend one.

    FILE is as for pack. Every packing is a run of pack in a folder of its own, so the recommended one
    is ready to be used. Run the same command again to resume, or with more values of alpha to add
    packings.

    The rule: of the packings that are at most half as far from the gallery, in angle, as the gallery's
    rows are from one another, the one with the smallest max cosine.
    """

    num_ids: int
    """Number of identities to choose."""
    gallery: Path = option(metavar="FILE")
    """FILE of face embeddings that stand for the face manifold, one row for each person."""
    out: Path
    """Run directory, for summary.json, report.html and the runs of pack."""
    alpha: tuple[float, ...] = (0.125, 0.5, 2.0, 8.0, 32.0)
    """Weights of the mean cosine distance to the gallery."""
    neighbors: tuple[int, ...] = (1,)
    """Numbers of gallery rows that stand for the face manifold near an identity; each is packed with
    every alpha. Nearness is measured with the largest one."""
    init: str | None = option(
        None, group="packing", metavar="gallery|farthest|subspace|uniform|code|FILE"
    )
    """Starting points, as for pack."""
    steps: int | None = option(None, group="packing")
    """Number of optimizer steps of each packing. Default: chosen from num-ids and dim."""
    keep_out: Path | None = option(None, group="packing", metavar="FILE")
    """FILE with embeddings that no identity may come near, such as those of real people."""
    keep_out_cosine: float | None = option(None, group="packing")
    """Largest allowed cosine between an identity and a keep-out row."""
    threshold: float | None = option(None, group="report")
    """Verification threshold of the recognizer, a cosine. The report marks it. Changes nothing else."""
    seed: int = 0
    """Random seed, the same for every packing."""
    devices: int | None = option(None, group="machine")
    """Number of devices to split the identities across. Default: all devices."""
    checkpoint_seconds: float = option(30.0, group="machine")
    """Seconds between checkpoints."""


def frontier(config: Frontier, *, watch: Watch = QUIET) -> Result:
    """Pack near a gallery with several alpha, show what each costs and gives, and recommend one.

    All packings with the same number of neighbors share one compilation. The same call resumes an
    unfinished run, also in the middle of a packing. A call with other values of alpha and neighbors
    keeps the packings that are there, and shows those that it names.

    Args:
        config: the settings.
        watch: receives messages and progress, and can stop the run.

    Returns:
        The contents of ``summary.json``, the run directory, and the figures of each packing in words.

    Raises:
        InputError: a setting or a file cannot be used; nothing was done.
        Stopped: a stop was requested; everything is saved.

    Cost: that of one packing for each pair of an alpha and a number of neighbors.
    """
    points = check_settings(config)
    inputs = read_inputs(points[-1], watch)
    _check_gallery(config, inputs)
    run = RunDirectory(config.out)
    try:
        stored = {**plain(config), **inputs.digests(), "command": command(config)}
        run.claim(stored, ignore=_FREE_TO_CHANGE)
        return _run(config, points, inputs, run, watch)
    except Stopped as stopped:
        raise Stopped(run.path) from stopped
    finally:
        run.close()


def check_settings(config: Frontier) -> list[Pack]:
    """Refuse settings that cannot work, before any file is read.

    Returns:
        The settings of each packing, by neighbors and then by alpha.

    Raises:
        InputError: a setting cannot work.
    """
    for name in ("alpha", "neighbors"):
        values = getattr(config, name)
        if not values:
            raise InputError(f"`{name}`: has no values; give one or more")
        for value in values:
            if values.count(value) > 1:
                raise InputError(f"`{name}`: {value:g} is given twice; give each value once")
    given = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in _OWN}
    points = [
        Pack(**given, alpha=alpha, neighbors=count, out=config.out / _folder(alpha, count))
        for count in sorted(config.neighbors)
        for alpha in sorted(config.alpha)
    ]
    for point in points:
        check_packing(point)
    return points


def _folder(alpha: float, neighbors: int) -> str:
    return f"alpha-{float(alpha)!r}-neighbors-{neighbors}".replace(".0-", "-")


def _check_gallery(config: Frontier, inputs: Inputs) -> None:
    """Refuse a gallery whose rows have too few others to be measured against."""
    assert inputs.gallery is not None
    num_rows, needed = inputs.gallery.num_points, max(config.neighbors) + 1
    if num_rows < needed:
        raise InputError(
            f"{one_line(config.gallery)}: has {num_rows} rows, but each is measured against "
            f"{needed - 1} others: lower `neighbors` or give more rows"
        )


def _run(
    config: Frontier, points: Sequence[Pack], inputs: Inputs, run: RunDirectory, watch: Watch
) -> Result:
    assert inputs.gallery is not None
    rows = inputs.gallery.points
    manifold = manifold_of(points[-1], rows)
    found: list[dict[str, Any]] = []
    packed: dict[str, Any] = {}
    for i, point in enumerate(points, start=1):
        told = f"alpha {point.alpha:g}, neighbors {point.neighbors}"
        watch.say(f"packing {i} of {len(points)}: {told}")
        packed = pack_inputs(point, inputs, watch).summary
        x = jnp.asarray(np.load(point.out / EMBEDDINGS), jnp.float32)
        near = nearness(x, jnp.asarray(rows), manifold=manifold)
        found.append(
            {
                "alpha": point.alpha,
                "neighbors": point.neighbors,
                "folder": point.out,
                **{name: packed[name] for name in _FIGURES},
                "nearness": float(jnp.mean(near)),
            }
        )
    yardstick, num_rows = _nearness_of_gallery(rows, manifold, config.seed)
    needed = needed_nearness(yardstick)
    choice = recommend(found, needed)
    summary = {
        **circumstances(VERB),
        "num_ids": config.num_ids,
        "dim": inputs.dim,
        "steps": packed["steps"],
        "seed": config.seed,
        "gallery": config.gallery,
        "num_gallery": len(rows),
        "neighbors": max(config.neighbors),
        "gallery_nearness": yardstick,
        "gallery_nearness_rows": num_rows,
        "needed_nearness": needed,
        "threshold": config.threshold,
        "lower_bound": packed["lower_bound"],
        "random_max_cosine": packed["random_max_cosine"],
        "points": found,
        "recommended": choice._asdict() | {name: found[choice.chosen][name] for name in _NAMES},
        "next": _next_commands(config, found, choice),
    }
    return _write(run, summary)


_NAMES = ("alpha", "neighbors", "folder")


def _nearness_of_gallery(rows: np.ndarray, manifold: Manifold, seed: int) -> tuple[float, int]:
    """Return the mean nearness of gallery rows to the other rows, and how many were measured."""
    shuffled = np.random.default_rng(seed).permutation(rows)
    near = nearness_among(
        jnp.asarray(shuffled), manifold=manifold, num_rows=min(len(rows), _MOST_ROWS)
    )
    return float(jnp.mean(near)), len(near)


def needed_nearness(gallery_nearness: float) -> float:
    """Return the mean cosine to the gallery that identities need: half of the angle of gallery rows.

    Gallery rows differ from one another along the manifold, where faces lie. Identities leave it across,
    where none do, so they must stay nearer. That half of the angle is enough is a choice, made by the
    faces that were drawn in the toy world: see ``benchmarks/choosing_alpha.py``.

    Args:
        gallery_nearness: mean cosine of a gallery row to the manifold of the others.

    Examples:
        >>> round(needed_nearness(math.cos(math.radians(40))), 6) == round(math.cos(math.radians(20)), 6)
        True
    """
    return math.sqrt((1 + gallery_nearness) / 2)


class Recommendation(NamedTuple):
    """Which packing of a frontier to take.

    Attributes:
        chosen: its place among the packings.
        is_near_enough: whether it is as near to the gallery as the rule asks.
        try_alpha: values of alpha that are worth adding.
    """

    chosen: int
    is_near_enough: bool
    try_alpha: tuple[float, ...]


def recommend(points: Sequence[Mapping[str, Any]], needed: float) -> Recommendation:
    """Recommend a packing of a frontier by its nearness and its separation.

    Of the packings that are near enough, it is the one with the smallest max cosine. If there is none,
    it is the nearest one. Nearness is a weak test of being a face, so what is drawn has the last word.

    Args:
        points: rows with ``alpha``, ``neighbors``, ``max_cosine`` and ``nearness``, by neighbors and
            then by alpha.
        needed: mean nearness that is enough, from :func:`needed_nearness`.

    Examples:
        >>> rows = [(0.5, 0.1, 0.6), (2.0, 0.3, 0.9), (8.0, 0.5, 0.99)]
        >>> names = ("alpha", "max_cosine", "nearness")
        >>> points = [{"neighbors": 1, **dict(zip(names, row, strict=True))} for row in rows]
        >>> recommend(points, 0.8)
        Recommendation(chosen=1, is_near_enough=True, try_alpha=(0.79, 1.3))
        >>> recommend(points, 0.995)
        Recommendation(chosen=2, is_near_enough=False, try_alpha=(16.0, 32.0))
    """
    near = [i for i, point in enumerate(points) if point["nearness"] >= needed]
    if not near:
        best = max(range(len(points)), key=lambda i: points[i]["nearness"])
        alpha = points[best]["alpha"] or 0.25
        return Recommendation(best, False, (2 * alpha, 4 * alpha))
    best = min(near, key=lambda i: points[i]["max_cosine"])
    alpha, neighbors = points[best]["alpha"], points[best]["neighbors"]
    below = [p["alpha"] for p in points if p["neighbors"] == neighbors and p["alpha"] < alpha]
    ratio = alpha / max(below) if below and max(below) > 0 else 8.0
    between = (_rounded(alpha / ratio ** (2 / 3)), _rounded(alpha / ratio ** (1 / 3)))
    return Recommendation(best, True, between if alpha > 0 and ratio > 1.5 else ())


def _rounded(value: float) -> float:
    """Round to two digits."""
    return float(f"{value:.1e}")


def _next_commands(
    config: Frontier, points: Sequence[Mapping[str, Any]], choice: Recommendation
) -> list[str]:
    """Return the commands that use the recommended packing, and that look closer."""
    folder = str(points[choice.chosen]["folder"])
    draw = ["hyperface", "synthesize", "--embeddings", folder, "--generator", "arc2face"]
    wider = tuple(sorted({*config.alpha, *choice.try_alpha}))
    closer = [command(replace(config, alpha=wider))] if choice.try_alpha else []
    return [shlex.join([*draw, "--out", "DATA"]), *closer]


def _write(run: RunDirectory, summary: dict[str, Any]) -> Result:
    """Write the report, and the figures last."""
    from hyperface_jax.reports.frontier import write_frontier_report

    page = write_frontier_report(run.path, summary)
    atomic_write_json(run / SUMMARY, summary)
    return Result(run.path, summary, "\n".join([*_in_words(summary), f"report: {one_line(page)}"]))


def _in_words(summary: Mapping[str, Any]) -> list[str]:
    lines = ["   alpha  neighbors  max cosine  mean nearest  to the gallery"]
    for i, point in enumerate(summary["points"]):
        mark = "  <- recommended" if i == summary["recommended"]["chosen"] else ""
        lines.append(
            f"{point['alpha']:8g}  {point['neighbors']:9}  {point['max_cosine']:10.4f}  "
            f"{point['mean_nearest_cosine']:12.4f}  {point['nearness']:14.4f}{mark}"
        )
    is_near = summary["recommended"]["is_near_enough"]
    return [
        *lines,
        f"gallery rows to one another: {summary['gallery_nearness']:.4f}, at half that angle "
        f"{summary['needed_nearness']:.4f}; recommended is the smallest max cosine among the packings "
        "that are as near" + ("" if is_near else ": none is, so the nearest one; try larger alpha"),
        *(f"next: {line}" for line in summary["next"]),
    ]
