"""The figures of a closed loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.reports.plots import LIGHT, WIDE, Theme, new_plot, set_title, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

Size = tuple[float, float]


def colors(theme: Theme) -> dict[str, str]:
    """Return the color of each arm."""
    return {
        "packed": theme.after,
        "paper": theme.bound,
        "unpacked": theme.before,
        "real": theme.ink,
    }


def accuracy_plot(
    recognition: Mapping[str, Mapping[str, Any]], *, theme: Theme = LIGHT, size: Size = WIDE
) -> Figure:
    """Draw the accuracy of each arm on each verification set as a dot."""
    figure = new_plot(theme, size)
    axes = figure.subplots()
    names = list(next(iter(recognition.values()))["accuracy"])
    for way, found in recognition.items():
        values = [100 * found["accuracy"][name] for name in names]
        axes.plot(range(len(names)), values, "o", color=colors(theme)[way], label=way, markersize=7)
    style_axes(axes, theme)
    labels = [name.replace("-", "-\n") if size[0] < WIDE[0] else name for name in names]
    axes.set_xticks(range(len(names)), labels)
    set_title(axes, "Verification accuracy on held-out persons, %", theme)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=theme.ink, ncols=4, loc="lower left")
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.2 * (high - low), high)
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
    for way, (epochs, losses) in curves.items():
        axes.plot(epochs, losses, color=colors(theme)[way], linewidth=1.6, label=way)
    style_axes(axes, theme)
    set_title(axes, "Training loss", theme)
    axes.set_xlabel("epoch", color=theme.muted, fontsize=9)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=theme.ink)
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
    axes.set_ylim(min(0, *before, *after), 1.25 * max(*before, *after))
    set_title(axes, "Mean cosine to the nearest other identity", theme)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=theme.ink, ncols=2, loc="upper right")
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
        ("without keep-out", without, theme.before),
        ("with keep-out", with_keep_out, theme.after),
    )
    values = [np.asarray(part) for _, part, _ in parts]
    figure = new_plot(theme, size)
    panels = figure.subplots(2, 1, sharex=True)
    bins = np.linspace(min(v.min() for v in values), max(threshold, *(v.max() for v in values)), 40)
    for axes, (title, part, color) in zip(panels, parts, strict=True):
        axes.hist(np.asarray(part), bins=bins.tolist(), color=color, histtype="stepfilled")
        axes.axvline(threshold, color=theme.warning, linewidth=1.2, linestyle=(0, (4, 2.5)))
        style_axes(axes, theme)
        set_title(axes, title, theme)
    panels[1].set_xlabel("cosine to the nearest real person", color=theme.muted, fontsize=9)
    return figure
