"""What a device computes, holds and sends as devices are added, and what the CPU makes of a step.

    python -m benchmarks.scaling [--parts compile time draw]

``compile`` lowers one step for 1, 2, 4 and 8 virtual CPU devices and reads the compiled program:
memory, collectives and matrix products with the trip counts of their loops. Virtual devices share
the cores, so nothing is timed there. ``time`` runs steps on one device, without virtual ones, and
fits the rate of the ``cpu`` entry of :mod:`hyperface_jax.planning.machines`. ``draw`` makes the picture
and prints the tables. Each part runs in its own process when several are asked for.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from benchmarks.common import PICTURES, read_result, result_path, write_result
from benchmarks.hlo import Program
from hyperface_jax import meshes, sphere
from hyperface_jax.packing import Annealed, Loop, MiniBatch, PackingProblem, PackingState
from hyperface_jax.packing.blocks import block_shape, exchange
from hyperface_jax.packing.methods import Seen, unmeasured
from hyperface_jax.packing.problem import Evaluated
from hyperface_jax.pairwise import Sweep
from hyperface_jax.pairwise.blockwise import default_block_size
from hyperface_jax.planning.cost import StepCost, step_cost
from hyperface_jax.planning.machines import KINDS, Machine, parse_devices

PARTS = ("compile", "time", "draw")
DEVICES = (1, 2, 4, 8)
DIM, BATCH, GROUPS = 128, 1024, 8
STRONG_POINTS, WEAK_POINTS = 16_384, 8192
TIMED = (
    ("annealed", 4096, 128, None),
    ("annealed", 6144, 512, None),
    ("annealed", 12_288, 128, None),
    ("annealed", 8192, 256, None),
    ("stochastic", 65_536, 128, 1024),
    ("stochastic", 16_384, 512, 2048),
    ("stochastic", 65_536, 256, 1024),
)
_MIB = 2**20
_CORES = len(os.sched_getaffinity(0))


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parts = parser.parse_args().parts
    if len(parts) > 1:
        for part in parts:
            command = [sys.executable, "-m", "benchmarks.scaling", "--parts", part]
            subprocess.run(command, check=True)
        return
    if parts[0] == "draw":
        draw()
        return
    figures = {"compile": compile_all, "time": time_all}[parts[0]]()
    known = read_result("scaling") if result_path("scaling").exists() else None
    kept = {k: v for k, v in (known or {}).items() if k != "about"}
    write_result("scaling", {**kept, **figures})


# Compiled programs


def compile_all() -> dict[str, Any]:
    """Compile a step of both methods for every number of devices, n fixed and n growing."""
    jax.config.update("jax_num_cpu_devices", max(DEVICES))
    rows = []
    for method in ("annealed", "stochastic"):
        for scaling in ("strong", "weak"):
            rows += [compiled(method, scaling, count) for count in DEVICES]
    return {"compiled": rows, "ratios": ratios(rows)}


def num_points(method: str, scaling: str, num_devices: int) -> int:
    """Return n: fixed, or such that the FLOPs of a device stay the same."""
    if scaling == "strong":
        return STRONG_POINTS
    growth = num_devices**0.5 if method == "annealed" else num_devices
    return round(WEAK_POINTS * growth)


def compiled(method: str, scaling: str, num_devices: int) -> dict[str, Any]:
    """Compile one step, and set the program beside the model."""
    size = num_points(method, scaling, num_devices)
    mesh = meshes.make_mesh(jax.devices()[:num_devices]) if num_devices > 1 else None
    problem, loop = _built(method, size, DIM, BATCH, GROUPS, mesh)
    program = loop.lower(problem, 1).compile()
    memory = program.memory_analysis()
    assert memory is not None
    model = _model(method, size, DIM, parse_devices(f"cpu:{num_devices}"), BATCH, GROUPS)
    read = _parsed(program, _triangle_rows(loop, model))
    flops = read.traffic().flops
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    row = {
        "method": method,
        "scaling": scaling,
        "num_devices": num_devices,
        "n": size,
        "d": DIM,
        "rows": model.rows,
        "flops": flops,
        "model_flops": model.flops,
        "memory_bytes": held,
        "model_memory_bytes": model.memory.total,
        "state_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "collectives": count_collectives(read),
        "model_sent_bytes": model.sent_bytes,
    }
    if isinstance(loop.method, MiniBatch) and mesh is not None:
        row["exchange_collectives"] = _exchange(loop.shapes(problem).now.x, mesh)
    print(
        f"{method} {scaling} D={num_devices} n={size}: "
        f"{flops / 1e9:.2f} GFLOP (model {model.flops / 1e9:.2f}), "
        f"{held / _MIB:.1f} MiB (model {model.memory.total / _MIB:.1f})",
        flush=True,
    )
    return row


@dataclass(frozen=True, kw_only=True)
class _BlockSteps(MiniBatch):
    """The steps between two exchanges and two measurements, for one device to count."""

    def look(
        self,
        problem: PackingProblem,
        before: PackingState,
        after: PackingState,
        figures: Evaluated,
        sweep: Sweep,
    ) -> Seen:
        """Measure nothing."""
        del problem, before, sweep
        large = unmeasured(after.x)
        return Seen(after.x, after.row, large, figures.max_cosine, jnp.asarray(False))


def _built(
    method: str, size: int, dim: int, batch_size: int | None, num_groups: int | None, mesh: Any
) -> tuple[PackingProblem, Loop]:
    problem = PackingProblem(num_points=size, dim=dim)
    chosen = _BlockSteps(batch_size=batch_size, num_groups=num_groups)
    loop = Loop.of(Annealed() if method == "annealed" else chosen, problem, Sweep(mesh))
    return problem, loop


def _model(
    method: Any, size: int, dim: int, machine: Machine, batch_size: Any, num_groups: Any
) -> StepCost:
    if method == "annealed":
        return step_cost(size, dim, machine)
    return step_cost(
        size, dim, machine, method=method, batch_size=batch_size, num_groups=num_groups
    )


def _triangle_rows(loop: Loop, model: StepCost) -> int:
    """Return how many rows meet each other in a symmetric fold of a device."""
    if isinstance(loop.method, MiniBatch):
        return block_shape(model.rows * loop.sweep.num_devices // GROUPS, BATCH)[1]
    return model.rows


def _exchange(x: Any, mesh: Any) -> dict[str, Any]:
    def exchanged(x: Any, key: Any) -> Any:
        return exchange(x, key, GROUPS, mesh)

    program = jax.jit(exchanged).lower(x, jax.random.key(0)).compile()
    return count_collectives(_parsed(program, 1))


def ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Relate the FLOPs and the memory of a device to those on one device."""
    found = []
    for row in rows:
        one = next(r for r in rows if r["num_devices"] == 1 and _key(r) == _key(row))
        found.append(
            {
                **{name: row[name] for name in ("method", "scaling", "num_devices", "n")},
                "flops": row["flops"] / one["flops"],
                "memory": row["memory_bytes"] / one["memory_bytes"],
                "state": row["state_bytes"] / one["state_bytes"],
            }
        )
    return found


def _key(row: dict[str, Any]) -> tuple[str, str]:
    return row["method"], row["scaling"]


# Reading a compiled program


_COLLECTIVES = ("collective-permute", "all-to-all", "all-gather", "all-reduce", "reduce-scatter")


def count_collectives(program: Program) -> dict[str, dict[str, float]]:
    """Return by kind: instructions in the text, their runs, and the bytes they bring to a device."""
    found: dict[str, dict[str, float]] = {}
    for instruction, _, times in program.visits():
        kind = instruction.opcode.removesuffix("-start")
        if kind in _COLLECTIVES:
            row = found.setdefault(kind, {"instructions": 0, "runs": 0.0, "bytes": 0.0})
            row["instructions"] += 1
            row["runs"] += times
            row["bytes"] += times * sum(array.num_bytes for array in instruction.arrays)
    return found


def _parsed(compiled: Any, rows: int) -> Program:
    """Parse a program whose triangle of tiles is of ``rows`` rows: half of the other blocks."""
    blocks = -(-rows // default_block_size(rows))
    return Program(compiled.as_text() or "", unknown_trips=(blocks - 1) / 2)


# Times on one device


def time_all() -> dict[str, Any]:
    """Time steps on the CPU, and fit the rate at which it does the FLOPs of the model.

    Other work on the machine only slows a step down, so the fastest of this and earlier calls counts.
    """
    known = read_result("scaling") if result_path("scaling").exists() else None
    before = known or {}
    peak = max(_product_rate(), before.get("fit", {}).get("peak_flops", 0))
    bandwidth = max(_copy_bandwidth(), before.get("fit", {}).get("memory_bandwidth", 0))
    earlier = {_shape_of(row): row for row in before.get("timed", ())}
    rows = []
    for shape in TIMED:
        row = timed(*shape)
        rows.append(min(row, earlier.get(shape, row), key=lambda r: r["free_seconds"]))
    rates = [row["model_flops"] / row["free_seconds"] for row in rows]
    rate = math.exp(sum(map(math.log, rates)) / len(rates))
    for row in rows:
        row["time_over_model"] = row["free_seconds"] * rate / row["model_flops"]
    fit = {
        "cores": _CORES,
        "peak_flops": peak,
        "efficiency": rate / peak,
        "flops_per_second": rate,
        "memory_bandwidth": bandwidth,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "worst_time_over_model": max(row["time_over_model"] for row in rows),
        "best_time_over_model": min(row["time_over_model"] for row in rows),
    }
    return {"timed": rows, "fit": fit}


def _shape_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["method"], row["n"], row["d"], row["batch_size"]


class _Time(NamedTuple):
    """Seconds on cores of one's own, wall seconds, and the cores that worked in them."""

    free: float
    wall: float
    cores: float


def _fastest(function: Callable[[], Any], runs: int) -> _Time:
    """Time a function, its result included.

    Where other work takes a part of the cores, the processor time tells what they would have taken
    alone: it is shared evenly over all cores, as the products, nearly all of it, are.
    """
    times = []
    for _ in range(runs):
        start, busy = time.perf_counter(), time.process_time()
        jax.block_until_ready(function())
        wall, busy = time.perf_counter() - start, time.process_time() - busy
        times.append(_Time(busy / _CORES, wall, busy / wall))
    return min(times)


def timed(method: str, size: int, dim: int, batch_size: int | None) -> dict[str, Any]:
    """Time steps of one shape: the fastest of three scans."""
    problem, loop = _built(method, size, dim, batch_size, None, None)
    model = _model(method, size, dim, KINDS["cpu"], batch_size, None)
    steps = max(int(2e10 // model.flops), 1)
    states = [loop.init(problem, loop.place(problem), jax.random.key(0), "uniform")]

    def run() -> Any:
        states[0], _ = loop.advance(problem, states[0], steps)
        return states[0]

    jax.block_until_ready(run())
    took = _fastest(run, 3)
    row = {
        "method": method,
        "n": size,
        "d": dim,
        "batch_size": batch_size,
        "seconds": took.wall / steps,
        "cores_busy": took.cores,
        "free_seconds": took.free / steps,
        "model_flops": model.flops,
        "gflops": model.flops * steps / took.free / 1e9,
    }
    print(
        f"{method} n={size} d={dim}: {row['gflops']:.0f} GFLOP/s, {took.cores:.1f} cores busy",
        flush=True,
    )
    return row


def _product_rate() -> float:
    """Measure the fastest plain product of tall matrices, FLOP/s."""
    rates = []
    scores, product = jax.jit(lambda x: x @ x.T), jax.jit(lambda w, x: w @ x)
    for size, dim in ((4096, 128), (4096, 512)):
        x = sphere.sample_uniform(jax.random.key(0), size, dim)
        weights = scores(x)
        jax.block_until_ready(product(weights, x))
        flops = 2.0 * size * size * dim
        rates.append(flops / _fastest(partial(scores, x), 5).free)
        rates.append(flops / _fastest(partial(product, weights, x), 5).free)
    return max(rates)


def _copy_bandwidth() -> float:
    """Measure bytes read and written a second by a map, in place, too large for the caches."""
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    arrays = [add(jnp.ones((64 * _MIB,), jnp.float32))]

    def run() -> Any:
        arrays[0] = add(arrays[0])
        return arrays[0]

    return 2 * arrays[0].nbytes / _fastest(run, 5).wall


# Table and picture


def draw() -> None:
    """Print the tables and write the picture."""
    figures = read_result("scaling")
    assert figures is not None
    for row in figures["ratios"]:
        print(
            f"{row['method']:10} {row['scaling']:6} D={row['num_devices']} n={row['n']:6} "
            f"FLOPs x {row['flops']:.3f}  memory x {row['memory']:.3f}  state x {row['state']:.3f}"
        )
    for row in figures["compiled"]:
        moved = {
            k: f"{v['runs']:g} runs, {v['bytes'] / _MIB:.2f} MiB"
            for k, v in row["collectives"].items()
        }
        print(row["method"], row["scaling"], f"D={row['num_devices']}", moved)
    for row in figures.get("timed", ()):
        print(
            f"{row['method']} n={row['n']} d={row['d']}: {row['free_seconds']:.4f} s, "
            f"time / model {row['time_over_model']:.2f}"
        )
    PICTURES.mkdir(parents=True, exist_ok=True)
    draw_scaling(figures).savefig(PICTURES / "scaling.png", dpi=130)


def draw_scaling(figures: dict[str, Any]) -> Figure:
    """Draw FLOPs and memory of a device against the number of devices, compiled and modeled."""
    figure = Figure(figsize=(9.2, 7.6), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True)
    quantities = (("flops", "GFLOP a device and step", 1e9), ("memory_bytes", "MiB a device", _MIB))
    for axes_row, method in zip(grid, ("annealed", "stochastic"), strict=True):
        for axes, (name, label, unit) in zip(axes_row, quantities, strict=True):
            for scaling, color in (("strong", "tab:blue"), ("weak", "tab:orange")):
                rows = [r for r in figures["compiled"] if _key(r) == (method, scaling)]
                devices = [r["num_devices"] for r in rows]
                axes.plot(
                    devices,
                    [r[name] / unit for r in rows],
                    "o",
                    color=color,
                    label=f"{scaling}, compiled",
                )
                model = [r[f"model_{name}"] / unit for r in rows]
                axes.plot(devices, model, "-", color=color, alpha=0.7, label=f"{scaling}, model")
            axes.set(title=method, ylabel=label, xscale="log")
            axes.set_yscale("log", base=2)
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_xticks(DEVICES, [str(count) for count in DEVICES])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
    for axes in grid[-1]:
        axes.set_xlabel("virtual devices")
    figure.axes[0].legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
