"""The figures of a packing: its convergence, and its identities at the start and at the end.

Each function draws its arguments into a separate figure, for a page or for a notebook.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

WIDE, NARROW = (7.4, 3.5), (3.9, 3.3)
"""Sizes of the figures for large screens and for phones, in inches."""

_NUM_BINS = 72
_LABEL_SHARE = 0.08
"""Share of the range of an axis that the label of a line needs."""


@dataclass(frozen=True)
class Theme:
    """Colors of the page and of the figures, ``#rrggbb``, all different.

    Attributes:
        surface: background of the page.
        panel: background of tiles and code.
        ink: main text.
        muted: secondary text.
        rule: axes, grid and borders.
        before: the start of a run.
        after: the result of a run.
        bound: the lower bound.
        warning: things that the reader must not miss.
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


def convergence_plot(
    history: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    *,
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw the largest cosine against the step, above the bound that no packing can pass.

    The axis of steps is logarithmic if half of the descent happens in the first twentieth of the run.
    With a gallery, a second panel shows the mean cosine to it.

    Args:
        history: rows with ``step``, ``max_cosine`` and optionally ``gallery_mean_cosine``; null leaves a
            gap in the line.
        summary: ``lower_bound``, ``lower_bound_name`` and optionally ``best_known`` and ``best_step``.
        theme: colors of the figure.
        size: width and height in inches; a gallery panel adds half of the height.

    Returns:
        A figure outside of matplotlib's global state.

    Raises:
        InputError: no row has a ``max_cosine``, or matplotlib is not installed.
    """
    step, cosine = _column(history, "step"), _column(history, "max_cosine")
    if not np.isfinite(cosine).any():
        raise InputError("history: no row has a max_cosine; nothing to draw")
    gallery = _column(history, "gallery_mean_cosine")
    has_gallery = bool(np.isfinite(gallery).any())
    figure = new_plot(theme, (size[0], size[1] * (1.5 if has_gallery else 1)))
    ratios = [2.4, 1] if has_gallery else [1]
    axes = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    _draw_descent(axes[0], step, cosine, summary, theme)
    if has_gallery:
        axes[1].plot(step, gallery, color=theme.after, linewidth=1.5)
        set_title(axes[1], "Mean cosine to the nearest gallery point", theme)
    if _falls_early(step, cosine):
        axes[-1].set_xscale("symlog", linthresh=1, linscale=0.3)
    for panel in axes:
        style_axes(panel, theme)
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
    """Draw how close every identity is to the nearest other one, at the start and at the end.

    Args:
        before: cosine of each identity to the nearest other one at the start, ``[n]``.
        after: the same at the end, ``[n]``.
        summary: ``lower_bound``, ``lower_bound_name`` and ``max_cosine``, which are marked by lines.
        theme: colors of the figure.
        size: width and height, in inches.

    Returns:
        A figure outside of matplotlib's global state.
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
        summary: if it has ``gallery_mean_cosine``, a line marks it.
        theme: colors of the figure.
        size: width and height, in inches.

    Returns:
        A figure outside of matplotlib's global state.
    """
    mean = summary.get("gallery_mean_cosine")
    marks = [] if mean is None else [(mean, f"mean of the result {number(mean)}", theme.ink)]
    label = "cosine to the nearest gallery point"
    return _histograms(np.asarray(before), np.asarray(after), label, marks, theme, size)


def new_plot(theme: Theme, size: tuple[float, float]) -> Figure:
    """Make an empty figure outside of matplotlib's global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("figures need matplotlib: pip install '.[cli]' in a checkout") from error
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


def _draw_level(axes: Axes, value: float, label: str, theme: Theme) -> None:
    """Draw a dashed line at a cosine, with its label below it, as curves come from above."""
    axes.axhline(value, color=theme.bound, linewidth=1.2, linestyle=(0, (4, 2.5)))
    axes.annotate(
        label,
        (1, value),
        xycoords=("axes fraction", "data"),
        xytext=(-3, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        color=theme.bound,
        fontsize=9,
        parse_math=False,
    )


def _draw_descent(
    axes: Axes, step: np.ndarray, cosine: np.ndarray, summary: Mapping[str, Any], theme: Theme
) -> None:
    bound = summary["lower_bound"]
    low, high = _range([bound, np.nanmin(cosine), np.nanmax(cosine)])
    axes.set_ylim(low - 0.16 * (high - low), high + 0.06 * (high - low))
    axes.plot(step, cosine, color=theme.after, linewidth=1.7)
    _draw_level(axes, bound, _bound_label(summary), theme)
    known = summary.get("best_known")
    if known is not None and bound + _LABEL_SHARE * (high - low) < known < high:
        _draw_level(axes, known, f"best construction {number(known)}", theme)
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
    set_title(axes, "Largest cosine between two identities", theme)


def _histograms(
    before: np.ndarray,
    after: np.ndarray,
    label: str,
    marks: Sequence[tuple[float, str, str]],
    theme: Theme,
    size: tuple[float, float],
) -> Figure:
    """Draw two panels with a common cosine axis; a good packing piles up in a bin or two."""
    ends = [f(values) for values in (before, after) for f in (np.min, np.max)]
    low, high = _range([*ends, *(mark[0] for mark in marks)])
    low, high = low - 0.02 * (high - low), high + 0.02 * (high - low)
    bins = np.linspace(low, high, _NUM_BINS + 1)
    figure = new_plot(theme, size)
    axes = figure.subplots(2, 1, sharex=True)
    rows = ((axes[0], before, "Start", theme.before), (axes[1], after, "Result", theme.after))
    for panel, values, title, color in rows:
        panel.hist(values, bins=bins, color=color, histtype="stepfilled")
        for value, _, mark_color in marks:
            panel.axvline(value, color=mark_color, linewidth=1.2, linestyle=(0, (4, 2.5)))
        style_axes(panel, theme)
        set_title(panel, title, theme)
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
    """Return the range of cosines, widened if they are nearly equal."""
    low, high = float(min(values)), float(max(values))
    spare = max(0.0, least - (high - low)) / 2
    return low - spare, high + spare


def _label_above(axes: Axes, value: float, place: float, row: int, text: str, color: str) -> None:
    """Write the name of a vertical line above the panel; each name has a row, so none collide."""
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


def set_title(axes: Axes, text: str, theme: Theme) -> None:
    """Write the title of a panel, aligned to the left."""
    axes.set_title(text, loc="left", color=theme.ink, fontsize=9.5, pad=6)


def style_axes(axes: Axes, theme: Theme) -> None:
    """Give a panel the colors and the grid of the page."""
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.rule)
    axes.grid(axis="y", color=theme.rule, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.muted, labelsize=8.5, length=0, pad=4)
    axes.tick_params(which="minor", length=0)
    if axes.get_xscale() == "linear":
        axes.ticklabel_format(useOffset=False)


_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def number(value: float) -> str:
    """Format a count, a cosine or a rate for reading.

    Examples:
        >>> [number(x) for x in (10_000, 0.13391, -0.5, 0.0, 3.2e-9, 61_575.6, 5.21e9)]
        ['10,000', '0.1339', '−0.5000', '0', '3.2 × 10⁻⁹', '61,576', '5.21 × 10⁹']
    """
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}".replace("-", "−")
    if 1e-3 <= abs(value) < 1e6:
        digits = 4 if abs(value) < 10 else 2 if abs(value) < 1000 else 0
        return f"{value:,.{digits}f}".replace("-", "−")
    mantissa, exponent = f"{value:.{1 if abs(value) < 1 else 2}e}".split("e")
    power = str(int(exponent)).translate(_SUPERSCRIPTS)
    return f"{mantissa} × 10{power}".replace("-", "−")
