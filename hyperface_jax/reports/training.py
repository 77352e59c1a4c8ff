"""The curves of a training run, and its report: a self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.io.files import plain_json, read_json, read_jsonl
from hyperface_jax.io.run_directory import CONFIG, HISTORY
from hyperface_jax.reports.page import both_sizes, told, write_page
from hyperface_jax.reports.style import (
    LIGHT,
    WIDE,
    Theme,
    draw_curves,
    label_axes,
    legend,
    plain_text,
    stacked_panels,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

FIGURE = "training.png"
_ACCURACY = "accuracy/"


def training_plot(
    history: Sequence[Mapping[str, Any]],
    *,
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw loss, learning rate and the accuracy on held-out pairs against the epoch.

    Args:
        history: rows with ``epoch`` and any of ``loss``, ``learning_rate`` and ``accuracy/NAME``.
        theme: colors of the figure.
        size: width and height of a panel, in inches.

    Returns:
        A figure outside of matplotlib's global state.
    """
    names = sorted({name for row in history for name in row if name.startswith(_ACCURACY)})
    panels = [("Loss", ["loss"]), ("Learning rate", ["learning_rate"])]
    if names:
        panels.append(("Verification accuracy on held-out pairs", names))
    height = 0.7 * size[1] * len(panels)
    figure, axes = stacked_panels(theme, (size[0], height), [1] * len(panels))
    for panel, (title, columns) in zip(axes, panels, strict=True):
        draw_curves(panel, title, [_curve(history, column) for column in columns], theme)
    label_axes(axes[-1], "epoch", "", theme)
    legend(figure, theme)
    return figure


def _curve(history: Sequence[Mapping[str, Any]], column: str) -> tuple[str | None, Any, Any]:
    """Return the label of a column of the history, and its epochs and values."""
    rows = [(row["epoch"], row[column]) for row in history if row.get(column) is not None]
    epoch, values = np.array(rows, float).reshape(-1, 2).T
    is_set = column.startswith(_ACCURACY)
    return plain_text(column.removeprefix(_ACCURACY)) if is_set else None, epoch, values


def write_training_report(run_dir: Path, summary: Mapping[str, Any]) -> Path:
    """Draw the history of a run into ``training.png`` and a ``report.html`` page.

    Args:
        run_dir: run directory with config.json and history.jsonl.
        summary: the contents of summary.json, as ``hyperface train`` writes it.

    Returns:
        The path of the page.

    Raises:
        InputError: a file cannot be read or written, or a library of the ``cli`` extra is not installed.
    """
    history, config = read_jsonl(run_dir / HISTORY), read_json(run_dir / CONFIG)
    training_plot(history).savefig(run_dir / FIGURE, dpi=150)
    figures = both_sizes({"curves": lambda size: training_plot(history, size=size)})
    return write_page(
        run_dir,
        "train.html.j2",
        s=plain_json(summary),
        **told(config),
        figures=figures,
        run_name=run_dir.resolve().name,
    )
