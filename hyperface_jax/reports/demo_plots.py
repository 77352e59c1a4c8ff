"""The figures of a closed loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.reports.style import (
    DOTTED,
    LIGHT,
    WIDE,
    Theme,
    count_axis,
    draw_dots,
    label_axes,
    legend,
    line_styles,
    new_plot,
    set_title,
    stacked_panels,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

Size = tuple[float, float]

_ARMS = ("packed", "paper", "real", "unpacked", "farthest-real")
_STEP = 0.16
"""Distance of the dots of two arms, of the distance of two verification sets."""


def looks(ways: Sequence[str], theme: Theme) -> dict[str, dict[str, Any]]:
    """Return the line style of each arm, which is the same in every figure."""
    known = {way: i for i, way in enumerate(_ARMS)}
    styles = line_styles(len(_ARMS) + len(ways), theme)
    return {way: styles[known.get(way, len(_ARMS) + i)] for i, way in enumerate(ways)}


def accuracy_plot(
    recognition: Mapping[str, Mapping[str, Any]], *, theme: Theme = LIGHT, size: Size = WIDE
) -> Figure:
    """Draw the accuracy of each arm on each verification set as a dot, the arms side by side.

    Args:
        recognition: for each arm, the ``accuracy`` of each set, and optionally ``accuracy_error`` with
            the standard error of each, which becomes an error bar.
        theme: colors of the figure.
        size: width and height, in inches.

    Returns:
        A figure outside of matplotlib's global state.
    """
    figure = new_plot(theme, size)
    axes = figure.subplots()
    names = list(next(iter(recognition.values()))["accuracy"])
    styles = looks(list(recognition), theme)
    for i, (way, found) in enumerate(recognition.items()):
        places = np.arange(len(names)) + _STEP * (i - (len(recognition) - 1) / 2)
        errors = found.get("accuracy_error")
        bars = None if errors is None else [100 * errors[name] for name in names]
        values = [100 * found["accuracy"][name] for name in names]
        draw_dots(axes, i, places, values, bars, styles[way]["color"], way)
    style_axes(axes, theme)
    labels = [name.replace("-", "-\n") if size[0] < WIDE[0] else name for name in names]
    axes.set_xticks(range(len(names)), labels)
    axes.set_xlim(-0.5, len(names) - 0.5)
    set_title(axes, "Verification accuracy on held-out persons, %", theme)
    legend(figure, theme)
    return figure


def loss_plot(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    theme: Theme = LIGHT,
    size: Size = WIDE,
) -> Figure:
    """Draw the training loss of each arm against the epoch."""
    figure = new_plot(theme, size)
    axes = figure.subplots()
    styles = looks(list(curves), theme)
    for way, (epochs, losses) in curves.items():
        axes.plot(epochs, losses, label=way, **styles[way])
    style_axes(axes, theme)
    set_title(axes, "Training loss", theme)
    label_axes(axes, "epoch", "", theme)
    legend(figure, theme)
    return figure


def spread_plot(
    synthesis: Mapping[str, Mapping[str, Any]], *, theme: Theme = LIGHT, size: Size = WIDE
) -> Figure:
    """Draw how near the nearest other identity is, for the embeddings and for the drawn faces."""
    figure = new_plot(theme, size)
    axes = figure.subplots()
    places = np.arange(len(synthesis))
    before = [row["nearest_before_mean"] for row in synthesis.values()]
    after = [row["nearest_after_mean"] for row in synthesis.values()]
    axes.bar(places - 0.2, before, 0.36, color=theme.before, label="embeddings")
    axes.bar(places + 0.2, after, 0.36, color=theme.after, label="drawn faces")
    style_axes(axes, theme)
    axes.set_xticks(places, list(synthesis))
    set_title(axes, "Mean cosine to the nearest other identity", theme)
    legend(figure, theme)
    return figure


def leakage_plot(
    without: ArrayLike,
    with_keep_out: ArrayLike,
    threshold: float,
    *,
    theme: Theme = LIGHT,
    size: Size = WIDE,
) -> Figure:
    """Draw how near identities come to real persons, without and with keep-out."""
    parts = (
        ("Without keep-out", without, theme.before),
        ("With keep-out", with_keep_out, theme.after),
    )
    values = [np.asarray(part) for _, part, _ in parts]
    figure, panels = stacked_panels(theme, size, [1] * len(parts))
    bins = np.linspace(min(v.min() for v in values), max(threshold, *(v.max() for v in values)), 40)
    for axes, (title, part, color) in zip(panels, parts, strict=True):
        axes.hist(np.asarray(part), bins=bins.tolist(), color=color, histtype="stepfilled")
        axes.axvline(
            threshold, color=theme.warning, linewidth=1.4, linestyle=DOTTED, label="threshold"
        )
        style_axes(axes, theme)
        set_title(axes, title, theme)
        count_axis(axes, most_ticks=3)
        x = "cosine to the nearest real person" if axes is panels[-1] else ""
        label_axes(axes, x, "identities", theme)
    legend(figure, theme)
    return figure
