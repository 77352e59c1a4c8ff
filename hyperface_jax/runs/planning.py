"""The ``plan`` stage: what a packing would cost on a machine, before you rent the machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hyperface_jax.errors import require
from hyperface_jax.planning.cost import Memory, Method, StepCost
from hyperface_jax.planning.machines import Machine, parse_devices
from hyperface_jax.planning.plans import PlannedRun, plan_run
from hyperface_jax.runs.packing.settings import Pack
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import command, option
from hyperface_jax.runs.support.watch import QUIET, Watch

_GIB, _MIB = 2**30, 2**20
_PRODUCTS = {"float32": "float32", "bf16_x3": "three bfloat16 products instead of a float32 one"}
_UNITS = (("days", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Estimate the memory, the time and the settings of a packing on a machine, by a cost model."""

    num_ids: int
    """Number of identities."""
    dim: int
    """Dimension of the space that contains the sphere."""
    devices: str = option(metavar="KIND:COUNT")
    """Kind and number of devices, for example v5e:256. Kinds: v5e, v5p, v6e, a100, h100, h200, b200,
    cpu."""
    method: Method | None = None
    """Packing method. annealed: full batch. stochastic: mini-batches. Default: annealed if it fits in
    memory and takes at most a day, else stochastic."""
    steps: int | None = None
    """Number of optimizer steps. Default: chosen from num-ids and dim."""
    batch_size: int | None = None
    """Number of points per mini-batch. For the stochastic method only."""
    gallery_rows: int | None = None
    """Number of rows of the gallery. Default: no gallery."""


def plan(config: Plan, *, watch: Watch = QUIET) -> Result:
    """Estimate what a packing costs on a machine.

    Args:
        config: the settings.
        watch: unused, because nothing here takes long.

    Returns:
        The plan in bytes, FLOPs and seconds; its ``command`` runs the packing that was planned.

    Raises:
        InputError: the settings are invalid, or the packing does not fit in memory.
    """
    del watch
    checks = [
        ("num_ids", config.num_ids >= 2, "at least 2"),
        ("dim", config.dim >= 2, "at least 2"),
        ("steps", config.steps is None or config.steps >= 1, "at least 1"),
        ("gallery_rows", config.gallery_rows is None or config.gallery_rows >= 1, "at least 1"),
    ]
    require(config, checks)
    machine = parse_devices(config.devices)
    planned = plan_run(
        config.num_ids,
        config.dim,
        machine,
        method=config.method,
        num_steps=config.steps,
        batch_size=config.batch_size,
        num_gallery=config.gallery_rows or 0,
    )
    words = command(packing(config, machine, planned))
    text = "\n".join(lines(config, machine, planned, words))
    return Result(None, summarize(config, machine, planned, words), text)


def packing(config: Plan, machine: Machine, planned: PlannedRun) -> Pack:
    """Return the settings of the packing that was planned."""
    return Pack(
        num_ids=config.num_ids,
        dim=config.dim,
        out=Path("run"),
        gallery=Path("gallery.npy") if config.gallery_rows else None,
        method=planned.method,
        steps=planned.num_steps,
        coarse_steps=planned.coarse_steps,
        batch_size=planned.batch_size,
        distributed="yes" if machine.is_pod_slice else "auto",
    )


def lines(config: Plan, machine: Machine, planned: PlannedRun, words: str) -> list[str]:
    """Return the plan as text."""
    step = planned.step
    return [
        f"{config.num_ids} identities in {config.dim} dimensions on {config.devices}, "
        f"{planned.method}: {planned.num_steps} steps, {_time(planned.seconds)}",
        *_memory_lines(step.memory, machine),
        *_step_lines(step),
        f"  with bfloat16 products: {_time(planned.coarse_step.seconds)} per step, "
        f"{planned.coarse_step.bottleneck}",
        *_run_lines(planned, machine),
        "settings:",
        f"  {words}",
        f"  products: {_precision(planned)}",
        *_block_lines(planned),
        *(f"note: {note}" for note in notes(machine)),
    ]


def _memory_lines(memory: Memory, machine: Machine) -> list[str]:
    parts = [
        f"  {name.replace('_', ' '):14} {_size(size)}"
        for name, size in memory._asdict().items()
        if size
    ]
    return [f"memory a device: {_size(memory.total)} of {_size(machine.memory_bytes)}", *parts]


def _step_lines(step: StepCost) -> list[str]:
    rate = step.flops / step.seconds / 1e12
    return [
        f"time per step: {_time(step.seconds)}, bottleneck: {step.bottleneck}",
        f"  compute        {_time(step.compute_seconds)} ({step.flops:.3g} FLOP per device, "
        f"{rate:.3g} TFLOP/s)",
        f"  tiles          {_time(step.tile_seconds)} (scores through memory, between products)",
        f"  memory traffic {_time(step.traffic_seconds)} (in parallel with compute)",
        f"  communication  {_time(step.communication_seconds)} ({_size(step.sent_bytes)} sent)",
        f"  latency        {_time(step.latency_seconds)}",
    ]


def _run_lines(planned: PlannedRun, machine: Machine) -> list[str]:
    num_hosts = machine.num_hosts
    share = f" ({_size(planned.checkpoint_bytes / num_hosts)} a host)" if num_hosts > 1 else ""
    return [
        *_gallery_lines(planned),
        f"total time: {_time(planned.seconds)}, including {_time(planned.measurement_seconds)} for "
        "measuring, but not compilation and files",
        f"checkpoint: {_size(planned.checkpoint_bytes)}{share}; two are kept",
    ]


def _gallery_lines(planned: PlannedRun) -> list[str]:
    if not planned.num_searches:
        return []
    took = _time(planned.search_seconds)
    return [f"gallery: {planned.num_searches} searches for the nearest rows, {took}"]


def _precision(planned: PlannedRun) -> str:
    fine = _PRODUCTS[planned.precision]
    if not planned.coarse_steps:
        return f"{fine} in every step"
    return f"bfloat16 in the first {planned.coarse_steps} steps, then {fine}"


def _block_lines(planned: PlannedRun) -> list[str]:
    if planned.method != "stochastic":
        return []
    rows = "all rows" if planned.measured_rows is None else f"{planned.measured_rows} rows"
    return [
        f"  {planned.num_groups} groups, blocks of {planned.block_size} points, "
        f"{planned.num_measurements} measurements of {rows}"
    ]


def notes(machine: Machine) -> list[str]:
    """Say what the figures are based on."""
    if machine.name == "cpu":
        fitted = "the rate is fitted to steps timed on one 2-core CPU (benchmarks/scaling.py)"
    else:
        fitted = (
            f"it assumes {machine.efficiency:.0%} of the published peak rates; FLOPs and "
            "bytes are checked against programs compiled for CPU devices"
        )
    found = [f"this is a model: {fitted}; it has not been run on {_described(machine)}"]
    if machine.is_accelerator:
        found.append(
            f"a float32 product is assumed to take {machine.float32_passes:g} times as long as a "
            f"bfloat16 one, and three passes {machine.three_passes:g} times; the start and the result "
            "are measured in float32"
        )
    if machine.stores_tiles:
        found.append(
            f"tiles of up to {machine.largest_block} rows are assumed to go through memory at its "
            "published bandwidth, while no product runs"
        )
    if machine.num_devices > machine.linked_devices:
        found.append(
            f"more than {machine.linked_devices} {machine.name} share a network that is slower than the "
            "link assumed here"
        )
    return found


def _described(machine: Machine) -> str:
    if machine.name == "cpu":
        return "several CPUs" if machine.num_devices > 1 else "another CPU"
    return f"{machine.name}:{machine.num_devices}"


def summarize(config: Plan, machine: Machine, planned: PlannedRun, words: str) -> dict[str, Any]:
    """Return the plan as plain values: bytes, FLOPs and seconds."""
    figures = planned._asdict()
    for name in ("step", "coarse_step"):
        step: StepCost = figures[name]
        memory = {**step.memory._asdict(), "total": step.memory.total}
        figures[name] = {**step._asdict(), "memory": memory}
    return {
        "num_ids": config.num_ids,
        "dim": config.dim,
        "machine": asdict(machine),
        **figures,
        "precision": _precision(planned),
        "command": words,
        "notes": notes(machine),
    }


def _size(size: float) -> str:
    return f"{size / _GIB:.3g} GiB" if size >= _GIB else f"{size / _MIB:.3g} MiB"


def _time(seconds: float) -> str:
    name, unit = next((pair for pair in _UNITS if seconds >= pair[1]), _UNITS[-1])
    return f"{seconds / unit:.3g} {name}"
