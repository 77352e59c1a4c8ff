"""What rounded products do to a packing: emulated, so a CPU tells as much, only more slowly.

    python -m benchmarks.rounding [--parts coarse three_pass] [--size 2000 128] [--steps 200] [--seeds 3]

``coarse`` begins with bfloat16 products and ends with float32 ones. ``three_pass`` holds the error of a
cosine against float64, and ends the same runs with three-pass products and with float32 ones; both are
measured in float32. ``--size 10000 512`` is the size of the paper; it takes hours on two cores.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import write_result
from hyperface_jax import sphere
from hyperface_jax.packing import Annealed, PackingProblem, solve
from hyperface_jax.pairwise import Precision
from hyperface_jax.pairwise.precision import scores

PARTS = ("coarse", "three_pass")
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16_x3", "bf16")
SHARES = (0.0, 0.5, 0.7, 0.8, 0.9)
LATE_SHARES = (0.0, 0.8)
_ERROR_ROWS = 2000


def main() -> None:
    """Run the parts and write one JSON each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--size", nargs=2, type=int, default=(2000, 128), metavar=("N", "D"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    size, steps, seeds = tuple(options.size), options.steps, options.seeds
    if "coarse" in options.parts:
        write_result("precision", {"rows": coarse(size, steps, seeds)})
    if "three_pass" in options.parts:
        name = "three_pass" if size == (2000, 128) else "three_pass_{}x{}".format(*size)
        figures = {"errors": errors(size), "rows": three_pass(size, steps, seeds)}
        write_result(name, figures)


def coarse(size: tuple[int, int], steps: int, seeds: int) -> list[dict[str, Any]]:
    """Pack with bfloat16 products in a share of the steps, and float32 after them."""
    rows = []
    for share in SHARES:
        cosines = [_packed(size, steps, seed, share, "float32") for seed in range(seeds)]
        row = {"n": size[0], "d": size[1], "steps": steps, "coarse_share": share}
        rows.append({**row, "max_cosine": cosines, "mean": sum(cosines) / seeds})
        print(rows[-1], flush=True)
    return rows


def errors(size: tuple[int, int]) -> list[dict[str, Any]]:
    """Take the error of the cosines of distinct random points, against float64."""
    n, d = min(size[0], _ERROR_ROWS), size[1]
    x = sphere.sample_uniform(jax.random.key(0), n, d)
    exact = np.asarray(x, np.float64) @ np.asarray(x, np.float64).T
    is_pair = ~np.eye(n, dtype=bool)
    rows = []
    for precision in PRECISIONS:
        product = jax.jit(scores, static_argnums=2)(x, x, precision)
        error = np.abs(np.asarray(product, np.float64) - exact)[is_pair]
        row = {"n": n, "d": d, "precision": precision}
        rows.append(
            {**row, "largest": float(error.max()), "rms": float(np.sqrt(np.mean(error**2)))}
        )
        print(rows[-1], flush=True)
    return rows


def three_pass(size: tuple[int, int], steps: int, seeds: int) -> list[dict[str, Any]]:
    """End runs with three-pass products and with float32, after a share of bfloat16 steps."""
    rows = []
    for share in LATE_SHARES:
        for seed in range(seeds):
            exact, fine = (_packed(size, steps, seed, share, p) for p in ("float32", "bf16_x3"))
            row = {"n": size[0], "d": size[1], "steps": steps, "coarse_share": share, "seed": seed}
            cosines = {"float32": exact, "bf16_x3": fine, "difference": fine - exact}
            rows.append({**row, **cosines})
            print(rows[-1], flush=True)
    return rows


def _packed(
    size: tuple[int, int], steps: int, seed: int, share: float, precision: Precision
) -> float:
    method = Annealed(num_steps=steps, coarse_steps=int(share * steps), precision=precision)
    problem = PackingProblem(num_points=size[0], dim=size[1])
    return float(jnp.asarray(solve(problem, jax.random.key(seed), method=method).max_cosine))


if __name__ == "__main__":
    main()
