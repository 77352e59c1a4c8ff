"""The report on a search for similar pairs: a self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.reports.page import both_sizes, data_uri, write_page
from hyperface_jax.reports.style import (
    DASHED,
    DOTTED,
    LIGHT,
    WIDE,
    Theme,
    count_axis,
    label_axes,
    legend,
    new_plot,
    number,
    set_title,
    style_axes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from hyperface_jax.reports.page import Draw

_TITLES = {
    "nearest": "Cosine of each row to its nearest neighbor",
    "own_target": "Cosine of each row to its own target",
}


def cosine_histogram(
    found: Mapping[str, Any],
    title: str,
    *,
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw the histogram of the cosines of rows, one for each, and mark their mean and maximum.

    Args:
        found: a summary with ``histogram``, ``mean_cosine`` and ``max_cosine``.
        title: title of the panel.
        theme: colors of the figure.
        size: width and height, in inches.

    Returns:
        A figure outside of matplotlib's global state.

    Raises:
        InputError: matplotlib is not installed.
    """
    edges, counts = (np.asarray(found["histogram"][key]) for key in ("edges", "counts"))
    figure = new_plot(theme, size)
    axes = figure.subplots()
    axes.stairs(counts, edges, fill=True, color=theme.after)
    marks = (
        ("mean", found["mean_cosine"], theme.ink, DASHED),
        ("max", found["max_cosine"], theme.warning, DOTTED),
    )
    for name, value, color, dashes in marks:
        label = f"{name} {number(value)}"
        axes.axvline(value, color=color, linewidth=1.2, linestyle=dashes, label=label)
    style_axes(axes, theme)
    set_title(axes, title, theme)
    count_axis(axes)
    label_axes(axes, "cosine", "rows", theme)
    legend(figure, theme)
    return figure


def histogram_draw(found: Mapping[str, Any], title: str) -> Draw:
    """Return a function that draws :func:`cosine_histogram` at a given size."""
    return lambda size: cosine_histogram(found, title, size=size)


def _has_one_side(pairs: Sequence[Mapping[str, Any]]) -> bool:
    return not all({"row_image", "column_image"} <= pair.keys() for pair in pairs)


def write_leakage_report(
    folder: Path, summary: Mapping[str, Any], pictures: Sequence[bytes] = ()
) -> Path:
    """Write the ``report.html`` page of a search.

    Args:
        folder: an existing folder for the page.
        summary: the contents of summary.json, as ``hyperface leakage`` writes it.
        pictures: PNG files that show the images of each of the first pairs, side by side.

    Returns:
        The path of the page.

    Raises:
        InputError: the page cannot be written, or a library of the ``cli`` extra is not installed.
    """
    draw: dict[str, Draw] = {
        key: histogram_draw(summary[key], _TITLES[key])
        for key in ("nearest", "own_target")
        if summary[key] is not None
    }
    found = summary["nearest"]
    shown = [] if found is None else zip(found["pairs"], map(data_uri, pictures), strict=False)
    return write_page(
        folder,
        "leakage.html.j2",
        s=summary,
        figures=both_sizes(draw),
        pictures=list(shown),
        has_one_side=bool(pictures) and found is not None and _has_one_side(found["pairs"]),
    )
