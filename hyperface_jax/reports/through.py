"""The report on a packing through a generator: a self-contained HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperface_jax.io.files import plain_json, read_json
from hyperface_jax.io.run_directory import CONFIG
from hyperface_jax.reports.page import both_sizes, told, write_page
from hyperface_jax.reports.style import (
    LIGHT,
    WIDE,
    Theme,
    draw_curves,
    label_axes,
    legend,
    stacked_panels,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

_PANELS = {
    "Mean cosine to the nearest other identity": {
        "nearest_faces": "faces drawn in the round",
        "nearest_conditions": "their embeddings",
    },
    "Faces of an identity": {
        "target_cosine": "cosine of their mean to the embedding",
        "within_cosine": "agreement: length of their mean",
    },
}


def rounds_plot(
    rounds: Sequence[Mapping[str, Any]],
    *,
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw the figures of each round: separation, fidelity and agreement.

    Args:
        rounds: rows with ``round``, ``nearest_faces``, ``nearest_conditions``, ``target_cosine`` and
            ``within_cosine``.
        theme: colors of the figure.
        size: width and height of a panel, in inches.

    Returns:
        A figure outside of matplotlib's global state.
    """
    height = 0.8 * size[1] * len(_PANELS)
    figure, axes = stacked_panels(theme, (size[0], height), [1] * len(_PANELS))
    numbers = [row["round"] for row in rounds]
    for i, (panel, (title, columns)) in enumerate(zip(axes, _PANELS.items(), strict=True)):
        curves = [
            (label, numbers, [row[name] for row in rounds]) for name, label in columns.items()
        ]
        draw_curves(panel, title, curves, theme, first=i * len(columns))
        panel.set_xticks(numbers)
    label_axes(axes[-1], "round; 0 is the packing without the generator", "", theme)
    legend(figure, theme)
    return figure


def write_through_report(run_dir: Path, summary: Mapping[str, Any]) -> Path:
    """Write the ``report.html`` page of a packing through a generator.

    Args:
        run_dir: run directory with config.json.
        summary: the contents of summary.json.

    Returns:
        The path of the page.

    Raises:
        InputError: a file cannot be read or written, or a library of the ``cli`` extra is not installed.
    """
    config = read_json(run_dir / CONFIG)
    return write_page(
        run_dir,
        "through.html.j2",
        s=plain_json(summary),
        **told(config),
        figures=both_sizes({"rounds": lambda size: rounds_plot(summary["rounds"], size=size)}),
        run_name=run_dir.resolve().name,
    )
