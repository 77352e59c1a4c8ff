"""Our annealed solver under the rivals' rules: a number of steps that fits the budget."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from benchmarks.rivals.core import Budget, Cost, Trace
from hyperface_jax.packing import (
    Annealed,
    Loop,
    LoopState,
    PackingProblem,
    default_annealing,
    starts,
)
from hyperface_jax.packing.schedules import ChooseAnnealing
from hyperface_jax.planning.cost import step_cost
from hyperface_jax.planning.machines import parse_devices

COST = Cost(1.0, 2.0, "each pair once; its weight is multiplied into both of its rows")

_CALIBRATION_SHARE = 0.02
_PLANNED_SHARE = 0.93  # our number of steps is fixed in advance: leave room, never take more time
_MOST_STEPS = 10**6


def run(
    problem: PackingProblem,
    start: Any,
    budget: Budget,
    *,
    seed: int,
    choose_annealing: ChooseAnnealing = default_annealing,
) -> tuple[Trace, int]:
    """Run the annealed solver with as many steps as fit; return the number of steps too.

    Args:
        problem: What to pack.
        start: Where from; like compilation, making it is not timed.
        budget: Wall time or FLOPs.
        seed: Of the start.
        choose_annealing: From d and the number of steps.
    """

    def loop_of(num_steps: int) -> Loop:
        method = Annealed(num_steps=num_steps, annealing=choose_annealing)
        return Loop.of(method, problem)

    start = starts.checked(start, problem)
    num_steps = _steps_for(problem, start, loop_of, budget)
    while True:
        loop = loop_of(num_steps)
        num_steps, chunk = _whole_chunks(num_steps, loop.chunk)
        trace = _timed(replace(loop_of(num_steps), chunk=chunk), problem, start, seed)
        seconds = trace.seconds[-1]
        if seconds <= budget.seconds or num_steps == 1:
            return trace, num_steps
        # The machine was slower than in the calibration.
        num_steps = max(int(_PLANNED_SHARE * num_steps * budget.seconds / seconds), 1)


def total_flops(problem: PackingProblem, num_steps: int, gallery_every: int = 10) -> float:
    """Return the FLOPs of so many steps: the sweeps as they are tiled, and the gallery searches."""
    n, d = problem.num_points, problem.dim
    flops = num_steps * step_cost(n, d, parse_devices("cpu")).flops
    if problem.gallery is None:
        return flops
    return flops + math.ceil(num_steps / gallery_every) * 2.0 * n * problem.gallery.shape[0] * d


def _whole_chunks(num_steps: int, longest: int) -> tuple[int, int]:
    """Return so many steps or a few fewer, and the length of the equal chunks they make up."""
    num_chunks = -(-num_steps // longest)
    chunk = num_steps // num_chunks
    return num_chunks * chunk, chunk


def _timed(loop: Loop, problem: PackingProblem, start: Any, seed: int) -> Trace:
    placed = loop.place(problem)
    warm_up = loop.init(problem, placed, jax.random.key(1), start)
    jax.block_until_ready(loop.advance(placed, warm_up, loop.chunk))
    state = jax.block_until_ready(loop.init(problem, placed, jax.random.key(seed), start))
    watch = _Watch(problem)
    for _ in range(loop.method.steps // loop.chunk):
        state, _ = loop.advance(placed, state, loop.chunk)
        watch.observe(state)
    return watch.trace(loop.finish(placed, state).x)


def _steps_for(
    problem: PackingProblem, start: Any, loop_of: Callable[[int], Loop], budget: Budget
) -> int:
    if math.isfinite(budget.flops):
        num_steps = int(budget.flops / (total_flops(problem, 1000) / 1000))
        while num_steps > 1 and total_flops(problem, num_steps) > budget.flops:
            num_steps -= 1
    else:
        seconds = _step_seconds(problem, start, loop_of(_MOST_STEPS), budget)
        num_steps = int(_PLANNED_SHARE * budget.seconds / seconds)
    return max(num_steps, 1)


def _step_seconds(problem: PackingProblem, start: Any, loop: Loop, budget: Budget) -> float:
    chunk = loop.chunk if problem.gallery is None else max(loop.chunk, loop.method.gallery_every)
    placed = loop.place(problem)
    state = loop.init(problem, placed, jax.random.key(0), start)
    state, _ = jax.block_until_ready(loop.advance(placed, state, chunk))
    times = []
    deadline = time.perf_counter() + _CALIBRATION_SHARE * budget.seconds
    while not times or time.perf_counter() < deadline:
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(loop.advance(placed, state, chunk))
        times.append((time.perf_counter() - begin) / chunk)
    return float(np.median(times))


class _Watch:
    """The clock, and the best objective after every scan."""

    def __init__(self, problem: PackingProblem) -> None:
        self._problem = problem
        self._rows: list[tuple[float, float, float]] = []
        self._begin = time.perf_counter()

    def observe(self, state: LoopState) -> None:
        assert state.best is not None
        objective = float(state.best.objective)
        seconds = time.perf_counter() - self._begin
        self._rows.append((seconds, objective, total_flops(self._problem, int(state.now.step))))

    def trace(self, x: Any) -> Trace:
        seconds, objective, flops = (list(column) for column in zip(*self._rows, strict=True))
        return Trace(np.array(x), seconds, objective, flops, "this repository")
