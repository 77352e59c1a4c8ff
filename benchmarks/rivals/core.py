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


class Trace(NamedTuple):
    """What one run did.

    Attributes:
        points: Best iterate by the exact max cosine, float32 ``[n, d]``.
        seconds: Wall time of each observation, without imports and warm-up.
        max_cosine: Exact max cosine of the iterate observed at that time.
        flops: Matrix-product FLOPs spent until then (an estimate: elementwise work is not counted).
        source: Whose code ran, with its version.
    """

    points: np.ndarray
    seconds: list[float]
    max_cosine: list[float]
    flops: list[float]
    source: str


@dataclass(frozen=True)
class Rival:
    """A solver and the settings worth trying.

    Attributes:
        name: Key in the tables.
        run: ``run(x0, *, seconds, seed, device="cpu", **settings) -> Trace``, where ``x0`` is
            float32 ``[n, d]`` with unit rows.
        grid: All settings that were tried.
        tuned: Best one or two settings of each size class, see :func:`size_class`.
    """

    name: str
    run: Callable[..., Trace]
    grid: tuple[Settings, ...]
    tuned: Mapping[str, tuple[Settings, ...]]

    def settings(self, num_points: int) -> tuple[Settings, ...]:
        """Return the tuned settings for this many points, or the whole grid if there are none."""
        return self.tuned.get(size_class(num_points), self.grid)


def size_class(num_points: int) -> str:
    """Return the class ("small", "medium", "large") whose tuned settings fit ``num_points``."""
    if num_points <= 1000:
        return "small"
    return "medium" if num_points <= 5000 else "large"


def learning_rate(peak: float, schedule: str, progress: float) -> float:
    """Return the step size at ``progress``, the spent fraction of the wall time.

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
    """The clock and the best iterate of one run.

    Args:
        start: The first iterate, for the shape and device of the copy of the best one.
        seconds: Wall time of the run, counted from here.
    """

    def __init__(self, start: torch.Tensor, seconds: float) -> None:
        self.flops = 0.0
        self._budget = seconds
        self._best = start.clone()
        self._best_max_cosine = math.inf
        self._rows: list[tuple[float, float, float]] = []
        self._evaluation_cost = 0.0
        self._next_evaluation = 0.0
        self._checked, self._round, self._previous_round = 0.0, 0.0, 0.0
        self._started = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started

    @property
    def progress(self) -> float:
        """Spent fraction of the wall time."""
        return self.elapsed / self._budget

    def has_time(self) -> bool:
        """Say whether one more round of the loop fits, judging by the shorter of the last two."""
        now = self.elapsed
        self._previous_round, self._round = self._round, now - self._checked
        self._checked = now
        reserve = min(self._round, self._previous_round) + self._evaluation_cost
        return now + reserve < self._budget

    def observe(self, points: torch.Tensor, max_cosine: float) -> None:
        """Record the exact max cosine of ``points`` and keep them if they are the best so far.

        A method that diverged to NaN keeps what it had.
        """
        if not math.isfinite(max_cosine):
            return
        self._rows.append((self.elapsed, max_cosine, self.flops))
        if max_cosine < self._best_max_cosine:
            self._best_max_cosine = max_cosine
            self._best.copy_(points)

    def evaluation_due(self) -> bool:
        """Say whether an evaluation now stays within :data:`EVALUATION_SHARE`."""
        return self.elapsed >= self._next_evaluation

    def evaluate(self, points: torch.Tensor, max_cosine: Callable[[torch.Tensor], float]) -> None:
        """Observe ``points`` at the price of a sweep, which delays the next evaluation."""
        begin = self.elapsed
        self.observe(points, max_cosine(points))
        end = self.elapsed
        self._evaluation_cost = end - begin
        self._next_evaluation = end + self._evaluation_cost * (1 / EVALUATION_SHARE - 1)

    def trace(self, source: str) -> Trace:
        """Close the record."""
        seconds, max_cosine, flops = (list(column) for column in zip(*self._rows, strict=True))
        points = self._best.to("cpu").numpy().astype(np.float32)
        return Trace(points, seconds, max_cosine, flops, source)
