"""Figures and self-contained HTML pages that show results. Nothing here computes a result.

This folder may import the layers below it, up to :mod:`hyperface_jax.toyfaces`. Within the package, only
:mod:`hyperface_jax.runs` and :mod:`hyperface_jax.cli` may import it.
"""

from hyperface_jax.reports.pack import write_report
from hyperface_jax.reports.plots import (
    convergence_plot,
    gallery_histogram,
    nearest_histogram,
)
from hyperface_jax.reports.style import DARK, LIGHT, Theme

__all__ = [
    "DARK",
    "LIGHT",
    "Theme",
    "convergence_plot",
    "gallery_histogram",
    "nearest_histogram",
    "write_report",
]
