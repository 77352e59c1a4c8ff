"""The report on the diversity of a data set: a self-contained HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperface_jax.reports.leakage import histogram_draw
from hyperface_jax.reports.page import both_sizes, write_page
from hyperface_jax.reports.verification import score_histogram

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hyperface_jax.reports.page import Draw

_TITLES = {
    "nearest_center": "Cosine of each center to the nearest other center",
    "gallery": "Cosine of each gallery row to the nearest center",
}


def write_diversity_report(folder: Path, summary: Mapping[str, Any]) -> Path:
    """Write the ``report.html`` page of a data set.

    Args:
        folder: an existing folder for the page.
        summary: the contents of summary.json, as ``hyperface diversity`` writes it.

    Returns:
        The path of the page.

    Raises:
        InputError: the page cannot be written, or a library of the ``cli`` extra is not installed.
    """
    draw: dict[str, Draw] = {"pairs": lambda size: score_histogram(summary["pairs"], size=size)}
    for key, title in _TITLES.items():
        if summary["diversity"][key] is not None:
            draw[key] = histogram_draw(summary["diversity"][key], title)
    return write_page(folder, "diversity.html.j2", s=summary, figures=both_sizes(draw))
