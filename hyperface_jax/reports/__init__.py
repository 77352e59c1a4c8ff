"""Results to figures and one HTML page. Nothing here computes a result."""

from hyperface_jax.reports.figures import (
    DARK,
    LIGHT,
    Theme,
    convergence_figure,
    gallery_histogram,
    nearest_histogram,
)
from hyperface_jax.reports.pack import write_report

__all__ = [
    "DARK",
    "LIGHT",
    "Theme",
    "convergence_figure",
    "gallery_histogram",
    "nearest_histogram",
    "write_report",
]
