"""The figures of a packing: its convergence, and its identities at the start and at the end.

Each function draws its arguments into a separate figure, for a page or for a notebook.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line
from hyperface_jax.reports.style import (
    DASHED,
    DOTTED,
    LIGHT,
    TEXT,
    WIDE,
    Theme,
    count_axis,
    label_axes,
    number,
    set_title,
    stacked_panels,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

_NUM_BINS = 72
_LABEL_SHARE = 0.08
"""Share of the range of an axis that the label of a line needs."""
_MOST_STRETCH = 0.5
"""Share of its range by which an axis is stretched at most, to show a level above the curve."""


class _Mark(NamedTuple):
    """A cosine to compare with: its label, color and dashes."""

    value: float
    label: str
    color: str
    dashes: Any = DASHED


def is_free(summary: Mapping[str, Any]) -> bool:
    """Tell whether nothing but the other identities holds the identities of a run back.

    A gallery, frozen points or a keep-out set do, so such a run is not to be compared with codes.
    """
    held = (summary.get(name) for name in ("gallery_mean_cosine", "keep_out_cosine"))
    return all(value is None for value in held) and not summary.get("num_frozen")


def convergence_plot(
    history: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    *,
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw the largest cosine against the step, above the bound that no packing can pass.

    Further lines show random points, a verification threshold and, where it can be compared, the best
    construction, as far as the summary has them and there is room. The axis of steps is logarithmic if
    half of the descent happens in the first twentieth of the run, and then says so. With a gallery, a
    second panel shows the mean cosine to it.

    Args:
        history: rows with ``step``, ``max_cosine`` and optionally ``gallery_mean_cosine``; null leaves a
            gap in the line.
        summary: ``lower_bound``, ``lower_bound_name`` and optionally ``best_known``, ``record``,
            ``best_step``, ``random_max_cosine`` and ``threshold``.
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
    height, ratios = (1.5 * size[1], [2.4, 1]) if has_gallery else (size[1], [1])
    figure, axes = stacked_panels(theme, (size[0], height), ratios)
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
    is_linear = axes[-1].get_xscale() == "linear"
    label_axes(axes[-1], "step" if is_linear else "step, logarithmic scale", "", theme)
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

    There is a single panel if both are the same. A panel says so if it shows only some identities.

    Args:
        before: cosine of each identity to the nearest other one at the start, ``[n]``.
        after: the same at the end, ``[n]``.
        summary: ``lower_bound``, ``lower_bound_name``, ``max_cosine`` and optionally ``threshold``,
            which are marked by lines; ``num_ids`` tells how many identities there are.
        theme: colors of the figure.
        size: width and height, in inches.

    Returns:
        A figure outside of matplotlib's global state.
    """
    marks = [
        _Mark(summary["max_cosine"], f"max {number(summary['max_cosine'])}", theme.ink),
        _Mark(summary["lower_bound"], _bound_label(summary), theme.bound),
        *_threshold(summary, theme),
    ]
    parts = np.asarray(before), np.asarray(after)
    return _histograms(parts, "cosine to the nearest other identity", marks, summary, theme, size)


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
        summary: if it has ``gallery_mean_cosine``, a line marks it; ``num_ids`` tells how many
            identities there are.
        theme: colors of the figure.
        size: width and height, in inches.

    Returns:
        A figure outside of matplotlib's global state.
    """
    mean = summary.get("gallery_mean_cosine")
    marks = [] if mean is None else [_Mark(mean, f"mean of the result {number(mean)}", theme.ink)]
    parts = np.asarray(before), np.asarray(after)
    return _histograms(parts, "cosine to the nearest gallery point", marks, summary, theme, size)


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


def _draw_level(axes: Axes, mark: _Mark, *, is_above: bool) -> None:
    """Draw a dashed line at a cosine, with its label on the side where the curve does not end."""
    axes.axhline(mark.value, color=mark.color, linewidth=1.2, linestyle=mark.dashes)
    axes.annotate(
        mark.label,
        (1, mark.value),
        xycoords=("axes fraction", "data"),
        xytext=(-3, 3 if is_above else -4),
        textcoords="offset points",
        ha="right",
        va="bottom" if is_above else "top",
        color=mark.color,
        fontsize=TEXT,
        parse_math=False,
    )


def _draw_descent(
    axes: Axes, step: np.ndarray, cosine: np.ndarray, summary: Mapping[str, Any], theme: Theme
) -> None:
    bound = _Mark(summary["lower_bound"], _bound_label(summary), theme.bound)
    low, high = _range([bound.value, np.nanmin(cosine), np.nanmax(cosine)])
    marks = _legible([bound, *_levels(summary, theme)], low, high)
    top = max(high, *(mark.value for mark in marks))
    last = cosine[np.isfinite(cosine)][-1]
    axes.set_ylim(low - 0.16 * (high - low), top + (0.06 if top == high else 0.16) * (high - low))
    axes.plot(step, cosine, color=theme.after, linewidth=1.7)
    for mark in marks:
        _draw_level(axes, mark, is_above=mark.value > last)
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


def _levels(summary: Mapping[str, Any], theme: Theme) -> list[_Mark]:
    """Return what the largest cosine is compared with besides the bound, the most useful first."""
    found = _threshold(summary, theme)
    known = summary.get("best_known")
    if known is not None and is_free(summary):
        found.append(_Mark(known, f"best construction {number(known)}", theme.bound))
    record = summary.get("record")
    if record is not None and is_free(summary):
        found.append(_Mark(record, f"record {number(record)}", theme.bound))
    random = summary.get("random_max_cosine")
    if random is not None:
        found.append(_Mark(random, f"random points {number(random)}", theme.muted, DOTTED))
    return found


def _threshold(summary: Mapping[str, Any], theme: Theme) -> list[_Mark]:
    value = summary.get("threshold")
    label = f"threshold {number(value)}" if value is not None else ""
    return [] if value is None else [_Mark(value, label, theme.warning, DOTTED)]


def _legible(marks: Sequence[_Mark], low: float, high: float) -> list[_Mark]:
    """Keep the marks that are in reach of the axis, and far enough above and below the ones kept."""
    room = _LABEL_SHARE * (high - low)
    kept: list[_Mark] = []
    for mark in marks:
        is_near = low <= mark.value <= high + _MOST_STRETCH * (high - low)
        if is_near and all(abs(mark.value - other.value) > room for other in kept):
            kept.append(mark)
    return kept


def _histograms(
    parts: tuple[np.ndarray, np.ndarray],
    label: str,
    marks: Sequence[_Mark],
    summary: Mapping[str, Any],
    theme: Theme,
    size: tuple[float, float],
) -> Figure:
    """Draw start and result in panels with a common axis; a good packing piles up in a bin or two."""
    ends = [f(values) for values in parts for f in (np.min, np.max)]
    low, high = _range([*ends, *(mark.value for mark in marks)])
    low, high = low - 0.02 * (high - low), high + 0.02 * (high - low)
    bins = np.linspace(low, high, _NUM_BINS + 1)
    rows = [(parts[0], "Start", theme.before), (parts[1], "Result", theme.after)]
    if np.array_equal(*parts):
        rows = [(parts[1], "Result, the same as the start", theme.after)]
    figure, axes = stacked_panels(theme, size, [1] * len(rows))
    for panel, (values, title, color) in zip(axes, rows, strict=True):
        panel.hist(values, bins=bins.tolist(), color=color, histtype="stepfilled")
        for mark in marks:
            panel.axvline(mark.value, color=mark.color, linewidth=1.2, linestyle=mark.dashes)
        style_axes(panel, theme)
        set_title(panel, title + _of_all(values, summary), theme)
        count_axis(panel, most_ticks=3)
    for row, mark in enumerate(marks):
        _label_above(axes[0], mark, (mark.value - low) / (high - low), row)
    axes[-1].set_xlim(low, high)
    axes[-1].xaxis.get_major_locator().set_params(nbins=int(1.4 * size[0]))
    label_axes(axes[-1], label, "", theme)
    figure.supylabel("identities", color=theme.muted, fontsize=TEXT)
    return figure


def _of_all(values: np.ndarray, summary: Mapping[str, Any]) -> str:
    """Say how many of the identities a panel shows, if it does not show all."""
    count = summary.get("num_ids", values.size)
    return "" if values.size >= count else f", {number(values.size)} of {number(count)} identities"


def _range(values: Sequence[float], least: float = 2e-2) -> tuple[float, float]:
    """Return the range of cosines, widened if they are nearly equal."""
    low, high = float(min(values)), float(max(values))
    spare = max(0.0, least - (high - low)) / 2
    return low - spare, high + spare


def _label_above(axes: Axes, mark: _Mark, place: float, row: int) -> None:
    """Write the name of a vertical line above the panel; each name has a row, so none collide."""
    side = "left" if place < 0.5 else "right"
    axes.annotate(
        mark.label,
        (mark.value, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-2 if side == "left" else 2, 20 + 13 * row),
        textcoords="offset points",
        ha=side,
        color=mark.color,
        fontsize=TEXT,
        parse_math=False,
    )


def _bound_label(summary: Mapping[str, Any]) -> str:
    return f"{one_line(summary['lower_bound_name'])} bound {number(summary['lower_bound'])}"
