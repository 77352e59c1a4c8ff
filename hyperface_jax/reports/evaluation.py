"""The report on the verification benchmarks of a recognizer: a self-contained HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperface_jax.io.files import plain_json
from hyperface_jax.reports.page import one_size, write_page
from hyperface_jax.reports.style import SMALL
from hyperface_jax.reports.verification import det_plot, roc_plot, score_histogram

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hyperface_jax.reports.page import Draw


def write_evaluation_report(folder: Path, summary: Mapping[str, Any]) -> Path:
    """Write the ``report.html`` page of a recognizer.

    Args:
        folder: an existing folder for the page.
        summary: the contents of evaluation.json, as ``hyperface evaluate`` writes it.

    Returns:
        The path of the page.

    Raises:
        InputError: the page cannot be written, or a library of the ``cli`` extra is not installed.
    """
    summary = plain_json(summary)
    results = summary["benchmarks"]
    draw: dict[str, Draw] = {
        "roc": lambda size: roc_plot(results, size=size),
        "det": lambda size: det_plot(results, size=size),
    }
    draw |= {f"scores-{i}": _scores(name, row) for i, (name, row) in enumerate(results.items())}
    return write_page(
        folder,
        "evaluate.html.j2",
        s=summary,
        fars=_rates_told(results),
        figures=one_size(draw, SMALL),
    )


def _scores(name: str, result: Mapping[str, Any]) -> Draw:
    return lambda size: score_histogram(result, title=name, size=size)


def _rates_told(results: Mapping[str, Any]) -> list[str]:
    """Return the false accept rates for which any benchmark has enough impostor pairs."""
    told = (
        far for row in results.values() for far, tar in row["tar_at_far"].items() if tar is not None
    )
    return list(dict.fromkeys(told))
