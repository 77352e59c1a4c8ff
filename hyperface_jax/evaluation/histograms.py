"""Bins for the cosines and scores of reports."""

from __future__ import annotations

import numpy as np

_LEAST_SPREAD = 1e-5
"""Smallest range relative to the largest value, so that float32 can tell the bins apart."""


def bin_edges(values: np.ndarray, num_bins: int) -> np.ndarray:
    """Return the edges of equal bins over all values, with a wider range if these are nearly equal.

    Args:
        values: finite numbers, at least one.
        num_bins: number of bins.

    Returns:
        Increasing edges, float64 ``[num_bins + 1]``.

    Examples:
        >>> bin_edges(np.array([0.0, 1.0]), 2).tolist()
        [0.0, 0.5, 1.0]
        >>> bin_edges(np.array([1.0, 1.0 + 1e-15]), 2).round(6).tolist()
        [0.999995, 1.0, 1.000005]
    """
    low, high = float(np.min(values)), float(np.max(values))
    least = _LEAST_SPREAD * (max(abs(low), abs(high)) or 1.0)
    spare = max(0.0, least - (high - low)) / 2
    return np.linspace(low - spare, high + spare, num_bins + 1)
