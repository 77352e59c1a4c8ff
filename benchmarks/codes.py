"""What is possible, what is known, and what is reached: bounds, spherical codes, gradient steps.

    python -m benchmarks.codes [--parts cells words gallery] [--num-ids 1000 ...] [--dims 128 ...]

For each n and d: the lower bound, the best construction, the annealed solver from a uniform start, and
the same solver from the code; both take the steps that ``hyperface pack`` would. Larger n have no
gradient steps. Words of a code that share symbols, and so have a mean, refined: what gradient steps find
of what ``codes.restricted`` does in closed form. On the real text manifold: whether a code helps as a
start near a gallery, rotated at random, or rotated and chosen so that its words lie as near to the
gallery as they can; means and standard errors over three seeds.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import read_result, text_rows, write_result
from hyperface_jax import bounds, sphere
from hyperface_jax.codes import best_known, quadratic, refinable, restricted, shortened, verify
from hyperface_jax.packing import (
    Annealed,
    PackingProblem,
    default_annealing,
    refining_annealing,
    solve,
    starts,
)
from hyperface_jax.packing.figures import measure
from hyperface_jax.packing.methods import default_num_steps
from hyperface_jax.packing.schedules import Annealing, ChooseAnnealing
from hyperface_jax.pairwise import nearest, sweep

DIMS = (128, 256, 512)
SIZES = (1000, 2000, 5000, 10_000)
LARGE_SIZES = (30_000, 100_000, 500_000, 1_000_000)
WORD_POSITIONS, WORD_STEPS = (0, 1), 60
NUM_POINTS, NUM_GALLERY, POOL, ALPHA, STEPS, NUM_SEEDS = 2000, 10_000, 8000, 0.5, 400, 3


def main() -> None:
    """Run the parts that are asked for, and write the JSON after each cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=["cells", "words", "gallery"])
    parser.add_argument("--num-ids", type=int, nargs="+", default=[*SIZES, *LARGE_SIZES])
    parser.add_argument("--dims", type=int, nargs="+", default=DIMS)
    parser.add_argument("--keep-uniform", action="store_true", help="only what codes change")
    args = parser.parse_args()
    found = read_result("codes") or {}
    figures = {name: found.get(name, []) for name in ("cells", "words", "gallery")}
    if "cells" in args.parts:
        cells = {(row["n"], row["d"]): row for row in figures["cells"]}
        for size in itertools.product(args.num_ids, args.dims):
            kept = cells.get(size, {}).get("uniform") if args.keep_uniform else None
            cells[size] = cell(*size, kept)
            figures["cells"] = [cells[known] for known in sorted(cells)]
            write_result("codes", figures)
    if "words" in args.parts:
        figures["words"] = refined_words()
        write_result("codes", figures)
    if "gallery" in args.parts:
        figures["gallery"] = near_a_gallery()
        write_result("codes", figures)


def cell(num_points: int, dim: int, uniform_start: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what is proven, known and reached for n and d; from a uniform start unless it is given."""
    bound, code = bounds.tightest(num_points, dim), best_known(num_points, dim)
    row = {
        "n": num_points,
        "d": dim,
        "lower_bound": bound.value,
        "best_known": code.max_cosine,
        "best_known_name": code.name,
        "verified_by": _verified_by(num_points, dim),
    }
    if num_points in SIZES and num_points > 2 * dim:
        row["steps"] = steps = default_num_steps(num_points, dim)
        row["uniform"] = uniform_start or _packed(
            num_points, dim, steps, "uniform", default_annealing
        )
        start = refinable(num_points, dim)
        row["start_name"] = start.name
        row["refined"] = _packed(num_points, dim, steps, start, refining_annealing)
    print(row, flush=True)
    return row


def _verified_by(num_points: int, dim: int) -> str | None:
    try:
        return verify(best_known(num_points, dim)).method
    except ValueError:
        return None


def _packed(
    num_points: int,
    dim: int,
    steps: int,
    start: Any,
    choose_annealing: ChooseAnnealing,
) -> dict[str, Any]:
    problem = PackingProblem(num_points=num_points, dim=dim)
    method = Annealed(num_steps=steps, annealing=choose_annealing)
    begin = time.perf_counter()
    packing = solve(problem, jax.random.key(0), method=method, start=start)
    seconds = time.perf_counter() - begin
    return {"max_cosine": packing.max_cosine, "best_step": packing.best_step, "seconds": seconds}


def refined_words() -> list[dict[str, Any]]:
    """Refine the 10,000 words of a shortened code that have four of five symbols in two positions.

    Once to the inverse temperature at which so short a run from a uniform start ends, once to that at
    which a refinement does.
    """
    code, num_points, dim = shortened(quadratic(5, 3), 1), 10_000, 512
    words = np.asarray(code.block(0, code.num_points))
    for position in WORD_POSITIONS:
        _, symbol = np.unique(
            words[:, 4 * position : 4 * position + 4].round(4), axis=0, return_inverse=True
        )
        words = words[symbol < 4]
    words = jnp.pad(jnp.asarray(words), ((0, 0), (0, dim - code.dim)))
    assert words.shape == (num_points, dim), words.shape
    rows = [{"name": "the shortened code, and any of its words", "max_cosine": code.max_cosine}]
    for choose in (_warm_annealing, refining_annealing):
        refined = _packed(num_points, dim, WORD_STEPS, words, choose)
        end = choose(dim, WORD_STEPS).end
        name = f"words that share symbols, after {WORD_STEPS} steps to beta = {end:,.0f}"
        rows.append({"name": name, **refined})
    rows += [
        {
            "name": "the same words, centered in closed form",
            "max_cosine": restricted(quadratic(5, 3), (1, 4, 4)).max_cosine,
        },
        {
            "name": "fewer of them, centered, with vertices: the best construction",
            "max_cosine": best_known(num_points, dim).max_cosine,
        },
    ]
    print(*rows, sep="\n", flush=True)
    return rows


def _warm_annealing(dim: int, num_steps: int) -> Annealing:
    end = default_annealing(dim, num_steps).end
    return replace(refining_annealing(dim, num_steps), end=end)


def near_a_gallery() -> list[dict[str, Any]]:
    """Pack near the text manifold from its own rows and from codes, as the command line would."""
    rows = jnp.asarray(text_rows())
    gallery = rows[:NUM_GALLERY]
    dim = gallery.shape[1]
    problem = PackingProblem(num_points=NUM_POINTS, dim=dim, gallery=gallery, alpha=ALPHA)
    starts = {
        "gallery rows": ("gallery", default_annealing),
        "code, rotated at random": (refinable(NUM_POINTS, dim), refining_annealing),
        "code, nearest to the gallery": (_nearest_points(gallery), refining_annealing),
    }
    found = []
    for name, (start, choose) in starts.items():
        runs = [_near(problem, start, choose, seed) for seed in range(NUM_SEEDS)]
        row = {"start": name, "num_seeds": NUM_SEEDS}
        for figure in runs[0]:
            values = np.array([run[figure] for run in runs])
            error = float(values.std(ddof=1) / len(values) ** 0.5)
            row[figure] = {"mean": float(values.mean()), "error": error}
        print(row, flush=True)
        found.append(row)
    return found


def _nearest_points(gallery: Any, rounds: int = 10) -> Callable[[Any, int, int], Any]:
    """Choose the points of a larger code that come nearest to the gallery, in a rotation towards it.

    By turns from a random rotation: the nearest points, then the rotation that takes them to their
    gallery rows best (Procrustes).
    """
    code = best_known(POOL, gallery.shape[1])

    def initialize(key: Any, num_points: int, dim: int) -> Any:
        rows = starts.points(code, PackingProblem(num_points=POOL, dim=dim), key, jitter=0.0)
        rotation = jnp.eye(dim)
        for _ in range(rounds):
            found = sweep(sphere.normalize(rows @ rotation), gallery, reduction=nearest())
            chosen = jax.lax.top_k(found.cosine, num_points)[1]
            left, _, right = jnp.linalg.svd(rows[chosen].T @ gallery[found.column[chosen]])
            rotation = left @ right
        turned = sphere.normalize(rows @ rotation)
        found = sweep(turned, gallery, reduction=nearest())
        return turned[jax.lax.top_k(found.cosine, num_points)[1]]

    return initialize


def _near(
    problem: PackingProblem, start: Any, choose: ChooseAnnealing, seed: int
) -> dict[str, float]:
    method, key = Annealed(annealing=choose), jax.random.key(seed)
    at_start, packed = (
        solve(problem, key, method=method, start=start, num_steps=steps).x for steps in (0, STEPS)
    )
    return near_figures(problem, at_start, "start_") | near_figures(problem, packed)


def near_figures(problem: PackingProblem, x: Any, prefix: str = "") -> dict[str, float]:
    """Return both axes and the objective of a packing near a gallery, measured exactly."""
    figures = measure(problem, x)
    assert figures.gallery is not None
    cosine, near = float(jnp.max(figures.nearest)), float(jnp.mean(figures.gallery))
    objective = cosine + float(problem.alpha) * (1 - near)
    found = {"max_cosine": cosine, "gallery_mean_cosine": near, "objective": objective}
    return {prefix + name: value for name, value in found.items()}


if __name__ == "__main__":
    main()
