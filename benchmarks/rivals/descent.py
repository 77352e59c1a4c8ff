"""The loop of every first-order rival: gradient, Adam step, back to the sphere, while budget lasts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import geoopt
import numpy as np
import torch
from torch import Tensor

from benchmarks.rivals.core import Budget, Gallery, Recorder, Trace, learning_rate
from benchmarks.rivals.pull import GALLERY_EVERY, GalleryPull
from benchmarks.rivals.sweeps import Panels, max_cosine, triangle_flops


class Evaluation(NamedTuple):
    """A gradient at some points, with what the method knows of them.

    Attributes:
        gradient: Of the objective, times ``scale``.
        objective: The exact figure by which iterates are chosen, see :class:`Trace`, if known.
        flops: Of the matrix products.
        scale: Adam does not see it, a gallery term beside it does; None where none is foreseen.
    """

    gradient: Tensor
    objective: float | None
    flops: float
    scale: float | None = None


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
    points = geoopt.ManifoldParameter(start.clone(), manifold=geoopt.Sphere())  # pyright: ignore
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
    budget: Budget,
    seed: int,
    source: str,
    gallery: Gallery | None = None,
    batch: int | None = None,
    device: str = "cpu",
) -> Trace:
    """Minimize an objective from ``x0`` until the budget is spent.

    Args:
        x0: Unit rows ``[n, d]``, float32.
        make_objective: Builds the objective; called twice, the first time for the warm-up.
        optimizer: Makes the iterate and its step.
        lr: Peak step size.
        schedule: See :func:`~benchmarks.rivals.core.learning_rate`.
        budget: What may be spent.
        seed: Of the batches and of whatever the objective draws.
        source: Passed on to the trace.
        gallery: Its term is added to the objective; not for batches.
        batch: Number of random rows that a gradient looks at; all when None.
        device: Where torch computes.
    """
    start = torch.from_numpy(np.ascontiguousarray(x0, dtype=np.float32)).to(device)
    if batch is not None and batch >= len(start):
        batch = None
    if batch is not None and gallery is not None:
        raise ValueError("a gallery needs an objective of all pairs: give no batch")
    panels = Panels()

    def make() -> Objective:
        return make_objective() if gallery is None else near_gallery(make_objective(), gallery)

    _warm_up(start[:256], make, optimizer, panels)
    torch.manual_seed(seed)
    points, step = optimizer(start)
    objective = make()
    recorder = Recorder(start, budget)
    while True:
        lr_now = learning_rate(lr, schedule, recorder.progress)
        value = _evaluate(objective, points, batch)
        recorder.flops += value.flops
        if value.objective is not None:
            recorder.observe(points, value.objective)
        elif recorder.evaluation_due():
            _evaluate_exactly(recorder, points, panels)
        step(value.gradient, lr_now)
        if not recorder.has_room():
            break
    if value.objective is None:
        _evaluate_exactly(recorder, points, panels)
    return recorder.trace(source)


def near_gallery(objective: Objective, gallery: Gallery) -> Objective:
    """Add ``alpha mean(1 - cosine to the nearest gallery row)`` to an objective.

    Raises:
        ValueError: The objective does not say its exact max cosine and its scale.
    """
    pull = GalleryPull(gallery)
    steps = itertools.count()

    def regularized(x: Tensor) -> Evaluation:
        value = objective(x)
        if value.objective is None or value.scale is None:
            raise ValueError("a gallery needs an objective of all pairs with a known scale")
        flops = pull.search(x) if next(steps) % GALLERY_EVERY == 0 else 0.0
        term, gradient = pull.at(x)
        return Evaluation(
            value.gradient + value.scale * gradient, value.objective + term, value.flops + flops
        )

    return regularized


def _warm_up(
    start: Tensor, make_objective: Callable[[], Objective], optimizer: Optimizer, panels: Panels
) -> None:
    points, step = optimizer(start)
    objective = make_objective()
    # Three rounds, since torch's script compiler specializes on the second.
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
    recorder.evaluate(points, lambda x: max_cosine(x, panels), triangle_flops(points))
