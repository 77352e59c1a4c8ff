"""What was tried: one change at a time to the annealed solver, at equal numbers of sweeps.

    python -m benchmarks.ablations

n = 2000, d = 128, uniform start; a mini-batch step of B points counts as B / n of a sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from benchmarks.common import write_result
from hyperface_jax.packing import (
    AnnealedStep,
    Annealing,
    Custom,
    MiniBatch,
    PackingProblem,
    SoftMax,
    default_annealing,
    riemannian_adam,
    solve,
)
from hyperface_jax.packing.schedules import default_momentum

N, D, SWEEPS, SEEDS = 2000, 128, 200, 1
LONG_RUNS = (400, 800, 3200)


@dataclass(frozen=True)
class Recipe:
    """The annealed solver with its settings laid open."""

    annealing: Annealing
    factor: float = 4.0
    max_step: float = 0.1
    b1: float = 0.9
    b2: float = 0.0


DEFAULT = Recipe(default_annealing(D, SWEEPS), b1=default_momentum(SWEEPS))


def _annealing(**changes: Any) -> Recipe:
    return replace(DEFAULT, annealing=replace(DEFAULT.annealing, **changes))


VARIANTS: dict[str, Recipe] = {
    "default": DEFAULT,
    "geometric schedule (power 1)": _annealing(power=1.0),
    "power 3": _annealing(power=3.0),
    "colder start (beta 50)": _annealing(start=50.0),
    "hotter start (beta 5)": _annealing(start=5.0),
    "warmer end (beta 1000)": _annealing(end=1000.0),
    "colder end (beta 20000)": _annealing(end=20_000.0),
    "second moment 0.9": replace(DEFAULT, b2=0.9),
    "second moment 0.99": replace(DEFAULT, b2=0.99),
    "no momentum": replace(DEFAULT, b1=0.0),
    "momentum 0.8": replace(DEFAULT, b1=0.8),
    "momentum 0.95": replace(DEFAULT, b1=0.95),
    "half step": replace(DEFAULT, factor=2.0, max_step=0.05),
    "double step": replace(DEFAULT, factor=8.0, max_step=0.2),
}


def main() -> None:
    """Run every variant on every seed and write the JSON."""
    rows = [
        _row(name, SWEEPS, lambda key, r=recipe: _run(r, key)) for name, recipe in VARIANTS.items()
    ]
    for batch in (1000, 500, 250):
        rows.append(_row(f"mini-batches of {batch}", SWEEPS, lambda key, b=batch: _mini(b, key)))
    for sweeps in LONG_RUNS:
        rows.append(_row(f"default, {sweeps} sweeps", sweeps, lambda key, k=sweeps: _long(k, key)))
    write_result("ablations", {"n": N, "d": D, "seeds": SEEDS, "rows": rows})


def _row(name: str, sweeps: int, run: Callable[[Any], float]) -> dict[str, Any]:
    values = [run(jax.random.key(seed)) for seed in range(SEEDS)]
    row = {"variant": name, "sweeps": sweeps, "max_cosine": values, "mean": float(np.mean(values))}
    print(row, flush=True)
    return row


def _run(recipe: Recipe, key: Any) -> float:
    step = AnnealedStep(recipe.annealing, recipe.factor, recipe.max_step)
    optimizer = riemannian_adam(step, recipe.b1, recipe.b2)
    method = Custom(SoftMax(recipe.annealing), optimizer, num_steps=SWEEPS)
    return solve(PackingProblem(num_points=N, dim=D), key, method=method).max_cosine


def _mini(batch_size: int, key: Any) -> float:
    method = MiniBatch(batch_size=batch_size, num_steps=SWEEPS * N // batch_size)
    return solve(PackingProblem(num_points=N, dim=D), key, method=method).max_cosine


def _long(sweeps: int, key: Any) -> float:
    return solve(PackingProblem(num_points=N, dim=D), key, num_steps=sweeps).max_cosine


if __name__ == "__main__":
    main()
