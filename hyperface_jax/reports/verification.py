"""The figures of a verification: how well genuine and impostor scores separate, and error rates.

They are drawn from the summaries of results (see :meth:`.evaluation.Verification.summary`), so the JSON
file of an evaluation is enough to draw them again.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_write_bytes, one_line
from hyperface_jax.reports.plots import (
    LIGHT,
    WIDE,
    Theme,
    new_plot,
    number,
    set_title,
    style_axes,
)

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Results = Mapping[str, Mapping[str, Any]]

SQUARE = (4.6, 4.2)
"""Size of the figures of error rates, in inches."""

_DPI = 160
_DET_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95)
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))


def score_histogram(
    result: Mapping[str, Any], *, theme: Theme = LIGHT, size: tuple[float, float] = WIDE
) -> Figure:
    """Draw the distributions of the scores of genuine and of impostor pairs.

    Args:
        result: summary of a :class:`.evaluation.Separation` or :class:`.evaluation.Verification`.
        theme: colors of the figure.
        size: width and height, in inches.

    Returns:
        A figure outside of matplotlib's global state.

    Raises:
        InputError: matplotlib is not installed.
    """
    histogram = result["histogram"]
    edges = np.asarray(histogram["edges"], np.float64)
    figure = new_plot(theme, size)
    axes = figure.subplots()
    kinds = (("impostor", theme.bound), ("genuine", theme.after))
    for name, color in kinds:
        counts = np.asarray(histogram[name], np.float64)
        density = counts / (max(counts.sum(), 1) * np.diff(edges))
        label = f"{name}, {number(result[f'num_{name}'])} pairs"
        axes.stairs(density, edges, fill=True, color=color, alpha=0.45, label=label)
        axes.stairs(density, edges, color=color, linewidth=1.2)
    style_axes(axes, theme)
    set_title(axes, "Scores of genuine and impostor pairs", theme)
    _label_axes(axes, "score", "density", theme)
    _legend(axes, theme)
    axes.set_xlim(edges[0], edges[-1])
    return figure


def roc_plot(
    results: Results, *, theme: Theme = LIGHT, size: tuple[float, float] = SQUARE
) -> Figure:
    """Draw the true accept rate against the false accept rate, on a logarithmic axis.

    Args:
        results: summaries by the name of the benchmark.
        theme: colors of the figure.
        size: width and height, in inches.

    Returns:
        A figure outside of matplotlib's global state.

    Raises:
        InputError: there are no results, or matplotlib is not installed.
    """
    figure, axes = _rates_plot(results, theme, size)
    lowest = 1.0
    for (name, result), style in zip(results.items(), _styles(results, theme), strict=True):
        far, tar = (np.asarray(result["roc"][key], np.float64) for key in ("far", "tar"))
        shown = far > 0
        lowest = min(lowest, far[shown].min())
        axes.plot(far[shown], tar[shown], label=_plain_text(name), drawstyle="steps-post", **style)
    axes.set_xscale("log")
    axes.set_xlim(min(lowest, 0.5), 1)
    style_axes(axes, theme)
    set_title(axes, "Receiver operating characteristic", theme)
    _label_axes(axes, "false accept rate", "true accept rate", theme)
    _legend(axes, theme)
    return figure


def det_plot(
    results: Results, *, theme: Theme = LIGHT, size: tuple[float, float] = SQUARE
) -> Figure:
    """Draw the two error rates on normal-deviate axes.

    A result without errors has no finite point: its name appears only in the legend.

    Args:
        results: summaries by the name of the benchmark.
        theme: colors of the figure.
        size: width and height, in inches.

    Returns:
        A figure outside of matplotlib's global state.

    Raises:
        InputError: there are no results, or matplotlib is not installed.
    """
    figure, axes = _rates_plot(results, theme, size)
    for (name, result), style in zip(results.items(), _styles(results, theme), strict=True):
        axes.plot(result["det"]["far"], result["det"]["frr"], label=_plain_text(name), **style)
    style_axes(axes, theme)
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        rates = [rate for rate in _DET_TICKS if low <= ndtri(rate) <= high]
        axis.set_ticks(ndtri(rates), [f"{100 * rate:g} %" for rate in rates])
    set_title(axes, "Detection error trade-off", theme)
    _label_axes(axes, "false accept rate", "false reject rate", theme)
    _legend(axes, theme)
    return figure


def write_verification_report(folder: str | os.PathLike[str], results: Results) -> list[Path]:
    """Draw all figures of an evaluation as PNG files.

    Args:
        folder: an existing folder for the files.
        results: summaries by the name of the benchmark.

    Returns:
        The paths of the files: ``scores-NAME.png`` for each benchmark, ``roc.png`` and ``det.png``.

    Raises:
        InputError: there are no results, two names give the same file, a file cannot be written, or
            matplotlib is not installed.
    """
    names = {name: f"scores-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.png" for name in results}
    if len(set(names.values())) < len(names):
        raise InputError("results: two names give one file; make them differ in letters or digits")
    figures = {names[name]: score_histogram(result) for name, result in results.items()}
    figures |= {"roc.png": roc_plot(results), "det.png": det_plot(results)}
    return [_write_png(Path(folder) / name, figure) for name, figure in figures.items()]


def _rates_plot(results: Results, theme: Theme, size: tuple[float, float]) -> tuple[Figure, Axes]:
    if not results:
        raise InputError("results: none; evaluate a benchmark first")
    figure = new_plot(theme, size)
    return figure, figure.subplots()


def _styles(results: Results, theme: Theme) -> list[dict[str, Any]]:
    """Give every line a color, and another dash pattern once all colors are used."""
    colors = (theme.after, theme.bound, theme.ink, theme.warning, theme.before)
    return [
        {
            "color": colors[i % len(colors)],
            "linestyle": _DASHES[i // len(colors) % len(_DASHES)],
            "linewidth": 1.6,
        }
        for i in range(len(results))
    ]


def _plain_text(name: str) -> str:
    """Keep a name from being read as a formula or being left out of the legend."""
    return one_line(name).replace("$", r"\$").lstrip("_")


def _label_axes(axes: Axes, x: str, y: str, theme: Theme) -> None:
    axes.set_xlabel(x, color=theme.muted, fontsize=9)
    axes.set_ylabel(y, color=theme.muted, fontsize=9)


def _legend(axes: Axes, theme: Theme) -> None:
    axes.legend(loc="best", frameon=False, fontsize=8.5, labelcolor=theme.ink)


def _write_png(path: Path, figure: Figure) -> Path:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=_DPI)
    atomic_write_bytes(path, data.getvalue())
    return path
