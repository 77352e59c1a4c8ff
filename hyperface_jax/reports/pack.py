"""The report of a packing: one HTML page that needs nothing but itself.

The run directory holds every number already; this module reads them and draws. Figures are vector
graphics inside the page, whose colours are CSS variables, so one drawing serves light and dark.
"""

from __future__ import annotations

import io
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_write_text, one_line, read_json, read_jsonl

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

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
"""Fields of summary.json that must be there and may be null."""

TEXTS = ("method", "lower_bound_name", "device")
"""Fields of summary.json that must be strings."""

WIDE, NARROW = (7.4, 3.5), (3.9, 3.3)
"""Sizes of the figures for a desk and for a hand, inches."""

_NUM_BINS = 72


@dataclass(frozen=True)
class Theme:
    """Colours of the page and of the figures, ``#rrggbb``, all different.

    Attributes:
        surface: what is drawn on.
        panel: surface of tiles and code.
        ink: text.
        muted: secondary text.
        rule: axes, grid and borders.
        before: the start of the run.
        after: its result.
        bound: the lower bound.
        warning: what the reader must not miss.
    """

    surface: str
    panel: str
    ink: str
    muted: str
    rule: str
    before: str
    after: str
    bound: str
    warning: str


LIGHT = Theme(
    surface="#fcfcfa",
    panel="#f2f3ef",
    ink="#1d2327",
    muted="#626b72",
    rule="#d9dcd6",
    before="#aeb6b8",
    after="#24708a",
    bound="#b25a33",
    warning="#a3362b",
)

DARK = Theme(
    surface="#14181a",
    panel="#1d2326",
    ink="#e7eae8",
    muted="#98a2a6",
    rule="#343c40",
    before="#6a767b",
    after="#66b5cd",
    bound="#e2966b",
    warning="#f08a7c",
)


# Figures


def convergence_figure(
    history: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    *,
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw the largest cosine against the step, above the bound that no packing can pass.

    The steps are on a logarithmic axis where half of the descent lies in the first twentieth of
    the run. With a gallery, a second panel shows the mean cosine to it.

    Args:
        history: rows with ``step``, ``max_cosine`` and perhaps ``gallery_mean_cosine``; null is a
            gap in the line.
        summary: ``lower_bound``, ``lower_bound_name`` and perhaps ``best_step``.
        theme: colours.
        size: width and height, inches; a gallery panel adds half of the height.

    Returns:
        A figure that belongs to no global state.

    Raises:
        InputError: no row has a ``max_cosine``, or matplotlib is not installed.
    """
    step, cosine = _column(history, "step"), _column(history, "max_cosine")
    if not np.isfinite(cosine).any():
        raise InputError("history: no row has a max_cosine; nothing to draw")
    gallery = _column(history, "gallery_mean_cosine")
    has_gallery = bool(np.isfinite(gallery).any())
    figure = _figure(theme, (size[0], size[1] * (1.5 if has_gallery else 1)))
    ratios = [2.4, 1] if has_gallery else [1]
    axes = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    _draw_descent(axes[0], step, cosine, summary, theme)
    if has_gallery:
        axes[1].plot(step, gallery, color=theme.after, linewidth=1.5)
        _title(axes[1], "Mean cosine to the nearest gallery point", theme)
    if _falls_early(step, cosine):
        axes[-1].set_xscale("symlog", linthresh=1, linscale=0.3)
    for panel in axes:
        _style(panel, theme)
    axes[-1].set_xlim(step.min(), max(step.max(), step.min() + 1))
    if axes[-1].get_xscale() == "linear":
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes[-1].set_xlabel("step", color=theme.muted, fontsize=9)
    return figure


def nearest_histogram(
    before: ArrayLike,
    after: ArrayLike,
    summary: Mapping[str, Any],
    *,
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw how close every identity is to its nearest other one, at the start and at the end.

    Args:
        before: cosine of each identity to the nearest other at the start, ``[n]``.
        after: the same at the end, ``[n]``.
        summary: ``lower_bound``, ``lower_bound_name`` and ``max_cosine``, which are drawn in.
        theme: colours.
        size: width and height, inches.

    Returns:
        A figure that belongs to no global state.
    """
    marks = [
        (summary["max_cosine"], f"max {number(summary['max_cosine'])}", theme.ink),
        (summary["lower_bound"], _bound_label(summary), theme.bound),
    ]
    label = "cosine to the nearest other identity"
    return _histograms(np.asarray(before), np.asarray(after), label, marks, theme, size)


def gallery_histogram(
    before: ArrayLike,
    after: ArrayLike,
    summary: Mapping[str, Any],
    *,
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw how close every identity is to the gallery, at the start and at the end.

    Args:
        before: cosine of each identity to its nearest gallery point at the start, ``[n]``.
        after: the same at the end, ``[n]``.
        summary: ``gallery_mean_cosine`` is drawn in, if it is there.
        theme: colours.
        size: width and height, inches.

    Returns:
        A figure that belongs to no global state.
    """
    mean = summary.get("gallery_mean_cosine")
    marks = [] if mean is None else [(mean, f"mean of the result {number(mean)}", theme.ink)]
    label = "cosine to the nearest gallery point"
    return _histograms(np.asarray(before), np.asarray(after), label, marks, theme, size)


def _figure(theme: Theme, size: tuple[float, float]) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("figures need matplotlib: pip install 'hyperface_jax[cli]'") from error
    return Figure(figsize=size, facecolor=theme.surface, layout="constrained")


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    values = [row.get(name) for row in rows]
    return np.array([math.nan if value is None else value for value in values], np.float64)


def _falls_early(step: np.ndarray, cosine: np.ndarray) -> bool:
    known = np.isfinite(cosine)
    step, cosine = step[known], cosine[known]
    if step.size < 2 or np.ptp(step) < 200:
        return False
    half = step[np.argmax(cosine <= (cosine[0] + cosine.min()) / 2)]
    return bool(half - step[0] < 0.05 * np.ptp(step))


def _draw_descent(
    axes: Axes, step: np.ndarray, cosine: np.ndarray, summary: Mapping[str, Any], theme: Theme
) -> None:
    bound = summary["lower_bound"]
    low, high = _range([bound, np.nanmin(cosine), np.nanmax(cosine)])
    axes.set_ylim(low - 0.16 * (high - low), high + 0.06 * (high - low))
    axes.plot(step, cosine, color=theme.after, linewidth=1.7)
    axes.axhline(bound, color=theme.bound, linewidth=1.2, linestyle=(0, (4, 2.5)))
    axes.annotate(
        _bound_label(summary),
        (1, bound),
        xycoords=("axes fraction", "data"),
        xytext=(-3, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        color=theme.bound,
        fontsize=9,
        parse_math=False,
    )
    best = np.flatnonzero((step == summary.get("best_step")) & np.isfinite(cosine))
    if best.size:
        axes.plot(
            step[best[:1]],
            cosine[best[:1]],
            "o",
            color=theme.after,
            markeredgecolor=theme.surface,
            markersize=7,
            clip_on=False,
            zorder=5,
        )
    _title(axes, "Largest cosine between two identities", theme)


def _histograms(
    before: np.ndarray,
    after: np.ndarray,
    label: str,
    marks: Sequence[tuple[float, str, str]],
    theme: Theme,
    size: tuple[float, float],
) -> Figure:
    """Draw two panels with one cosine axis: a packing piles up in a bin or two."""
    ends = [f(values) for values in (before, after) for f in (np.min, np.max)]
    low, high = _range([*ends, *(mark[0] for mark in marks)])
    low, high = low - 0.02 * (high - low), high + 0.02 * (high - low)
    bins = np.linspace(low, high, _NUM_BINS + 1)
    figure = _figure(theme, size)
    axes = figure.subplots(2, 1, sharex=True)
    rows = ((axes[0], before, "Start", theme.before), (axes[1], after, "Result", theme.after))
    for panel, values, title, color in rows:
        panel.hist(values, bins=bins, color=color, histtype="stepfilled")
        for value, _, mark_color in marks:
            panel.axvline(value, color=mark_color, linewidth=1.2, linestyle=(0, (4, 2.5)))
        _style(panel, theme)
        _title(panel, title, theme)
        panel.yaxis.get_major_locator().set_params(nbins=3, integer=True)
        panel.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    for row, (value, text, color) in enumerate(marks):
        _label_above(axes[0], value, (value - low) / (high - low), row, text, color)
    axes[1].set_xlim(low, high)
    axes[1].xaxis.get_major_locator().set_params(nbins=int(1.4 * size[0]))
    axes[1].set_xlabel(label, color=theme.muted, fontsize=9)
    figure.supylabel("identities", color=theme.muted, fontsize=9)
    return figure


def _range(values: Sequence[float], least: float = 2e-2) -> tuple[float, float]:
    """Return the range of cosines, widened where all of them are equal."""
    low, high = float(min(values)), float(max(values))
    spare = max(0.0, least - (high - low)) / 2
    return low - spare, high + spare


def _label_above(axes: Axes, value: float, place: float, row: int, text: str, color: str) -> None:
    """Name a vertical line above the panel, one row a name so that no two can collide."""
    side = "left" if place < 0.5 else "right"
    axes.annotate(
        text,
        (value, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-2 if side == "left" else 2, 20 + 13 * row),
        textcoords="offset points",
        ha=side,
        color=color,
        fontsize=9,
        parse_math=False,
    )


def _bound_label(summary: Mapping[str, Any]) -> str:
    return f"{one_line(summary['lower_bound_name'])} bound {number(summary['lower_bound'])}"


def _title(axes: Axes, text: str, theme: Theme) -> None:
    axes.set_title(text, loc="left", color=theme.ink, fontsize=9.5, pad=6)


def _style(axes: Axes, theme: Theme) -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.rule)
    axes.grid(axis="y", color=theme.rule, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.muted, labelsize=8.5, length=0, pad=4)
    axes.tick_params(which="minor", length=0)
    if axes.get_xscale() == "linear":
        axes.ticklabel_format(useOffset=False)


# The run


@dataclass(frozen=True)
class PackRun:
    """What a finished run left behind.

    Attributes:
        path: the run directory.
        summary: the figures of the result.
        config: the settings.
        history: a row a step.
        diagnostics: ``nearest_before`` and ``nearest_after``, with a gallery also
            ``gallery_before`` and ``gallery_after``; cosines, ``[n]`` each.
    """

    path: Path
    summary: dict[str, Any]
    config: dict[str, Any]
    history: list[dict[str, Any]]
    diagnostics: dict[str, np.ndarray]


def read_run(run_dir: str | os.PathLike[str]) -> PackRun:
    """Read a finished run and check that everything the report draws is there.

    Raises:
        InputError: the run is missing, unfinished or damaged: names the file and the field.
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


def write_report(run_dir: str | os.PathLike[str]) -> Path:
    """Draw a finished run as ``report.html`` in its directory.

    The page is a single file: no script, no font and no picture is loaded from anywhere.

    Args:
        run_dir: directory with summary.json, config.json, history.jsonl and diagnostics.npz.

    Returns:
        The path of the page.

    Raises:
        InputError: the run is missing, unfinished or damaged, the page cannot be written, or a
            library of the ``cli`` extra is not installed.
    """
    run = read_run(run_dir)
    path = run.path / REPORT
    atomic_write_text(path, render(run))
    return path


def render(run: PackRun) -> str:
    """Return the page of a run as HTML, every text of the run escaped.

    Raises:
        InputError: a library of the ``cli`` extra is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise InputError("the report needs jinja2: pip install 'hyperface_jax[cli]'") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, duration=duration, shown=shown)
    return environment.get_template("pack.html.j2").render(
        s=run.summary,
        config={name: value for name, value in run.config.items() if name != "command"},
        command=_command(run.config),
        figures=_figures(run),
        light=asdict(LIGHT),
        dark=asdict(DARK),
        run_name=run.path.resolve().name,
    )


def _figures(run: PackRun) -> dict[str, dict[str, Any]]:
    """Draw each figure once for wide and once for narrow screens."""
    data, summary = run.diagnostics, run.summary
    draw = {}
    if any(row["max_cosine"] is not None for row in run.history):
        draw["convergence"] = lambda size: convergence_figure(run.history, summary, size=size)
    draw["nearest"] = lambda size: nearest_histogram(
        data["nearest_before"], data["nearest_after"], summary, size=size
    )
    if "gallery_before" in data:
        draw["gallery"] = lambda size: gallery_histogram(
            data["gallery_before"], data["gallery_after"], summary, size=size
        )
    return {
        name: {
            kind: inline_svg(make(size), f"{name}-{kind}")
            for kind, size in (("wide", WIDE), ("narrow", NARROW))
        }
        for name, make in draw.items()
    }


def inline_svg(figure: Figure, prefix: str) -> Any:
    """Return a figure in the ``LIGHT`` theme as SVG that takes its colours and font from a page.

    Args:
        figure: what to draw.
        prefix: put before every id, so that several figures can share a page.

    Returns:
        Markup that is safe in HTML; the colours are CSS variables named as the fields of
        :class:`Theme`.
    """
    import matplotlib
    from markupsafe import Markup

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for unwanted in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r' xmlns(:xlink)?="[^"]*"'):
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    for name, color in asdict(LIGHT).items():
        svg = svg.replace(color, f"var(--{name})")
    # The sizes in points would stop the page from scaling the figure.
    return Markup(re.sub(r'(<svg[^>]*?) width="[^"]*"|(<svg[^>]*?) height="[^"]*"', r"\1\2", svg))


def _command(config: Mapping[str, Any]) -> str | None:
    command = config.get("command")
    if isinstance(command, list):
        return shlex.join(str(word) for word in command)
    return None if command is None else str(command)


_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def number(value: float) -> str:
    """Format a count, a cosine or a rate for reading.

    Examples:
        >>> [number(x) for x in (10_000, 0.13391, -0.5, 0.0, 3.2e-9, 5.21e9)]
        ['10,000', '0.1339', '−0.5000', '0', '3.2 × 10⁻⁹', '5.21 × 10⁹']
    """
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}".replace("-", "−")
    if 1e-3 <= abs(value) < 1e6:
        digits = 4 if abs(value) < 10 else 2
        return f"{value:,.{digits}f}".replace("-", "−")
    mantissa, exponent = f"{value:.{1 if abs(value) < 1 else 2}e}".split("e")
    power = str(int(exponent)).translate(_SUPERSCRIPTS)
    return f"{mantissa} × 10{power}".replace("-", "−")


def duration(seconds: float) -> str:
    """Format seconds for reading.

    Examples:
        >>> [duration(x) for x in (0.5, 42.25, 83, 7265)]
        ['0.50 s', '42.2 s', '1 min 23 s', '2 h 1 min']
    """
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 10 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def shown(value: Any) -> str:
    """Write a setting as it was given; lists and objects as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
