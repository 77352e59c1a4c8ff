"""``hyperface plan``: what a run would cost on a machine, before it is rented."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from typing import Any

from hyperface_jax.planning.cost import Memory, Method, StepCost
from hyperface_jax.planning.machines import Machine, parse_devices
from hyperface_jax.planning.plans import Plan as CostPlan
from hyperface_jax.planning.plans import choose_plan

_GIB, _MIB = 2**30, 2**20
_UNITS = (("days", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Print memory, time and settings of a packing run on a machine, by a cost model."""

    num_ids: int
    """Number of identities."""
    dim: int
    """Dimension of the sphere's space."""
    devices: str
    """KIND:COUNT, for example v5e:256. Kinds: v5e, v5p, v6e, a100, h100, h200, b200, cpu."""
    method: Method | None = None
    """annealed: full batch. stochastic: mini-batches. Default: full batch where it fits into memory
    and a day."""
    steps: int | None = None
    """Optimizer steps; chosen from num-ids and dim if not given."""
    batch_size: int | None = None
    """Points of a mini-batch (stochastic)."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Print the plan."""
        machine = parse_devices(self.devices)
        plan = choose_plan(
            self.num_ids,
            self.dim,
            machine,
            method=self.method,
            num_iterations=self.steps,
            batch_size=self.batch_size,
        )
        words = command(self, machine, plan)
        if self.json:
            print(json.dumps(as_json(self, machine, plan, words), indent=2))
        else:
            print("\n".join(lines(self, machine, plan, words)))
        return 0


def command(config: Plan, machine: Machine, plan: CostPlan) -> str:
    """Return the ``hyperface pack`` command of the plan."""
    words = ["hyperface", "pack", "--num-ids", config.num_ids, "--dim", config.dim]
    words += ["--method", plan.method, "--steps", plan.num_iterations]
    if plan.coarse_steps:
        words += ["--coarse-steps", plan.coarse_steps]
    if plan.batch_size is not None:
        words += ["--batch-size", plan.batch_size]
    if machine.is_pod_slice:
        words += ["--distributed", "yes"]
    return shlex.join(map(str, [*words, "--out", "run"]))


def lines(config: Plan, machine: Machine, plan: CostPlan, words: str) -> list[str]:
    """Return the plan as text."""
    step = plan.step
    return [
        f"{config.num_ids} identities in {config.dim} dimensions on {config.devices}, "
        f"{plan.method}: {plan.num_iterations} steps, {_time(plan.seconds)}",
        *_memory_lines(step.memory, machine),
        *_step_lines(step),
        f"  with bfloat16 products: {_time(plan.coarse_step.seconds)} a step, "
        f"{plan.coarse_step.bottleneck}",
        *_run_lines(plan),
        "settings:",
        f"  {words}",
        f"  products: {_precision(plan)}",
        *_block_lines(plan),
        *(f"note: {note}" for note in notes(machine)),
    ]


def _memory_lines(memory: Memory, machine: Machine) -> list[str]:
    parts = [
        f"  {name.replace('_', ' '):14} {_size(size)}" for name, size in memory._asdict().items()
    ]
    return [f"memory a device: {_size(memory.total)} of {_size(machine.memory_bytes)}", *parts]


def _step_lines(step: StepCost) -> list[str]:
    rate = step.flops / step.seconds / 1e12
    return [
        f"time per step: {_time(step.seconds)}, bottleneck: {step.bottleneck}",
        f"  compute        {_time(step.compute_seconds)} ({step.flops:.3g} FLOP a device, "
        f"{rate:.3g} TFLOP/s)",
        f"  memory traffic {_time(step.traffic_seconds)} (beside the compute)",
        f"  communication  {_time(step.communication_seconds)} ({_size(step.sent_bytes)} sent)",
        f"  latency        {_time(step.latency_seconds)}",
    ]


def _run_lines(plan: CostPlan) -> list[str]:
    return [
        f"total time: {_time(plan.seconds)}, of which measuring {_time(plan.measurement_seconds)}; "
        "compilation and files come on top",
        f"checkpoint: {_size(plan.checkpoint_bytes)}; two are kept",
    ]


def _precision(plan: CostPlan) -> str:
    if not plan.coarse_steps:
        return "float32 in every step"
    return f"bfloat16 in the first {plan.coarse_steps} steps, then float32"


def _block_lines(plan: CostPlan) -> list[str]:
    if plan.method != "stochastic":
        return []
    rows = "all rows" if plan.measured_rows is None else f"{plan.measured_rows} rows"
    return [
        f"  {plan.num_groups} groups, blocks of {plan.block_size} points, "
        f"{plan.num_measurements} measurements of {rows}"
    ]


def notes(machine: Machine) -> list[str]:
    """Say what the figures rest on."""
    if machine.name == "cpu":
        fitted = "the rate is fitted to steps timed on one 2-core CPU (benchmarks/scaling.py)"
    else:
        fitted = (
            f"peak rates are public ones and {machine.efficiency:.0%} of them is assumed; FLOPs and "
            "bytes are checked against programs compiled for CPU devices"
        )
    found = [f"this is a model: {fitted}; it has not been run on {_described(machine)}"]
    if machine.num_devices > machine.linked_devices:
        found.append(
            f"more than {machine.linked_devices} {machine.name} share a slower network than the link "
            "that is assumed"
        )
    return found


def _described(machine: Machine) -> str:
    if machine.name == "cpu":
        return "several CPUs" if machine.num_devices > 1 else "another CPU"
    return f"{machine.name}:{machine.num_devices}"


def as_json(config: Plan, machine: Machine, plan: CostPlan, words: str) -> dict[str, Any]:
    """Return the plan as plain values: bytes, FLOPs and seconds."""
    figures = plan._asdict()
    for name in ("step", "coarse_step"):
        step: StepCost = figures[name]
        memory = {**step.memory._asdict(), "total": step.memory.total}
        figures[name] = {**step._asdict(), "memory": memory}
    return {
        "num_ids": config.num_ids,
        "dim": config.dim,
        "machine": asdict(machine),
        **figures,
        "precision": _precision(plan),
        "command": words,
        "notes": notes(machine),
    }


def _size(size: float) -> str:
    return f"{size / _GIB:.3g} GiB" if size >= _GIB else f"{size / _MIB:.3g} MiB"


def _time(seconds: float) -> str:
    name, unit = next((pair for pair in _UNITS if seconds >= pair[1]), _UNITS[-1])
    return f"{seconds / unit:.3g} {name}"
