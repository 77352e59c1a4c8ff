"""What rounded products do to a packing: emulated, so a CPU tells as much, only more slowly.

    python -m benchmarks.rounding [--parts coarse three_pass] [--size 2000 128] [--steps 200] [--seeds 3]
        [--late-shares 1 0.2] [--work FOLDER]

``coarse`` begins with bfloat16 products and ends with float32 ones. ``three_pass`` holds the error of a
cosine against float64, and ends the same runs with three-pass products and with float32 ones; both are
measured in float32. The ends begin at the same state, after bfloat16 or float32 steps. A third one has
float32 products in smaller tiles, so only the order of its sums differs: so far apart are equal ends.

The size of the paper takes an hour on one core, with ``--parts three_pass --size 10000 512 --late-shares
0.2 --seeds 1``. ``--work`` keeps what is done, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import work_folder, write_result
from hyperface_jax import sphere
from hyperface_jax.io.checkpoints import Checkpointer
from hyperface_jax.io.files import atomic_write_json, read_json
from hyperface_jax.packing import Annealed, Loop, LoopState, PackingProblem, solve
from hyperface_jax.pairwise import Precision, Sweep
from hyperface_jax.pairwise.blockwise import default_block_size
from hyperface_jax.pairwise.precision import scores

PARTS = ("coarse", "three_pass")
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16_x3", "bf16")
SHARES = (0.0, 0.5, 0.7, 0.8, 0.9)
ENDS = ("float32", "float32_again", "bf16_x3")
EARLY: tuple[Precision, ...] = ("bf16", "float32")
_ERROR_ROWS = 2000
_STEPS_BETWEEN_SAVES = 40


def main() -> None:
    """Run the parts and write one JSON each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--size", nargs=2, type=int, default=(2000, 128), metavar=("N", "D"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--late-shares", nargs="+", type=float, default=(1.0, 0.2))
    parser.add_argument("--work", type=Path, help="folder to keep, and to go on in")
    options = parser.parse_args()
    n, d = size = tuple(options.size)
    steps, seeds = options.steps, options.seeds
    if "coarse" in options.parts:
        write_result("precision", {"rows": coarse(size, steps, seeds)})
    if "three_pass" in options.parts:
        ends = [
            End(n, d, steps, round(share * steps), early, seed)
            for share in options.late_shares
            for early in (EARLY if share < 1 else EARLY[:1])
            for seed in range(seeds)
        ]
        with work_folder(options.work) as work:
            rows = three_pass(ends, work)
        name = "three_pass" if size == (2000, 128) else "three_pass_{}x{}".format(*size)
        write_result(name, {"errors": errors(size), "rows": rows})


def coarse(size: tuple[int, int], steps: int, seeds: int) -> list[dict[str, Any]]:
    """Pack with bfloat16 products in a share of the steps, and float32 after them."""
    rows = []
    for share in SHARES:
        cosines = [_packed(size, steps, seed, share) for seed in range(seeds)]
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


class End(NamedTuple):
    """The last steps of a run, and the products of the steps before them."""

    n: int
    d: int
    steps: int
    late_steps: int
    early_precision: Precision
    seed: int

    @property
    def problem(self) -> PackingProblem:
        """What is packed."""
        return PackingProblem(num_points=self.n, dim=self.d)

    def loop(self, name: str) -> Loop:
        """Return the run with one of the ends."""
        is_again = name == "float32_again"
        block_size = default_block_size(self.n) // 2 if is_again else None
        method = Annealed(
            num_steps=self.steps,
            coarse_steps=self.steps - self.late_steps,
            coarse_precision=self.early_precision,
            precision="bf16_x3" if name == "bf16_x3" else "float32",
        )
        return Loop.of(method, self.problem, Sweep(block_size=block_size))


def three_pass(ends: list[End], work: Path) -> list[dict[str, Any]]:
    """End runs with three-pass products and with float32, unless a folder holds them already."""
    done = work / "rows.json"
    rows = read_json(done)["rows"] if done.exists() else []
    for end in ends:
        row = next((r for r in rows if all(r[k] == v for k, v in end._asdict().items())), None)
        if row is None:
            rows.append(row := end._asdict())
        for name in ENDS:
            if name not in row:
                row[name] = _ended(end, name, work)
                atomic_write_json(done, {"rows": rows})
        print(row, flush=True)
    asked = [end._asdict() for end in ends]
    found = [row for row in rows if {k: row[k] for k in End._fields} in asked]
    return [
        {
            **row,
            "difference": row["bf16_x3"] - row["float32"],
            "difference_again": row["float32_again"] - row["float32"],
        }
        for row in found
    ]


def _ended(end: End, name: str, work: Path) -> float:
    """Return the max cosine of a run, measured in float32."""
    loop = end.loop(name)
    state = _advanced(loop, end, _early(end, work), end.steps)
    return float(jnp.asarray(loop.finish(end.problem, state).max_cosine))


def _early(end: End, work: Path) -> LoopState:
    """Return the state at which both ends begin, from the folder if it is there."""
    loop, num_early = end.loop("float32"), end.steps - end.late_steps
    with Checkpointer(work / "-".join(map(str, end))) as saved:
        found = saved.restore(loop.shapes(end.problem))
        if found:
            state = found.state
        else:
            state = loop.init(end.problem, end.problem, jax.random.key(end.seed), "uniform")
        while (done := int(state.now.step)) < num_early:
            state = _advanced(loop, end, state, min(done + _STEPS_BETWEEN_SAVES, num_early))
            saved.save(int(state.now.step), state, {})
    return state


def _advanced(loop: Loop, end: End, state: LoopState, stop: int) -> LoopState:
    while (step := int(state.now.step)) < stop:
        state, _ = loop.advance(end.problem, state, min(loop.chunk_at(step), stop - step))
    return state


def _packed(size: tuple[int, int], steps: int, seed: int, share: float) -> float:
    method = Annealed(num_steps=steps, coarse_steps=int(share * steps), precision="float32")
    problem = PackingProblem(num_points=size[0], dim=size[1])
    return float(jnp.asarray(solve(problem, jax.random.key(seed), method=method).max_cosine))


if __name__ == "__main__":
    main()
