"""Max cosine against seconds and FLOPs: our solver and every rival, same start, same wall time.

    python -m benchmarks.solvers

First how many sweeps our annealed solver needs (the milestones), then, for every shape, each method
for the same wall time on the same machine in one run. Compilation, imports and warm-up are not timed
for anyone. Where a rival has several tuned settings each one gets the full time and the best counts.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import result_path, write_result
from benchmarks.rivals import Rival, Settings, load_rivals, set_num_threads
from benchmarks.rivals.core import size_class
from hyperface_jax import bounds
from hyperface_jax.io.files import read_json
from hyperface_jax.packing import PackingProblem, PackingSolver, annealed, from_points, row_max
from hyperface_jax.sphere import sample_uniform

DUELS = [(500, 32, 5.0), (2000, 128, 15.0), (10_000, 512, 120.0)]
RIVALS = (
    "paper_closest_pair",
    "mean_row_max",
    "koleo",
    "mma",
    "mmd_gaussian",
    "riesz",
    "pymanopt_lse_cg",
)
MILESTONES = {
    (2000, 128): [(200, 0.1030), (400, 0.1010), (800, 0.1000)],
    (10_000, 512): [(200, 0.0548), (400, 0.0530)],
}
_CALIBRATION_SHARE = 0.02
_PLANNED_SHARE = 0.93  # our number of steps is fixed in advance: leave room, never take more time


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=["milestones", "duels"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="of torch and NumPy rivals")
    parser.add_argument("--time-factor", type=float, default=1.0, help="of the duels' wall time")
    parser.add_argument(
        "--sizes", type=int, nargs="+", help="n of the duels to run again; others stay"
    )
    args = parser.parse_args()
    if "milestones" in args.parts:
        write_result("milestones", {"rows": _milestones(args.seed)}, seed=args.seed)
    if "duels" in args.parts:
        set_num_threads(args.threads)
        shapes: list[dict[str, Any]] = []
        best: dict[str, Settings] = {}
        finished = _finished_shapes() if args.sizes else {}
        for n, d, seconds in DUELS:
            if args.sizes and n not in args.sizes:
                shapes.append(finished[n])
            else:
                shapes.append(duel(n, d, seconds * args.time_factor, args.seed, best))
            best = {m["name"]: m["settings"] for m in shapes[-1]["methods"]}
        write_result("solvers", {"shapes": shapes}, seed=args.seed)


def _finished_shapes() -> dict[int, dict[str, Any]]:
    return {shape["n"]: shape for shape in read_json(result_path("solvers"))["shapes"]}


def _milestones(seed: int) -> list[dict[str, Any]]:
    rows = []
    for (n, d), goals in MILESTONES.items():
        for steps, goal in goals:
            problem, solver = annealed(PackingProblem(num_points=n, dim=d), num_iterations=steps)
            start = solver.init_state(problem, jax.random.key(seed))
            begin = time.perf_counter()
            packing = solver(problem, start)
            row = {
                "n": n,
                "d": d,
                "sweeps": steps,
                "max_cosine": packing.max_cosine,
                "goal": goal,
                "seconds_with_compilation": time.perf_counter() - begin,
                "lower_bound": packing.lower_bound.value,
            }
            print(row, flush=True)
            rows.append(row)
    return rows


def duel(n: int, d: int, seconds: float, seed: int, known: dict[str, Settings]) -> dict[str, Any]:
    """Give every method the same start and the same wall time.

    A rival without tuned settings for this size takes its ``known`` best from the shape before.
    """
    # Importing pymanopt switches on float64 in JAX for the whole process.
    jax.config.update("jax_enable_x64", False)
    x0 = sample_uniform(jax.random.key(seed), n, d)
    ours = run_ours(x0, seconds)
    methods = [ours]
    print(n, d, ours["name"], ours["max_cosine"], f"{ours['seconds']:.1f} s", flush=True)
    rivals = load_rivals()
    for rival in (rivals[name] for name in RIVALS):
        settings = rival.tuned.get(size_class(n)) or (known[rival.name],)
        best = _best_setting(rival, settings, np.array(x0), seconds, seed)
        print(n, d, best["name"], best["max_cosine"], f"{best['seconds']:.1f} s", flush=True)
        methods.append(best)
    jax.config.update("jax_enable_x64", False)
    bound = bounds.tightest(n, d)
    start = float(jnp.max(row_max(x0)))
    return {
        "n": n,
        "d": d,
        "wall_seconds": seconds,
        "start": start,
        "lower_bound": bound.value,
        "methods": methods,
    }


def run_ours(x0: Any, seconds: float) -> dict[str, Any]:
    """Run the annealed solver with as many steps as fit the wall time."""
    n, d = x0.shape
    problem = PackingProblem(num_points=n, dim=d)
    _, solver = annealed(problem, initializer=from_points(x0))
    step_seconds = _step_seconds(problem, x0, solver.inner_iterations, seconds)
    inner = solver.inner_iterations
    steps = max(int(_PLANNED_SHARE * seconds / step_seconds) // inner, 1) * inner
    problem, solver = annealed(problem, num_iterations=steps, initializer=from_points(x0))
    _compile(problem, solver)
    trace = _Trace(n, d)
    state = solver.init_state(problem, jax.random.key(0))
    jax.block_until_ready(state)
    trace.begin = time.perf_counter()
    packing = solver(problem, state, callback=trace.observe)
    return {
        "name": "hyperface_jax annealed",
        "settings": {"steps": steps},
        "source": "this repository",
        "max_cosine": packing.max_cosine,
        "seconds": trace.seconds[-1],
        "flops": trace.flops[-1],
        "trace": trace.thinned(),
    }


class _Trace:
    """The best max cosine after every scan; 3 n^2 d FLOPs a step."""

    def __init__(self, n: int, d: int) -> None:
        self._flops_per_step = 3.0 * n * n * d
        self.begin = 0.0
        self.seconds: list[float] = []
        self.max_cosine: list[float] = []
        self.flops: list[float] = []

    def observe(self, state: Any, records: Any) -> None:
        del records
        self.max_cosine.append(float(state.best_max_cosine))
        self.seconds.append(time.perf_counter() - self.begin)
        self.flops.append(int(state.step) * self._flops_per_step)

    def thinned(self) -> dict[str, list[float]]:
        return thin(self.seconds, self.max_cosine, self.flops)


def thin(seconds: list[float], max_cosine: list[float], flops: list[float]) -> dict[str, Any]:
    """Keep about a hundred points of a trace, each with the best max cosine so far."""
    best = np.minimum.accumulate(max_cosine)
    kept = np.unique(np.linspace(0, len(best) - 1, 100).astype(int))
    return {
        "seconds": [round(seconds[i], 4) for i in kept],
        "max_cosine": [round(float(best[i]), 6) for i in kept],
        "flops": [flops[i] for i in kept],
    }


def _step_seconds(problem: PackingProblem, x0: Any, inner: int, seconds: float) -> float:
    problem, solver = annealed(problem, num_iterations=10**6, initializer=from_points(x0))
    state = solver.init_state(problem, jax.random.key(0))
    state, _ = jax.block_until_ready(solver.advance(problem, state, inner))
    times = []
    deadline = time.perf_counter() + _CALIBRATION_SHARE * seconds
    while not times or time.perf_counter() < deadline:
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(solver.advance(problem, state, inner))
        times.append((time.perf_counter() - begin) / inner)
    return float(np.median(times))


def _compile(problem: PackingProblem, solver: PackingSolver) -> None:
    state = solver.init_state(problem, jax.random.key(1))
    jax.block_until_ready(solver.advance(problem, state, solver.inner_iterations))


def _best_setting(
    rival: Rival, candidates: tuple[Settings, ...], x0: np.ndarray, seconds: float, seed: int
) -> dict[str, Any]:
    results = []
    for settings in candidates:
        trace = rival.run(x0, seconds=seconds, seed=seed, **settings)
        results.append(
            {
                "name": rival.name,
                "settings": dict(settings),
                "source": trace.source,
                "max_cosine": float(jnp.max(row_max(jnp.asarray(trace.points)))),
                "seconds": trace.seconds[-1],
                "flops": trace.flops[-1],
                "trace": thin(trace.seconds, trace.max_cosine, trace.flops),
            }
        )
    best = min(results, key=lambda result: result["max_cosine"])
    tried = [
        {"settings": result["settings"], "max_cosine": result["max_cosine"]} for result in results
    ]
    return {**best, "tried": tried}


if __name__ == "__main__":
    main()
