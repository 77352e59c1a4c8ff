"""The HyperFace paper's Algorithms 1 and 2, and the mean of row maxima, in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.rivals.core import Cost, Gallery, Rival, Settings, Trace
from benchmarks.rivals.descent import Evaluation, Objective, adam, descend
from benchmarks.rivals.sweeps import Panels, closest_pair, nearest, triangle_flops
from benchmarks.rivals.tuned import TUNED

PAPER = "our transcription of HyperFace Algorithm 1 (arXiv:2411.08470)"
PAPER_BATCHED = "our transcription of HyperFace Algorithm 2 (arXiv:2411.08470)"
ROW_MAX = "our implementation of the mean of row maxima"
CLOSEST_COST = Cost(1.0, 0.0, "each pair once for the closest one; its gradient is two rows")
NEAREST_COST = Cost(2.0, 0.0, "all pairs twice, for an arg max a row; the gradient gathers rows")


def closest_pair_objective() -> Objective:
    """Minus the cosine distance of the closest pair: the gradient has two non-zero rows."""
    panels = Panels()

    def objective(x: Tensor) -> Evaluation:
        i, j, cosine = closest_pair(x, panels)
        gradient = torch.zeros_like(x)
        gradient[i] = x[j] - cosine * x[i]
        gradient[j] = x[i] - cosine * x[j]
        return Evaluation(gradient, cosine, triangle_flops(x), scale=1.0)

    return objective


def nearest_objective(slope: Any) -> Objective:
    """Mean over rows of ``phi(cosine with the nearest row)``, n times its gradient.

    Args:
        slope: The derivative of ``phi``, on a tensor of cosines.
    """
    panels = Panels()

    def objective(x: Tensor) -> Evaluation:
        cosines, indices = nearest(x, panels)
        slopes = slope(cosines)[:, None]
        gradient = slopes * x[indices]
        gradient.index_add_(0, indices, slopes * x)
        flops = 2.0 * len(x) * x.numel()
        return Evaluation(gradient, float(cosines.max()), flops, scale=len(x))

    return objective


def run_paper(
    x0: np.ndarray,
    *,
    batch: int | None = None,
    gallery: Gallery | None = None,
    **settings: Any,
) -> Trace:
    """Run Algorithm 1, or Algorithm 2 when ``batch`` is given."""
    source = PAPER if batch is None else PAPER_BATCHED
    source += f", alpha = {gallery.alpha if gallery else 0:g}"
    return descend(
        x0, closest_pair_objective, adam, batch=batch, gallery=gallery, source=source, **settings
    )


def run_mean_row_max(x0: np.ndarray, **settings: Any) -> Trace:
    """Minimize the mean over rows of the largest cosine in the row."""
    return descend(x0, lambda: nearest_objective(torch.ones_like), adam, source=ROW_MAX, **settings)


def _grid(rates: tuple[float, ...], schedules: tuple[str, ...]) -> tuple[Settings, ...]:
    return tuple({"lr": lr, "schedule": schedule} for schedule in schedules for lr in rates)


RIVALS = {
    rival.name: rival
    for rival in (
        Rival(
            "paper_closest_pair",
            run_paper,
            grid=_grid((0.1, 0.01, 0.001), ("constant", "staircase")),
            tuned=TUNED["paper_closest_pair"],
            cost=CLOSEST_COST,
        ),
        Rival(
            "mean_row_max",
            run_mean_row_max,
            grid=_grid((0.03, 0.01, 0.003, 0.001), ("constant", "cosine")),
            tuned=TUNED["mean_row_max"],
            cost=NEAREST_COST,
        ),
    )
}
