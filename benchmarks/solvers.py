"""How many sweeps the annealed solver needs.

    python -m benchmarks.solvers

``python -m benchmarks.rivals`` compares it with others.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax

from benchmarks.common import write_result
from hyperface_jax.packing import PackingProblem, solve

MILESTONES = {
    (2000, 128): [(200, 0.1030), (400, 0.1010), (800, 0.1000)],
    (10_000, 512): [(200, 0.0548), (400, 0.0530)],
}


def main() -> None:
    """Run the milestones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    write_result("milestones", {"rows": _milestones(seed)}, seed=seed)


def _milestones(seed: int) -> list[dict[str, Any]]:
    rows = []
    for (n, d), goals in MILESTONES.items():
        for steps, goal in goals:
            problem = PackingProblem(num_points=n, dim=d)
            begin = time.perf_counter()
            packing = solve(problem, jax.random.key(seed), num_steps=steps)
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


if __name__ == "__main__":
    main()
