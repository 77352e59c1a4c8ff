"""The report that compares several runs: a self-contained HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.io.files import plain_json
from hyperface_jax.reports.page import Draw, both_sizes, one_size, write_page
from hyperface_jax.reports.style import (
    DOTTED,
    LIGHT,
    SMALL,
    WIDE,
    Theme,
    draw_dots,
    label_axes,
    legend,
    line_styles,
    new_plot,
    number,
    plain_text,
    set_title,
    style_axes,
)
from hyperface_jax.reports.verification import roc_plot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Groups = Mapping[str, Mapping[str, Any]]

_ACCURACY = "accuracy/"
_COSINES = {
    "max_cosine": "Largest\ncosine",
    "mean_nearest_cosine": "Mean to the\nnearest other",
    "gallery_mean_cosine": "Mean to\nthe gallery",
}
_WIDTH = 0.6
"""Share of the distance of two groups of dots that the dots of one take."""


def dots_plot(
    groups: Groups,
    names: Mapping[str, str],
    title: str,
    *,
    scale: float = 1.0,
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw figures of several labels as dots side by side, with an error bar where there is an error.

    Args:
        groups: for each label, the ``mean`` and the ``error`` of each figure; an error may be null.
        names: what to write below each figure, by its name.
        title: title of the panel.
        scale: what the figures are multiplied with, such as 100 for a percentage.
        theme: colors of the figure.
        size: width and height, in inches.

    Returns:
        A figure outside of matplotlib's global state.
    """
    figure = new_plot(theme, size)
    axes = figure.subplots()
    _draw_dots(axes, groups, list(names), scale, theme)
    is_narrow = size[0] < WIDE[0]
    axes.set_xticks(range(len(names)), [_broken(name, is_narrow) for name in names.values()])
    set_title(axes, title, theme)
    legend(figure, theme)
    return figure


def _draw_dots(
    axes: Axes, groups: Groups, names: Sequence[str], scale: float, theme: Theme
) -> None:
    styles = line_styles(len(groups), theme)
    for i, ((label, group), style) in enumerate(zip(groups.items(), styles, strict=True)):
        means = [scale * group["mean"][name] for name in names]
        errors = [scale * (group["error"][name] or 0.0) for name in names]
        places = np.arange(len(names)) + _WIDTH * ((i + 0.5) / len(groups) - 0.5)
        name = f"{plain_text(label)} ({group['num_runs']})"
        draw_dots(axes, i, places, means, errors if any(errors) else None, style["color"], name)
    style_axes(axes, theme)
    axes.set_xlim(-0.5, len(names) - 0.5)


def panels_plot(
    groups: Groups,
    names: Mapping[str, str],
    *,
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw figures of several labels as dots, each figure in a panel with an axis of its own.

    Args:
        groups: as for :func:`dots_plot`.
        names: title of the panel of each figure, by its name.
        theme: colors of the figure.
        size: width and height, in inches.

    Returns:
        A figure outside of matplotlib's global state.
    """
    figure = new_plot(theme, size)
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, (name, title) in zip(panels, names.items(), strict=True):
        _draw_dots(axes, groups, [name], 1.0, theme)
        axes.set_xticks([])
        axes.yaxis.get_major_locator().set_params(nbins=6)
        set_title(axes, title, theme)
    legend(figure, theme)
    return figure


def _broken(name: str, is_narrow: bool) -> str:
    text = plain_text(name)
    return text.replace(" ", "\n").replace("_", "_\n") if is_narrow else text


def nearest_plot(
    edges: Sequence[float],
    shares: Mapping[str, Sequence[float]],
    thresholds: Sequence[float] = (),
    *,
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw how near the nearest other identity is, an outline for each label.

    Args:
        edges: edges of the bins, ``[b + 1]``.
        shares: share of the identities in each bin, ``[b]``, by label.
        thresholds: cosines to mark, the verification thresholds of recognizers.
        theme: colors of the figure.
        size: width and height, in inches.

    Returns:
        A figure outside of matplotlib's global state.
    """
    figure = new_plot(theme, size)
    axes = figure.subplots()
    styles = line_styles(len(shares), theme)
    for (label, share), style in zip(shares.items(), styles, strict=True):
        axes.stairs(100 * np.asarray(share), edges, label=plain_text(label), **style)
    for value in thresholds:
        name = f"threshold {number(float(value))}"
        axes.axvline(value, color=theme.warning, linewidth=1.2, linestyle=DOTTED, label=name)
    style_axes(axes, theme)
    set_title(axes, "Share of the identities, %", theme)
    label_axes(axes, "cosine to the nearest other identity", "", theme)
    legend(figure, theme)
    return figure


def write_comparison_report(
    folder: Path, summary: Mapping[str, Any], drawn: Mapping[str, Any]
) -> Path:
    """Write the ``report.html`` page of a comparison.

    Args:
        folder: an existing folder for the page.
        summary: the contents of comparison.json, as ``hyperface compare`` writes it.
        drawn: of packings, the ``edges`` and ``shares`` of :func:`nearest_plot`; of evaluations, for
            each benchmark the results of each label, as for :func:`.roc_plot`.

    Returns:
        The path of the page.

    Raises:
        InputError: the page cannot be written, or a library of the ``cli`` extra is not installed.
    """
    summary = plain_json(summary)
    figures = _pack_figures(summary, drawn)
    curves = {}
    if summary["kind"] == "evaluate":
        figures = _accuracy_figures(summary)
        curves = one_size({f"roc-{i}": _roc(item) for i, item in enumerate(drawn.items())}, SMALL)
    return write_page(
        folder,
        "compare.html.j2",
        s=summary,
        figures={**both_sizes(figures), **curves},
        names=list(next(iter(summary["groups"].values()))["mean"]),
        benchmarks=list(drawn) if curves else [],
    )


def _pack_figures(summary: Mapping[str, Any], drawn: Mapping[str, Any]) -> dict[str, Draw]:
    if summary["kind"] != "pack":
        return {}
    groups = summary["groups"]
    names = {
        name: text
        for name, text in _COSINES.items()
        if all(group["mean"][name] is not None for group in groups.values())
    }
    marks = summary["thresholds"]
    return {
        "dots": lambda size: panels_plot(groups, names, size=size),
        "nearest": lambda size: nearest_plot(drawn["edges"], drawn["shares"], marks, size=size),
    }


def _accuracy_figures(summary: Mapping[str, Any]) -> dict[str, Draw]:
    groups = summary["groups"]
    found = next(iter(groups.values()))["mean"]
    names = {name: name.removeprefix(_ACCURACY) for name in found if name.startswith(_ACCURACY)}
    title = "Verification accuracy, %"
    return {"dots": lambda size: dots_plot(groups, names, title, scale=100, size=size)}


def _roc(item: tuple[str, Mapping[str, Any]]) -> Draw:
    return lambda size: roc_plot(item[1], title=item[0], size=size)
