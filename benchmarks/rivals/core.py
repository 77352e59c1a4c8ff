"""What every rival shares: the interface, the clock and the record of a run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

Settings = Mapping[str, Any]

EVALUATION_SHARE = 0.05
"""Largest part of the wall time spent on exact max cosines that a method does not need itself."""


class Budget(NamedTuple):
    """What a run may spend. Schedules span it, whichever of the two it limits."""

    seconds: float = math.inf
    flops: float = math.inf
    """Of matrix products, as each method counts its own."""


class Gallery(NamedTuple):
    """Unit rows ``[m, d]`` to stay near, and the weight of the mean cosine distance to them."""

    rows: np.ndarray
    alpha: float


class Cost(NamedTuple):
    """What one gradient of a method costs.

    Attributes:
        forward: FLOPs of the products that make the cosines, in units of n^2 d.
        backward: FLOPs of the products that turn weights of pairs into a gradient, likewise.
        reason: Where the two come from.
    """

    forward: float
    backward: float
    reason: str


class Trace(NamedTuple):
    """What one run did.

    Attributes:
        points: Best iterate by the exact objective, float32 ``[n, d]``.
        seconds: Wall time of each observation, without imports and warm-up.
        objective: Exact objective of the iterate observed at that time: its max cosine, and alpha
            times its mean distance to the gallery where there is one.
        flops: Matrix-product FLOPs spent until then (an estimate: elementwise work is not counted).
        source: Whose code ran, with its version.
    """

    points: np.ndarray
    seconds: list[float]
    objective: list[float]
    flops: list[float]
    source: str


@dataclass(frozen=True)
class Rival:
    """A solver and the settings worth trying.

    Attributes:
        name: Key in the tables.
        run: ``run(x0, *, budget, seed, gallery=None, device="cpu", **settings) -> Trace``, where
            ``x0`` is float32 ``[n, d]`` with unit rows.
        grid: All settings that were tried.
        tuned: The settings to run for each size class, see :func:`size_class`, and for "manifold".
        cost: Of one gradient, without the gallery; None where the products of pairs are not all.
    """

    name: str
    run: Callable[..., Trace]
    grid: tuple[Settings, ...]
    tuned: Mapping[str, tuple[Settings, ...]]
    cost: Cost | None = None

    def settings(self, num_points: int) -> tuple[Settings, ...]:
        """Return the tuned settings for this many points, or the whole grid if there are none."""
        return self.tuned.get(size_class(num_points), self.grid)


def size_class(num_points: int) -> str:
    """Return the class ("small", "medium", "large") whose tuned settings fit ``num_points``."""
    if num_points <= 1000:
        return "small"
    return "medium" if num_points <= 5000 else "large"


def learning_rate(peak: float, schedule: str, progress: float) -> float:
    """Return the step size at ``progress``, the spent fraction of the budget.

    "staircase" is the HyperFace schedule (x0.75 every 5,000 of 100,000 iterations) with the
    budget in place of the iteration count.
    """
    if schedule == "constant":
        return peak
    if schedule == "staircase":
        return peak * 0.75 ** math.floor(20 * progress)
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    raise ValueError(f"unknown schedule {schedule!r}")


class Recorder:
    """The clock, the FLOP counter and the best iterate of one run.

    Args:
        start: The first iterate, for the shape and device of the copy of the best one.
        budget: Of the run, counted from here.
    """

    def __init__(self, start: torch.Tensor, budget: Budget) -> None:
        self.flops = 0.0
        self._budget = budget
        self._best = start.clone()
        self._best_objective = math.inf
        self._rows: list[tuple[float, float, float]] = []
        self._evaluation = (0.0, 0.0)
        self._next_evaluation = 0.0
        self._checked = (0.0, 0.0)
        self._rounds = ((0.0, 0.0), (0.0, 0.0))
        self._started = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started

    @property
    def progress(self) -> float:
        """Spent fraction of the budget."""
        return max(self.elapsed / self._budget.seconds, self.flops / self._budget.flops)

    def has_room(self) -> bool:
        """Say whether one more round of the loop fits, judging by the shorter of the last two."""
        now = self.elapsed, self.flops
        last = now[0] - self._checked[0], now[1] - self._checked[1]
        self._checked, self._rounds = now, (self._rounds[1], last)
        spent = zip(now, *self._rounds, self._evaluation, self._budget, strict=True)
        return all(
            used + min(before, latest) + evaluation <= limit
            for used, before, latest, evaluation, limit in spent
        )

    def observe(self, points: torch.Tensor, objective: float) -> None:
        """Record the exact objective of ``points`` and keep them if they are the best so far.

        A method that diverged to NaN keeps what it had, and what took more FLOPs than allowed does
        not count.
        """
        if not math.isfinite(objective) or self.flops > self._budget.flops:
            return
        self._rows.append((self.elapsed, objective, self.flops))
        if objective < self._best_objective:
            self._best_objective = objective
            self._best.copy_(points)

    def evaluation_due(self) -> bool:
        """Say whether an evaluation now stays within :data:`EVALUATION_SHARE`."""
        return self.elapsed >= self._next_evaluation

    def evaluate(
        self, points: torch.Tensor, objective: Callable[[torch.Tensor], float], flops: float
    ) -> None:
        """Observe ``points`` at the price of a sweep, which delays the next evaluation."""
        begin = self.elapsed
        self.flops += flops
        self.observe(points, objective(points))
        end = self.elapsed
        self._evaluation = end - begin, flops
        self._next_evaluation = end + (end - begin) * (1 / EVALUATION_SHARE - 1)

    def trace(self, source: str) -> Trace:
        """Close the record."""
        seconds, objective, flops = (list(column) for column in zip(*self._rows, strict=True))
        points = self._best.to("cpu").numpy().astype(np.float32)
        return Trace(points, seconds, objective, flops, source)
