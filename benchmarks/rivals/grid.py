"""Run every rival, or a rival's whole grid of settings, on one shape and print a table.

python -m benchmarks.rivals.grid --num-points 500 --dim 32 --seconds 5 --only koleo --full-grid
"""

from __future__ import annotations

import argparse
import json
import resource

import numpy as np

from benchmarks.rivals import Budget, Rival, Settings, load_rivals, set_num_threads


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals.grid", description=__doc__)
    parser.add_argument("--num-points", type=int, default=500)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0, help="wall time of each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="*", help="names of rivals; all when left out")
    parser.add_argument("--full-grid", action="store_true", help="all settings, not the tuned ones")
    return parser.parse_args()


def _uniform(num_points: int, dim: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((num_points, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def _max_cosine(points: np.ndarray) -> float:
    x = points.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    top = -1.0
    for start in range(0, len(x), 512):
        scores = x[start : start + 512] @ x.T
        scores[np.arange(len(scores)), start + np.arange(len(scores))] = -1
        top = max(top, float(scores.max()))
    return top


def _row(rival: Rival, settings: Settings, x0: np.ndarray, args: argparse.Namespace) -> str:
    budget = Budget(seconds=args.seconds)
    trace = rival.run(x0, budget=budget, seed=args.seed, device=args.device, **settings)
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return (
        f"{rival.name:20} {json.dumps(dict(settings)):55} {_max_cosine(trace.points):9.5f} "
        f"{trace.seconds[-1]:7.2f} {len(trace.seconds):7d} {trace.flops[-1]:9.2e} {gib:6.2f}  "
        f"{trace.source}"
    )


def main() -> None:
    args = _arguments()
    set_num_threads(args.threads)
    x0 = _uniform(args.num_points, args.dim, args.seed)
    rivals = load_rivals()
    print(f"start: max cosine {_max_cosine(x0):.5f}")
    print(
        f"{'rival':20} {'settings':55} {'max cos':>9} {'seconds':>7} {'records':>7} "
        f"{'FLOPs':>9} {'GiB':>6}  source"
    )
    for name in args.only or rivals:
        rival = rivals[name]
        for settings in rival.grid if args.full_grid else rival.settings(args.num_points):
            print(_row(rival, settings, x0, args), flush=True)


if __name__ == "__main__":
    main()
