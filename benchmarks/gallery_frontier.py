"""Separation against nearness to a real embedding manifold, for several alpha.

    python -m benchmarks.gallery_frontier

Gallery: the first 10,000 sentence embeddings of ``text_gallery_12k.npy`` (384-d); start: its last
2,000; 2,000 identities, 400 sweeps. The paper's Algorithm 1 runs on the same problem, best of three
learning rates, its best iterate. Also draws ``docs/pictures/frontier.png``, and packs with keep-out.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from benchmarks.common import PICTURES, text_rows, write_result
from hyperface_jax.packing import Annealed, Method, PackingProblem, Paper, solve
from hyperface_jax.packing.figures import count_violations, measure

ALPHAS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
LEARNING_RATES = (0.1, 0.01, 0.001)
NUM_POINTS, NUM_GALLERY, NUM_KEEP_OUT, KEEP_OUT_COSINE = 2000, 10_000, 3000, 0.391


def main() -> None:
    """Run the frontier, the paper's method and the keep-out case; write JSON and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--paper-steps", type=int, default=800)
    args = parser.parse_args()
    rows = text_rows()
    gallery, start = jnp.asarray(rows[:NUM_GALLERY]), jnp.asarray(rows[NUM_GALLERY:])
    figures = {
        "steps": args.steps,
        "paper_steps": args.paper_steps,
        "start": _figures(_problem(gallery, 0.5), start),
        "annealed": [_annealed(gallery, start, alpha, args.steps) for alpha in ALPHAS],
        "paper": [_paper(gallery, start, rate, args.paper_steps) for rate in LEARNING_RATES],
        "keep_out": _keep_out(gallery, start, args.steps),
    }
    write_result("gallery_frontier", figures)
    PICTURES.mkdir(parents=True, exist_ok=True)
    _draw(figures).savefig(PICTURES / "frontier.png", dpi=130)


def _problem(gallery: Any, alpha: float, **extra: Any) -> PackingProblem:
    dim = gallery.shape[1]
    return PackingProblem(num_points=NUM_POINTS, dim=dim, gallery=gallery, alpha=alpha, **extra)


def _run(problem: PackingProblem, method: Method, start: Any) -> tuple[Any, float]:
    begin = time.perf_counter()
    packing = solve(problem, jax.random.key(0), method=method, start=start)
    return packing.x, time.perf_counter() - begin


def _figures(problem: PackingProblem, x: Any) -> dict[str, float]:
    figures = measure(problem, x)
    assert figures.gallery is not None
    return {
        "max_cosine": float(jnp.max(figures.nearest)),
        "gallery_mean_cosine": float(jnp.mean(figures.gallery)),
        "gallery_min_cosine": float(jnp.min(figures.gallery)),
    }


def _annealed(gallery: Any, start: Any, alpha: float, steps: int) -> dict[str, float]:
    problem = _problem(gallery, alpha)
    x, seconds = _run(problem, Annealed(num_steps=steps), start)
    row = {"alpha": alpha, **_figures(problem, x), "seconds": seconds}
    print("annealed", row, flush=True)
    return row


def _paper(gallery: Any, start: Any, rate: float, steps: int) -> dict[str, float]:
    problem = _problem(gallery, 0.5)
    method = Paper(num_steps=steps, learning_rate=rate, track_best=True)
    x, seconds = _run(problem, method, start)
    row = {"alpha": 0.5, "learning_rate": rate, **_figures(problem, x), "seconds": seconds}
    print("paper", row, flush=True)
    return row


def _keep_out(gallery: Any, start: Any, steps: int) -> dict[str, Any]:
    """Hold 3,000 gallery rows apart: they leave the gallery and become the keep-out set."""
    keep_out, rest = gallery[:NUM_KEEP_OUT], gallery[NUM_KEEP_OUT:]
    problem = _problem(rest, 0.5, keep_out=keep_out, keep_out_cosine=KEEP_OUT_COSINE)
    x, seconds = _run(problem, Annealed(num_steps=steps), start)
    figures = measure(problem, x)
    assert figures.keep_out is not None
    row = {
        **_figures(problem, x),
        "keep_out_rows": NUM_KEEP_OUT,
        "keep_out_cosine": KEEP_OUT_COSINE,
        "violations_at_start": count_violations(problem, measure(problem, start)),
        "violations": count_violations(problem, figures),
        "closest_approach": float(jnp.max(figures.keep_out)),
        "seconds": seconds,
    }
    print("keep-out", row, flush=True)
    return row


def _draw(figures: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    ours, published = figures["annealed"], figures["paper"]
    axes.plot(
        [row["gallery_mean_cosine"] for row in ours],
        [row["max_cosine"] for row in ours],
        "o-",
        label=f"annealed soft maximum, {figures['steps']} sweeps",
    )
    for row in ours:
        place = (row["gallery_mean_cosine"], row["max_cosine"])
        axes.annotate(
            f"alpha {row['alpha']:g}", place, xytext=(6, 6), textcoords="offset points", fontsize=8
        )
    axes.plot(
        [row["gallery_mean_cosine"] for row in published],
        [row["max_cosine"] for row in published],
        "s",
        label=f"HyperFace Algorithm 1, alpha 0.5, {figures['paper_steps']} sweeps, three lr",
    )
    axes.plot(
        figures["start"]["gallery_mean_cosine"], figures["start"]["max_cosine"], "x", label="start"
    )
    axes.set(
        xlabel="mean cosine to the nearest gallery row (higher: nearer to the manifold)",
        ylabel="max cosine (lower: further apart)",
        title="2,000 identities on a real 384-d embedding manifold",
    )
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    main()
