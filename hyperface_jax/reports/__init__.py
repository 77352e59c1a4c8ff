"""Results to figures and one HTML page. Nothing here computes a result."""

from hyperface_jax.reports.pack import write_report
from hyperface_jax.reports.plots import (
    DARK,
    LIGHT,
    Theme,
    convergence_plot,
    gallery_histogram,
    nearest_histogram,
)

__all__ = [
    "DARK",
    "LIGHT",
    "Theme",
    "convergence_plot",
    "gallery_histogram",
    "nearest_histogram",
    "write_report",
]
