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
    Initializer,
    PackingProblem,
    PackingSolver,
    annealed,
    default_annealing,
)
from hyperface_jax.packing.cost import step_cost
from hyperface_jax.packing.machines import parse_devices
from hyperface_jax.packing.schedules import ChooseAnnealing

COST = Cost(1.0, 2.0, "each pair once; its weight is multiplied into both of its rows")

_CALIBRATION_SHARE = 0.02
_PLANNED_SHARE = 0.93  # our number of steps is fixed in advance: leave room, never take more time
_MOST_STEPS = 10**6


def run(
    problem: PackingProblem,
    start: Initializer,
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

    def solver_of(num_steps: int) -> tuple[PackingProblem, PackingSolver]:
        return annealed(
            problem,
            num_iterations=num_steps,
            initializer=start,
            choose_annealing=choose_annealing,
        )

    num_steps = _steps_for(problem, solver_of, budget)
    while True:
        num_steps, inner = _whole_scans(num_steps, solver_of(num_steps)[1].inner_iterations)
        ready, solver = solver_of(num_steps)
        trace = _timed(ready, replace(solver, inner_iterations=inner), seed)
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


def _whole_scans(num_steps: int, longest: int) -> tuple[int, int]:
    """Return so many steps or a few fewer, and the length of the equal scans they make up."""
    num_scans = -(-num_steps // longest)
    inner = num_steps // num_scans
    return num_scans * inner, inner


def _timed(problem: PackingProblem, solver: PackingSolver, seed: int) -> Trace:
    warm_up = solver.init_state(problem, jax.random.key(1))
    jax.block_until_ready(solver.advance(problem, warm_up, solver.inner_iterations))
    state = jax.block_until_ready(solver.init_state(problem, jax.random.key(seed)))
    watch = _Watch(problem)
    packing = solver(problem, state, callback=watch.observe)
    return watch.trace(packing.x)


def _steps_for(
    problem: PackingProblem,
    solver_of: Callable[[int], tuple[PackingProblem, PackingSolver]],
    budget: Budget,
) -> int:
    if math.isfinite(budget.flops):
        num_steps = int(budget.flops / (total_flops(problem, 1000) / 1000))
        while num_steps > 1 and total_flops(problem, num_steps) > budget.flops:
            num_steps -= 1
    else:
        ready, solver = solver_of(_MOST_STEPS)
        num_steps = int(_PLANNED_SHARE * budget.seconds / _step_seconds(ready, solver, budget))
    return max(num_steps, 1)


def _step_seconds(problem: PackingProblem, solver: PackingSolver, budget: Budget) -> float:
    inner = solver.inner_iterations
    if problem.gallery is not None:
        inner = max(inner, solver.gallery_every)
    state = solver.init_state(problem, jax.random.key(0))
    state, _ = jax.block_until_ready(solver.advance(problem, state, inner))
    times = []
    deadline = time.perf_counter() + _CALIBRATION_SHARE * budget.seconds
    while not times or time.perf_counter() < deadline:
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(solver.advance(problem, state, inner))
        times.append((time.perf_counter() - begin) / inner)
    return float(np.median(times))


class _Watch:
    """The clock, and the best objective after every scan."""

    def __init__(self, problem: PackingProblem) -> None:
        self._problem = problem
        self._rows: list[tuple[float, float, float]] = []
        self._begin = time.perf_counter()

    def observe(self, state: Any, records: Any) -> None:
        del records
        objective = float(state.best_objective)
        seconds = time.perf_counter() - self._begin
        self._rows.append((seconds, objective, total_flops(self._problem, int(state.step))))

    def trace(self, x: Any) -> Trace:
        seconds, objective, flops = (list(column) for column in zip(*self._rows, strict=True))
        return Trace(np.array(x), seconds, objective, flops, "this repository")
