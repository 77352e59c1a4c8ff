"""Everything to be measured on a GPU, in one command; on a CPU only what precision does to a packing.

    python -m benchmarks.accelerator [--parts parity rate milestones precision] [--quick]

``parity`` holds the fused kernel against the blockwise sweep; ``rate`` takes its FLOP/s as a share of
the fastest plain product in the same precision and run; ``milestones`` takes the time to a max
cosine; ``precision`` compares packings that start with bfloat16 products. Rounding is the same on
every device, so the last part means as much on a CPU, where it is only slower.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.common import seconds, spread, write_result
from hyperface_jax import sphere
from hyperface_jax.packing import (
    Annealed,
    Loop,
    Method,
    MiniBatch,
    PackingProblem,
    Progress,
    SoftMax,
    solve,
)
from hyperface_jax.pairwise import Implementation, Precision, Sweep, nearest

PARTS = ("parity", "rate", "milestones", "precision")
PRECISIONS: tuple[Precision, ...] = ("bf16", "tf32", "float32")
COARSE_SHARES = (0.0, 0.5, 0.7, 0.8, 0.9)
_TARGET = 0.0535


def main() -> None:
    """Run the parts that this device can, and write one JSON each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing written")
    options = parser.parse_args()
    has_gpu = jax.default_backend() == "gpu"
    if not has_gpu:
        print("no GPU here: only the precision part runs")
    run = {"parity": parity, "rate": rate, "milestones": milestones, "precision": precision}
    for part in options.parts or PARTS:
        if not has_gpu and part != "precision":
            continue
        rows = run[part](is_quick=options.quick)
        print(*rows, sep="\n", flush=True)
        if not options.quick:
            write_result(part if part == "precision" else f"gpu_{part}", {"rows": rows})


def parity(*, is_quick: bool) -> list[dict[str, Any]]:
    """Compare force, value and nearest neighbors of the kernel with those of the blockwise sweep."""
    rows = []
    for n, d in [(1000, 64)] if is_quick else [(1000, 64), (10_007, 512), (20_000, 1024)]:
        x = sphere.sample_uniform(jax.random.key(0), n, d)
        exact = _evaluated(x, Sweep(implementation="blockwise"))
        neighbors = Sweep(implementation="blockwise")(x, reduction=nearest()).column
        for precision in PRECISIONS:
            sweep = Sweep(implementation="pallas", precision=precision)
            found = _evaluated(x, sweep)
            same = sweep(x, reduction=nearest()).column == neighbors
            force_error = jnp.linalg.norm(found.force - exact.force) / jnp.linalg.norm(exact.force)
            rows.append(
                {
                    "n": n,
                    "d": d,
                    "precision": precision,
                    "force_error": float(force_error),
                    "value_error": abs(float(found.value - exact.value)),
                    "max_cosine_error": float(jnp.max(jnp.abs(found.row_max - exact.row_max))),
                    "same_neighbor": float(jnp.mean(same)),
                }
            )
    return rows


def rate(*, is_quick: bool) -> list[dict[str, Any]]:
    """Take the rate of value and force, of ``4 n^2 d`` FLOPs, against the fastest product."""
    sizes = [1024] if is_quick else [10_000, 32_768, 65_536]
    return [
        _rate(n, 512, precision, implementation)
        for n in sizes
        for precision in PRECISIONS
        for implementation in ("pallas", "blockwise")
    ]


def _rate(n: int, d: int, precision: Precision, implementation: Implementation) -> dict[str, Any]:
    x = sphere.sample_uniform(jax.random.key(0), n, d)
    block_size = None if implementation == "pallas" else 4096
    sweep = Sweep(implementation=implementation, precision=precision, block_size=block_size)
    force = jax.jit(lambda x: _evaluated(x, sweep))
    side = min(n, 16_384)
    dtype = jnp.bfloat16 if precision == "bf16" else jnp.float32
    a = jnp.ones((side, side), dtype)
    flag = "highest" if precision == "float32" else "default"
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=flag))
    own, plain = spread(seconds(force, x)), spread(seconds(product, a))
    flops, peak = 4.0 * n * n * d / own["median"], 2.0 * side**3 / plain["median"]
    return {
        "n": n,
        "d": d,
        "precision": precision,
        "implementation": implementation,
        "tflops": flops / 1e12,
        "product_tflops": peak / 1e12,
        "share_of_product_rate": flops / peak,
        "seconds": own,
    }


def milestones(*, is_quick: bool) -> list[dict[str, Any]]:
    """Take the wall time of whole runs, compilation apart: to 0.0535 at 10k, and at 50k and 1M."""
    if is_quick:
        return [_timed(500, "annealed", 60, 0.5)]
    return [
        _timed(10_000, "annealed", 400, 0.0),
        _timed(10_000, "annealed", 400, 0.8),
        _timed(50_000, "annealed", 200, 0.8),
        _timed(1_000_000, "annealed", 20, 1.0),
        _timed(1_000_000, "stochastic", 2000, 0.0),
    ]


def _timed(n: int, method: str, steps: int, coarse_share: float) -> dict[str, Any]:
    chosen = _method(method, steps, coarse_share)
    problem = PackingProblem(num_points=n, dim=512)
    loop = Loop.of(chosen, problem)
    warm_up = loop.init(problem, loop.place(problem), jax.random.key(1), "uniform")
    jax.block_until_ready(loop.advance(loop.place(problem), warm_up, loop.chunk_at(0)))
    trace: list[tuple[float, float]] = []
    start = time.perf_counter()

    def note(progress: Progress) -> None:
        trace.append((time.perf_counter(), progress.max_cosine))

    packing = solve(problem, jax.random.key(0), method=chosen, callback=note)
    reached = [at - start for at, cosine in trace if cosine <= _TARGET]
    return {
        "n": n,
        "d": 512,
        "method": method,
        "steps": steps,
        "coarse_share": coarse_share,
        "seconds": time.perf_counter() - start,
        "seconds_to_target": min(reached, default=None),
        "target": _TARGET,
        "max_cosine": packing.max_cosine,
    }


def precision(*, is_quick: bool) -> list[dict[str, Any]]:
    """Pack with bfloat16 products in the first steps, and float32 after them."""
    n, d, steps, seeds = (200, 16, 50, 1) if is_quick else (2000, 128, 200, 3)
    rows = []
    for share in COARSE_SHARES:
        problem, method = PackingProblem(num_points=n, dim=d), _method("annealed", steps, share)
        cosines = [
            solve(problem, jax.random.key(seed), method=method).max_cosine for seed in range(seeds)
        ]
        mean = sum(cosines) / seeds
        row = {"n": n, "d": d, "steps": steps, "coarse_share": share}
        rows.append({**row, "max_cosine": cosines, "mean": mean})
    return rows


def _method(name: str, steps: int, coarse_share: float) -> Method:
    kind = MiniBatch if name == "stochastic" else Annealed
    return kind(num_steps=steps, coarse_steps=int(coarse_share * steps))


def _evaluated(x: Any, sweep: Sweep):
    return SoftMax(100.0).evaluate(x, shift=0.3, sweep=sweep)


if __name__ == "__main__":
    main()
