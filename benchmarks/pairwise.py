"""The value-and-force sweep against this machine's own matrix-product rate.

    python -m benchmarks.pairwise

Both are timed in turn in one run. The rate counts ``4 n^2 d`` FLOPs for value and force, whatever the
sweep really spends (the symmetric one spends ``3 n^2 d``), and ``2 n^2 d`` for a matrix product.
"""

from __future__ import annotations

from typing import Any

import jax

from benchmarks.common import seconds, spread, write_result
from hyperface_jax import sphere
from hyperface_jax.packing import SoftMax
from hyperface_jax.pairwise import max_cosine, sweep

SHAPES = {(2000, 128): 40, (10_000, 512): 3}
"""Shapes, and how often everything is timed in turn: single runs of a few milliseconds scatter."""
_BETA, _SHIFT = 100.0, 0.3


def main() -> None:
    """Time every shape and write the JSON."""
    rows = [measure(n, d, turns) for (n, d), turns in SHAPES.items()]
    write_result("pairwise", {"rows": rows})


def measure(n: int, d: int, turns: int) -> dict[str, Any]:
    """Time one shape: the two plain products, the value-and-force sweep, the max sweep."""
    x = sphere.sample_uniform(jax.random.key(0), n, d)
    energy = SoftMax(_BETA)
    force = jax.jit(lambda x: energy.evaluate(x, shift=_SHIFT)).lower(x).compile()
    maximum = jax.jit(lambda x: sweep(x, reduction=max_cosine()))
    scores = jax.jit(lambda x: x @ x.T)
    product = jax.jit(lambda w, x: w @ x)
    weights = scores(x)
    times: dict[str, list[float]] = {}
    for _ in range(turns):
        _add(times, "scores_product", seconds(scores, x, runs=2))
        _add(times, "force_product", seconds(product, weights, x, runs=2))
        _add(times, "value_and_force", seconds(force, x, runs=2))
        _add(times, "max_cosine", seconds(maximum, x, runs=2))
    memory = force.memory_analysis()
    assert memory is not None
    flops = 2.0 * n * n * d
    medians = {name: spread(values)["median"] for name, values in times.items()}
    fastest = flops / min(medians["scores_product"], medians["force_product"])
    row = {
        "n": n,
        "d": d,
        "seconds": {name: spread(values) for name, values in times.items()},
        "product_gflops": fastest / 1e9,
        "value_and_force_gflops": 2 * flops / medians["value_and_force"] / 1e9,
        "share_of_product_rate": 2 * flops / medians["value_and_force"] / fastest,
        "temporary_mib": memory.temp_size_in_bytes / 2**20,
        "force_mib": 4 * n * d / 2**20,
    }
    print(f"n={n} d={d}: {row['share_of_product_rate']:.2f} of the product rate")
    return row


def _add(times: dict[str, list[float]], name: str, values: list[float]) -> None:
    times.setdefault(name, []).extend(values)


if __name__ == "__main__":
    main()
