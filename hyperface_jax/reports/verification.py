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
from hyperface_jax.io.files import atomic_write_bytes
from hyperface_jax.reports.style import (
    LIGHT,
    WIDE,
    Theme,
    label_axes,
    legend,
    line_styles,
    new_plot,
    number,
    plain_text,
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
_DET_TICKS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999)
_FEW_POINTS = 12
"""Number of points up to which a curve shows each of them."""
_NO_ERRORS = "no errors"


def score_histogram(
    result: Mapping[str, Any],
    *,
    title: str = "Scores of genuine and impostor pairs",
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw the distributions of the scores of genuine and of impostor pairs.

    Args:
        result: summary of a :class:`.evaluation.Separation` or :class:`.evaluation.Verification`.
        title: title of the panel.
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
    kinds = (("impostor", theme.second, "--"), ("genuine", theme.after, "-"))
    for name, color, dashes in kinds:
        counts = np.asarray(histogram[name], np.float64)
        density = counts / (max(counts.sum(), 1) * np.diff(edges))
        label = f"{name}, {number(result[f'num_{name}'])} pairs"
        axes.stairs(density, edges, fill=True, color=color, alpha=0.45, label=label)
        axes.stairs(density, edges, color=color, linewidth=1.2, linestyle=dashes)
    style_axes(axes, theme)
    set_title(axes, plain_text(title), theme)
    label_axes(axes, "score", "density", theme)
    legend(figure, theme)
    axes.set_xlim(edges[0], edges[-1])
    return figure


def roc_plot(
    results: Results,
    *,
    title: str = "Receiver operating characteristic",
    theme: Theme = LIGHT,
    size: tuple[float, float] = SQUARE,
) -> Figure:
    """Draw the true accept rate against the false accept rate, on a logarithmic axis.

    Args:
        results: summaries by the name of the benchmark.
        title: title of the panel.
        theme: colors of the figure.
        size: width and height, in inches.

    Returns:
        A figure outside of matplotlib's global state.

    Raises:
        InputError: there are no results, or matplotlib is not installed.
    """
    figure, axes = _rates_plot(results, theme, size)
    styles, lowest = line_styles(len(results), theme), 1.0
    for (name, result), style in zip(results.items(), styles, strict=True):
        far, tar = (np.asarray(result["roc"][key], np.float64) for key in ("far", "tar"))
        shown = far > 0
        lowest = min(lowest, far[shown].min())
        axes.plot(far[shown], tar[shown], label=plain_text(name), drawstyle="steps-post", **style)
    axes.set_xscale("log")
    # From one power of ten to another, so that even a small set has two ticks.
    axes.set_xlim(min(10.0 ** np.floor(np.log10(lowest)), 0.1), 1)
    style_axes(axes, theme)
    set_title(axes, plain_text(title), theme)
    label_axes(axes, "false accept rate", "true accept rate", theme)
    legend(figure, theme)
    return figure


def det_plot(
    results: Results, *, theme: Theme = LIGHT, size: tuple[float, float] = SQUARE
) -> Figure:
    """Draw the two error rates on normal-deviate axes.

    A result without errors has no finite point: a mark stands at the smallest rates that its number of
    pairs could show, and the legend says so.

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
    styles = line_styles(len(results), theme)
    for (name, result), style in zip(results.items(), styles, strict=True):
        _draw_errors(axes, name, result, style)
    style_axes(axes, theme)
    for axis, ends, set_ends in (
        (axes.xaxis, axes.get_xlim(), axes.set_xlim),
        (axes.yaxis, axes.get_ylim(), axes.set_ylim),
    ):
        rates = _ticks_around(*ends)
        axis.set_ticks(ndtri(rates), [f"{100 * rate:g} %" for rate in rates])
        set_ends(min(ends[0], ndtri(rates[0])), max(ends[1], ndtri(rates[-1])))
    set_title(axes, "Detection error trade-off", theme)
    label_axes(axes, "false accept rate", "false reject rate", theme)
    legend(figure, theme)
    return figure


def _draw_errors(
    axes: Axes, name: str, result: Mapping[str, Any], style: Mapping[str, Any]
) -> None:
    far, frr = result["det"]["far"], result["det"]["frr"]
    label = plain_text(name)
    if not len(far):
        label = f"{label}: {_NO_ERRORS}"
        # A rate of one pair among two is at 0, and one among one nowhere.
        far, frr = ([ndtri(1 / max(result[f"num_{kind}"], 2))] for kind in ("impostor", "genuine"))
    mark = "o" if len(far) <= _FEW_POINTS else None
    axes.plot(far, frr, label=label, marker=mark, markersize=4, clip_on=False, **style)


def _ticks_around(low: float, high: float) -> list[float]:
    """Return the rates of the ticks from the last one below an axis to the first one above it."""
    places = ndtri(_DET_TICKS)
    first = max(int(np.searchsorted(places, low, side="right")) - 1, 0)
    last = min(int(np.searchsorted(places, high)), len(places) - 1)
    return list(_DET_TICKS[min(first, last - 1) : last + 1])


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


def _write_png(path: Path, figure: Figure) -> Path:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=_DPI)
    atomic_write_bytes(path, data.getvalue())
    return path
