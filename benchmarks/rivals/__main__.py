"""Our solver against every rival, same start, on one machine: at equal wall time and at equal FLOPs.

    python -m benchmarks.rivals [--shapes 2000x128 manifold] [--budgets time flops]

Shapes without a gallery are judged by the max cosine. "manifold" is a real one: the first 10,000
sentence embeddings of ``text_gallery_12k.npy`` are the gallery, the last 2,000 the start, and the
objective is max cosine + alpha times the mean cosine distance to the gallery; both are reported. All
rivals have that term: with the weight alpha throughout, as HyperFace's Algorithm 1 does, or rising with
the temperature where they anneal, as in ours. They search the gallery every ten steps, as ours does,
or at every stage of their annealing.

Equal wall time: compilation, imports and warm-up are not timed for anyone. Equal FLOPs: a budget of
so many of our sweeps at 3 n^2 d, in which every method pays for the matrix products that it makes,
with the pairs that its tiles see twice (``Cost`` and the code of the rivals say which; elementwise
work is free). Every schedule spans its budget, every tuned setting of a rival gets the full one, and
the best counts. A shape without tuned settings takes the best one of the shape before. The JSON is
written after every shape and budget, and what is not run again stays in it.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import about, read_own_result, text_rows, write_result
from benchmarks.rivals import Budget, Gallery, Rival, Settings, Trace, load_rivals, set_num_threads
from benchmarks.rivals import ours as our_solver
from benchmarks.rivals.core import Cost, size_class
from hyperface_jax import bounds
from hyperface_jax.codes import refinable
from hyperface_jax.packing import (
    PackingProblem,
    refining_annealing,
    starts,
)
from hyperface_jax.packing.figures import measure
from hyperface_jax.sphere import sample_uniform

MANIFOLD = "manifold"
NUM_POINTS, NUM_GALLERY, ALPHA = 2000, 10_000, 0.5
RIVALS = (
    "paper_closest_pair",
    "mean_row_max",
    "koleo",
    "mma",
    "mmd_gaussian",
    "riesz",
    "pymanopt_lse_cg",
)
# Wall time, and sweeps of the FLOP budget.
BUDGETS = {
    "500x32": (5.0, 400),
    "2000x128": (15.0, 400),
    "10000x512": (120.0, 100),
    MANIFOLD: (45.0, 400),
}
METHODS = {"time": "methods", "flops": "methods_at_equal_flops"}


@dataclass(frozen=True)
class Task:
    """One shape: a start, and a gallery or none."""

    name: str
    start: np.ndarray
    gallery: Gallery | None
    seconds: float
    sweeps: int

    @property
    def problem(self) -> PackingProblem:
        """The task for our solver and for the figures."""
        n, d = self.start.shape
        if self.gallery is None:
            return PackingProblem(num_points=n, dim=d)
        rows = jnp.asarray(self.gallery.rows)
        return PackingProblem(num_points=n, dim=d, gallery=rows, alpha=self.gallery.alpha)

    @property
    def sweep_flops(self) -> float:
        """FLOPs of a nominal sweep of ours, with its share of the search every ten steps."""
        n, d = self.start.shape
        gallery = 0.0 if self.gallery is None else 0.1 * 2.0 * n * len(self.gallery.rows) * d
        return 3.0 * n * n * d + gallery

    def budget(self, kind: str) -> Budget:
        """Return the budget in "time" or in "flops"."""
        if kind == "time":
            return Budget(seconds=self.seconds)
        return Budget(flops=self.sweeps * self.sweep_flops)

    @property
    def settings_class(self) -> str:
        """Which of the tuned settings fit."""
        return size_class(len(self.start)) if self.gallery is None else MANIFOLD


def main() -> None:
    """Run the shapes and budgets asked for."""
    args = _arguments()
    rivals = load_rivals()
    set_num_threads(args.threads)
    found = read_own_result("rivals") or {"shapes": [], "manifold": {}}
    figures = {"costs": costs(rivals), "shapes": found["shapes"], "manifold": found["manifold"]}
    for name in args.shapes:
        task = make_task(name, args.seed, args.seconds, args.sweeps)
        for kind in args.budgets:
            known = best_settings(figures["shapes"], kind, len(task.start))
            settings = {name: candidates(rivals[name], task, kind, known) for name in RIVALS}
            methods = compare(task, task.budget(kind), rivals, settings, args.seed)
            part = {METHODS[kind]: methods, f"about_{kind}": about(args.seed)}
            put(figures, describe(task, kind), part)
            write_result("rivals", figures, seed=args.seed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=list(BUDGETS), help="NxD, or manifold")
    parser.add_argument("--budgets", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seconds", type=float, help="of a run; a default for each shape")
    parser.add_argument("--sweeps", type=int, help="of the FLOP budget; a default for each shape")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="of torch and NumPy rivals")
    return parser.parse_args()


def make_task(
    name: str, seed: int = 0, seconds: float | None = None, sweeps: int | None = None
) -> Task:
    """Return the task of a name, "NxD" or "manifold"."""
    usual = BUDGETS.get(name, (5.0, 400))
    gallery = None
    if name == MANIFOLD:
        rows = text_rows()
        gallery, start = Gallery(rows[:NUM_GALLERY], ALPHA), rows[-NUM_POINTS:]
    else:
        n, d = (int(word) for word in name.split("x"))
        start = np.array(sample_uniform(jax.random.key(seed), n, d))
    return Task(name, start, gallery, seconds or usual[0], sweeps or usual[1])


def describe(task: Task, kind: str) -> dict[str, Any]:
    """Return what is true of a shape whoever runs on it."""
    n, d = task.start.shape
    size = {"n": n, "d": d, "lower_bound": bounds.tightest(n, d).value}
    start = _figures(task, task.start)
    row = {"name": task.name, **size, "start": start["max_cosine"]}
    if task.gallery is not None:
        row |= {"alpha": task.gallery.alpha, "num_gallery": len(task.gallery.rows)}
        row["start_figures"] = start
    if kind == "time":
        return row | {"wall_seconds": task.seconds}
    return row | {"sweeps": task.sweeps, "flops": task.budget(kind).flops}


def put(figures: dict[str, Any], row: dict[str, Any], part: dict[str, Any]) -> None:
    """Put one part of a shape into the figures, beside its other part."""
    if row["name"] == MANIFOLD:
        figures["manifold"] = figures["manifold"] | row | part
        return
    shapes = {shape["name"]: shape for shape in figures["shapes"]}
    shapes[row["name"]] = shapes.get(row["name"], {}) | row | part
    figures["shapes"] = sorted(shapes.values(), key=lambda shape: (shape["n"], shape["d"]))


def best_settings(shapes: list[dict[str, Any]], kind: str, num_points: int) -> dict[str, Settings]:
    """Return what was best for each rival on the largest smaller shape that has been run."""
    found = [s for s in shapes if s["n"] < num_points and METHODS[kind] in s]
    return {m["name"]: m["settings"] for m in found[-1][METHODS[kind]]} if found else {}


def costs(rivals: dict[str, Rival]) -> list[dict[str, Any]]:
    """Say what a gradient costs whom, and why."""
    stated = {"hyperface_jax": our_solver.COST, **{name: rivals[name].cost for name in RIVALS}}
    return [_stated(name, cost) for name, cost in stated.items() if cost]


def _stated(name: str, cost: Cost) -> dict[str, Any]:
    return {"name": name, **cost._asdict()}


def candidates(
    rival: Rival, task: Task, kind: str, known: dict[str, Settings]
) -> tuple[Settings, ...]:
    """Return the settings that a rival tries.

    They were tuned for the wall times; a FLOP budget is a run of another length, so that those of
    all shapes are tried, which takes little time where there are any.
    """
    tuned = rival.tuned.get(task.settings_class)
    if not tuned and rival.name in known:
        return (known[rival.name],)
    if not tuned:
        raise SystemExit(f"{rival.name} has no settings for {task.name}: run a smaller shape first")
    if kind == "time" or task.gallery is not None:
        return tuned
    every = list(itertools.chain(*rival.tuned.values()))
    return tuple(one for place, one in enumerate(every) if one not in every[:place])


def compare(
    task: Task,
    budget: Budget,
    rivals: dict[str, Rival],
    settings: dict[str, tuple[Settings, ...]],
    seed: int,
) -> list[dict[str, Any]]:
    """Give every method the same start and the same budget; ours come first."""
    methods = [our_row(task, budget, seed)]
    if task.gallery is None:
        methods.append(code_row(task, budget, seed))
    rows = (rival_row(task, budget, rivals[name], tried, seed) for name, tried in settings.items())
    return [*methods, *rows]


def our_row(task: Task, budget: Budget, seed: int) -> dict[str, Any]:
    """Run the annealed solver from the common start."""
    start = task.start
    trace, steps = our_solver.run(task.problem, start, budget, seed=seed)
    return _row(task, "hyperface_jax annealed", {"steps": steps}, trace)


def code_row(task: Task, budget: Budget, seed: int) -> dict[str, Any]:
    """Run it from a spherical code, which is another start than the rivals have."""
    n, d = task.start.shape
    code = refinable(n, d)
    start = starts.points(code, task.problem, jax.random.key(seed), jitter=0.0)
    trace, steps = our_solver.run(
        task.problem, start, budget, seed=seed, choose_annealing=refining_annealing
    )
    settings = {"steps": steps, "code": code.name, "code_max_cosine": code.max_cosine}
    return _row(task, "hyperface_jax code start", settings, trace)


def rival_row(
    task: Task, budget: Budget, rival: Rival, settings: tuple[Settings, ...], seed: int
) -> dict[str, Any]:
    """Run a rival with each of its settings; the best counts, all are named."""
    rows = []
    for one in settings:
        trace = rival.run(task.start, budget=budget, seed=seed, gallery=task.gallery, **one)
        rows.append(_row(task, rival.name, dict(one), trace))
    kept = ("settings", "max_cosine", "gallery_mean_cosine", "objective")
    tried = [{name: row[name] for name in kept if name in row} for row in rows]
    return {**min(rows, key=_objective), "tried": tried}


def _objective(row: dict[str, Any]) -> float:
    return row.get("objective", row["max_cosine"])


def _row(task: Task, name: str, settings: Settings, trace: Trace) -> dict[str, Any]:
    figures = _figures(task, trace.points)
    print(task.name, name, dict(settings), figures, f"{trace.seconds[-1]:.1f} s", flush=True)
    return {
        "name": name,
        "settings": settings,
        "source": trace.source,
        **figures,
        "seconds": trace.seconds[-1],
        "flops": trace.flops[-1],
        "trace": _thinned(trace, "max_cosine" if task.gallery is None else "objective"),
    }


def _figures(task: Task, points: np.ndarray) -> dict[str, float]:
    """Measure points exactly."""
    figures = measure(task.problem, jnp.asarray(points))
    max_cosine = float(jnp.max(figures.nearest))
    if task.gallery is None or figures.gallery is None:
        return {"max_cosine": max_cosine}
    near = float(jnp.mean(figures.gallery))
    objective = max_cosine + task.gallery.alpha * (1 - near)
    return {"max_cosine": max_cosine, "gallery_mean_cosine": near, "objective": objective}


def _thinned(trace: Trace, name: str) -> dict[str, Any]:
    """Keep about a hundred points of a trace, each with the best objective so far."""
    best = np.minimum.accumulate(trace.objective)
    kept = np.unique(np.linspace(0, len(best) - 1, 100).astype(int))
    return {
        "seconds": [round(trace.seconds[i], 4) for i in kept],
        name: [round(float(best[i]), 6) for i in kept],
        "flops": [trace.flops[i] for i in kept],
    }


if __name__ == "__main__":
    main()
