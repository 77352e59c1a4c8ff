"""The report on a frontier, what each alpha costs and gives: a self-contained HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.io.files import plain_json, read_json
from hyperface_jax.io.run_directory import CONFIG
from hyperface_jax.reports.page import both_sizes, told, write_page
from hyperface_jax.reports.style import (
    DASHED,
    DOTTED,
    LIGHT,
    TICKS,
    WIDE,
    Theme,
    draw_curves,
    label_axes,
    legend,
    number,
    stacked_panels,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = {
    "max_cosine": "Largest cosine of two identities",
    "mean_nearest_cosine": "Mean cosine to the nearest other identity",
}


def frontier_plot(
    summary: Mapping[str, Any], *, theme: Theme = LIGHT, size: tuple[float, float] = WIDE
) -> Figure:
    """Draw separation against the angle to the gallery, with the value of alpha at each packing.

    The angle is the one whose cosine is the mean nearness; it falls from left to right. A ring marks the
    recommended packing, and a vertical line how near a packing must be to be recommended. A verification
    threshold is drawn where the packings come near it.

    Args:
        summary: ``points`` with ``alpha``, ``neighbors``, ``nearness``, ``max_cosine`` and
            ``mean_nearest_cosine``; ``recommended`` with ``chosen``; ``needed_nearness``,
            ``neighbors`` and ``threshold``.
        theme: colors of the figure.
        size: width and height of a panel, in inches.

    Returns:
        A figure outside of matplotlib's global state.
    """
    height = 0.85 * size[1] * len(_PANELS)
    figure, axes = stacked_panels(theme, (size[0], height), [1] * len(_PANELS))
    points = summary["points"]
    for panel, (name, title) in zip(axes, _PANELS.items(), strict=True):
        draw_curves(panel, title, _curves(points, name), theme)
        _mark(panel, summary, name, theme)
        _name_alphas(panel, points, name, theme)
        panel.margins(0.07, 0.14)
    axes[-1].invert_xaxis()
    axes[-1].xaxis.set_major_formatter("{x:g}°")
    label_axes(axes[-1], f"angle to {manifold_in_words(summary['neighbors'])}", "", theme)
    legend(figure, theme)
    return figure


def manifold_in_words(neighbors: int) -> str:
    """Return what the distance to the gallery is measured to."""
    if neighbors == 1:
        return "the nearest gallery row"
    return f"the span of the nearest {neighbors} gallery rows"


def _angle(cosine: float) -> float:
    """Return an angle in degrees."""
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _curves(points: Sequence[Mapping[str, Any]], name: str) -> list[tuple[str, Any, Any]]:
    curves = []
    for count in sorted({point["neighbors"] for point in points}):
        chosen = [point for point in points if point["neighbors"] == count]
        label = f"packed near {manifold_in_words(count)}"
        angles = [_angle(p["nearness"]) for p in chosen]
        curves.append((label, angles, [p[name] for p in chosen]))
    return curves


def _mark(axes: Axes, summary: Mapping[str, Any], name: str, theme: Theme) -> None:
    chosen = summary["points"][summary["recommended"]["chosen"]]
    axes.plot(
        [_angle(chosen["nearness"])],
        [chosen[name]],
        "o",
        markersize=13,
        markerfacecolor="none",
        markeredgecolor=theme.warning,
        markeredgewidth=1.6,
        label="recommended",
    )
    limit = _angle(summary["needed_nearness"])
    label = f"near enough up to {limit:.1f}°"
    axes.axvline(limit, color=theme.bound, linewidth=1.2, linestyle=DASHED, label=label)
    threshold, highest = summary["threshold"], max(point[name] for point in summary["points"])
    if threshold is not None and threshold <= 1.5 * highest:
        label = f"threshold {number(threshold)}"
        axes.axhline(threshold, color=theme.warning, linewidth=1.2, linestyle=DOTTED, label=label)


def _name_alphas(axes: Axes, points: Sequence[Mapping[str, Any]], name: str, theme: Theme) -> None:
    """Write alpha above the packings of the fewest neighbors, and below those of others."""
    fewest = min(point["neighbors"] for point in points)
    for point in points:
        is_above = point["neighbors"] == fewest
        axes.annotate(
            f"{point['alpha']:g}",
            (_angle(point["nearness"]), point[name]),
            xytext=(-6, 5) if is_above else (6, -5),
            textcoords="offset points",
            ha="right" if is_above else "left",
            va="bottom" if is_above else "top",
            color=theme.muted,
            fontsize=TICKS,
        )


def write_frontier_report(run_dir: Path, summary: Mapping[str, Any]) -> Path:
    """Write the ``report.html`` page of a frontier.

    Args:
        run_dir: run directory with config.json.
        summary: the contents of summary.json, as ``hyperface frontier`` writes it.

    Returns:
        The path of the page.

    Raises:
        InputError: a file cannot be read or written, or a library of the ``cli`` extra is not installed.
    """
    summary = plain_json(summary)
    draw = {"frontier": lambda size: frontier_plot(summary, size=size)}
    return write_page(
        run_dir,
        "frontier.html.j2",
        s=summary,
        chosen=summary["points"][summary["recommended"]["chosen"]],
        has_keep_out=summary["points"][0]["keep_out_violations"] is not None,
        manifold=manifold_in_words(summary["neighbors"]),
        figures=both_sizes(draw),
        **told(read_json(run_dir / CONFIG)),
    )
