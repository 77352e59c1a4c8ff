"""The loop of every first-order rival: gradient, Adam step, back to the sphere, until time is up."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import geoopt
import numpy as np
import torch
from torch import Tensor

from benchmarks.rivals.core import Recorder, Trace, learning_rate
from benchmarks.rivals.sweeps import Panels, max_cosine, triangle_flops


class Evaluation(NamedTuple):
    """A gradient at some points, with the exact max cosine of the points if the method knows it."""

    gradient: Tensor
    max_cosine: float | None
    flops: float


Objective = Callable[[Tensor], Evaluation]
Step = Callable[[Tensor, float], None]
Optimizer = Callable[[Tensor], tuple[Tensor, Step]]


def adam(start: Tensor) -> tuple[Tensor, Step]:
    """Plain Adam in the ambient space, rows renormalised after each step (HyperFace)."""
    points = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([points], fused=True)

    def step(gradient: Tensor, lr: float) -> None:
        points.grad = gradient
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        points.data /= torch.linalg.vector_norm(points.data, dim=1, keepdim=True)

    return points.data, step


def riemannian_adam(start: Tensor) -> tuple[Tensor, Step]:
    """Step with RiemannianAdam of geoopt on its Sphere, stabilised at every step (ledoh-torch)."""
    points = geoopt.ManifoldParameter(start.clone(), manifold=geoopt.Sphere())
    optimizer = geoopt.optim.RiemannianAdam([points], lr=0.0, stabilize=1)

    def step(gradient: Tensor, lr: float) -> None:
        points.grad = gradient
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()

    return points.data, step


def descend(
    x0: np.ndarray,
    make_objective: Callable[[], Objective],
    optimizer: Optimizer,
    *,
    lr: float,
    schedule: str,
    seconds: float,
    seed: int,
    source: str,
    batch: int | None = None,
    device: str = "cpu",
) -> Trace:
    """Minimise an objective from ``x0`` for ``seconds``.

    Args:
        x0: Unit rows ``[n, d]``, float32.
        make_objective: Builds the objective; called twice, the first time for the warm-up.
        optimizer: Makes the iterate and its step.
        lr: Peak step size.
        schedule: See :func:`~benchmarks.rivals.core.learning_rate`.
        seconds: Wall time.
        seed: Of the batches and of whatever the objective draws.
        source: Passed on to the trace.
        batch: Number of random rows that a gradient looks at; all when None.
        device: Where torch computes.
    """
    start = torch.from_numpy(np.ascontiguousarray(x0, dtype=np.float32)).to(device)
    if batch is not None and batch >= len(start):
        batch = None
    panels = Panels()
    _warm_up(start[:256], make_objective, optimizer, panels)

    torch.manual_seed(seed)
    recorder = Recorder(start, seconds)
    points, step = optimizer(start)
    objective = make_objective()
    while True:
        lr_now = learning_rate(lr, schedule, recorder.progress)
        value = _evaluate(objective, points, batch)
        recorder.flops += value.flops
        if value.max_cosine is not None:
            recorder.observe(points, value.max_cosine)
        elif recorder.evaluation_due():
            _evaluate_exactly(recorder, points, panels)
        step(value.gradient, lr_now)
        if not recorder.has_time():
            break
    if value.max_cosine is None:
        _evaluate_exactly(recorder, points, panels)
    return recorder.trace(source)


def _warm_up(
    start: Tensor, make_objective: Callable[[], Objective], optimizer: Optimizer, panels: Panels
) -> None:
    points, step = optimizer(start)
    objective = make_objective()
    # Three rounds, since torch's script compiler specialises on the second.
    for _ in range(3):
        step(objective(points).gradient, 1e-3)
    max_cosine(points, panels)


def _evaluate(objective: Objective, points: Tensor, batch: int | None) -> Evaluation:
    if batch is None:
        return objective(points)
    rows = torch.randperm(len(points), device=points.device)[:batch]
    value = objective(points[rows])
    gradient = torch.zeros_like(points)
    gradient[rows] = value.gradient
    return Evaluation(gradient, None, value.flops)


def _evaluate_exactly(recorder: Recorder, points: Tensor, panels: Panels) -> None:
    recorder.flops += triangle_flops(points)
    recorder.evaluate(points, lambda x: max_cosine(x, panels))
