"""How often a packing must search the gallery for the nearest rows, on a real manifold.

    python -m benchmarks.gallery_search [--steps 200]

A search takes ``2 n m d`` FLOPs, more than a step if the gallery has many rows. Between searches, a
point keeps its rows. The problem is that of ``gallery_frontier``: 10,000 sentence embeddings, 2,000
identities. Mini-batches of 250 points take eight times as many steps, which cost as much.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import jax
import numpy as np

from benchmarks.codes import near_figures
from benchmarks.common import text_rows, write_result
from hyperface_jax.packing import Annealed, Method, MiniBatch, PackingProblem, solve

NUM_POINTS, NUM_GALLERY, ALPHA, BATCH = 2000, 10_000, 0.5, 250
SEARCHES = (1, 10, 50)


def main() -> None:
    """Run every number of searches, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    texts, rows = text_rows(), []
    for name, searches in itertools.product(("annealed", "stochastic"), SEARCHES):
        rows.append(measured(texts, name, searches, steps))
        print(rows[-1], flush=True)
    problem = {"n": NUM_POINTS, "m": NUM_GALLERY, "alpha": ALPHA}
    write_result("gallery_search", {**problem, "steps": steps, "rows": rows})


def measured(texts: np.ndarray, name: str, searches: int, steps: int) -> dict[str, Any]:
    """Pack with so many searches in the whole run, and measure both axes exactly."""
    gallery, start = texts[:NUM_GALLERY], texts[-NUM_POINTS:]
    problem = PackingProblem(
        num_points=NUM_POINTS, dim=texts.shape[1], gallery=gallery, alpha=ALPHA
    )
    method = _method(name, searches, steps)
    packing = solve(problem, jax.random.key(0), method=method, start=start)
    found = {"method": name, "searches": searches, "num_steps": method.steps}
    return found | near_figures(problem, packing.x)


def _method(name: str, searches: int, steps: int) -> Method:
    if name == "annealed":
        return Annealed(num_steps=steps, gallery_every=-(-steps // searches))
    steps *= NUM_POINTS // BATCH
    every = -(-steps // searches)
    return MiniBatch(num_steps=steps, batch_size=BATCH, gallery_every=every)


if __name__ == "__main__":
    main()
