"""The full-batch step, compiled for TPU slices on a machine that has none.

    python -m benchmarks.tpu_aot [--quick]

Needs libtpu. Nothing here has run on a TPU: memory, traffic and schedule are read from the compiled
program, and the time of a step is the largest of what its FLOPs, its HBM traffic and its transfers
take at the published peaks.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from benchmarks.common import write_result
from benchmarks.hlo import Permute, Program, Traffic
from hyperface_jax import meshes
from hyperface_jax.packing import Annealed, Loop, PackingProblem
from hyperface_jax.pairwise import Precision, Sweep
from hyperface_jax.pairwise.blockwise import default_block_size

SLICES = ("v5e:16x16", "v5p:8x8x8", "v6e:16x16")
SIZES = (1_000_000, 10_000_000, 100_000_000)
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16_x3", "bf16")
_DIM = 512
_STEPS = 2
_NOTE = "compiled for these TPU slices, never run on one: every time is modeled"


class Chip(NamedTuple):
    """Published peaks of a chip, a second where it is a rate."""

    bf16_flops: float
    hbm_gib: float
    hbm_bytes: float
    link_bytes: float
    """One link, one direction."""
    vmem_bytes: int
    source: str


_DOCS = "https://cloud.google.com/tpu/docs"
_VMEM = "VMEM of a core from jax/_src/pallas/mosaic/tpu_info.py"
CHIPS = {
    "v5e": Chip(197e12, 16, 819e9, 50e9, 128 * 2**20, f"{_DOCS}/v5e (400 GB/s, 4 links); {_VMEM}"),
    "v5p": Chip(
        459e12, 95, 2765e9, 100e9, 64 * 2**20, f"{_DOCS}/v5p (1200 GB/s, 6 links); {_VMEM}"
    ),
    "v6e": Chip(
        918e12, 32, 1640e9, 100e9, 128 * 2**20, f"{_DOCS}/v6e (800 GB/s, 4 links); {_VMEM}"
    ),
}


@dataclass(frozen=True)
class Step:
    """A compiled step of one device; traffic and transfers are those of one step.

    Attributes:
        chip: what it is compiled for.
        num_devices: of the slice.
        local_rows: of a device.
        block: rows of a tile.
        dim: of the points.
        arrays: sharded arrays of n rows in the optimizer: points, momentum and force, best points.
        program: its text, parsed.
        memory: what the compiler says of a device's memory.
    """

    chip: Chip
    num_devices: int
    local_rows: int
    block: int
    dim: int
    arrays: int
    program: Program
    memory: Any

    @property
    def traffic(self) -> Traffic:
        """What a device moves and computes."""
        return Traffic(*(figure / _STEPS for figure in self.program.traffic()))

    @property
    def hops(self) -> list[Permute]:
        """Transfers of the ring's innermost loop, all steps together."""
        permutes = self.program.permutes()
        most = max(permute.times for permute in permutes)
        return [permute for permute in permutes if permute.times == most]

    @property
    def chunk(self) -> int:
        """Rows that travel together."""
        return round(max(hop.num_bytes / hop.times for hop in self.hops) / (4 * self.dim))

    @property
    def sent_bytes(self) -> float:
        """Bytes that a device sends."""
        return sum(permute.num_bytes for permute in self.program.permutes()) / _STEPS

    @property
    def synchronous_share(self) -> float:
        """Share of the bytes sent while the device waits."""
        permutes = self.program.permutes()
        waiting = sum(permute.num_bytes for permute in permutes if not permute.asynchronous)
        return waiting / sum(permute.num_bytes for permute in permutes)

    @property
    def memory_bytes(self) -> int:
        """Bytes of a device's memory, donated arguments once."""
        memory = self.memory
        outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
        return memory.argument_size_in_bytes + memory.temp_size_in_bytes + outputs

    def has_tiles_in_vmem(self) -> bool:
        """Tell whether no tile, block of rows or block of sums outside fusions lives in HBM."""
        tile = self.block, self.block
        arrays = (a for visit in self.program.visits() for a in visit.instruction.arrays)
        return all(array.memory == 1 for array in arrays if array.dims == tile)

    def ideal_hbm_bytes(self) -> float:
        """Return the HBM traffic of a step that moves its blocks and chunks once.

        A program that keeps the shard itself in VMEM, where it fits, needs less still.

        With R rows of 4 d bytes on each of D devices, blocks of b rows, K chunks of C rows:

        - Every row block that meets a chunk is read once, and its sums are read and written once:
          ``3 R`` rows for each of the ``K ((D - 1) // 2 + [D is even])`` meetings.
        - The rows of a chunk and their sums stay in VMEM if they fit there twice (one chunk arrives
          while another is used), and so nothing is read or written for them; else they stream once
          for each of the ``R / b`` row blocks: ``3 C`` rows, or ``C`` at the opposite device, whose
          sums stay at home.
        - Within the shard ``3 R`` rows, and ``3 R (R / b - 1) / 2`` for the blocks above the diagonal
          unless the shard and its sums fit into VMEM.
        - The optimizer reads points, momentum, force (and best points), and writes all but the force.
        """
        rows, chunk, vmem = self.local_rows, self.chunk, self.chip.vmem_bytes / (4 * self.dim)
        chunks, blocks = rows / chunk, rows / self.block
        two_sided, opposite = (self.num_devices - 1) // 2, (self.num_devices + 1) % 2
        streamed = 0 if 4 * chunk <= vmem else blocks * chunk
        above = 0 if 2 * rows <= vmem else 3 * rows * (blocks - 1) / 2
        met = two_sided * (3 * rows + 3 * streamed) + opposite * (3 * rows + streamed)
        return 4 * self.dim * (chunks * met + 3 * rows + above + (2 * self.arrays - 1) * rows)

    def modeled_seconds(self) -> dict[str, float]:
        """Return what each resource takes at its peak; the step takes at least the largest."""
        traffic, chip = self.traffic, self.chip
        return {
            "matrix units": traffic.passed_flops / chip.bf16_flops,
            "hbm": traffic.hbm_bytes / chip.hbm_bytes,
            "links": self.sent_bytes / chip.link_bytes,
        }


def compiled(
    topology: str,
    num_points: int,
    *,
    dim: int = _DIM,
    precision: Precision = "float32",
    track_best: bool = True,
) -> Step:
    """Compile the annealed solver's step for a TPU slice."""
    mesh = slice_mesh(topology)
    sweep = Sweep(mesh, implementation="blockwise")
    problem = PackingProblem(num_points=num_points, dim=dim)
    loop = Loop.of(
        Annealed(num_steps=200, track_best=track_best, precision=precision), problem, sweep
    )
    program = loop.lower(problem, _STEPS).compile()
    local_rows = loop.num_rows(num_points) // mesh.size
    block = default_block_size(local_rows)
    return Step(
        CHIPS[topology.partition(":")[0]],
        mesh.size,
        local_rows,
        block,
        dim,
        3 + track_best,
        # Row block i meets the (local_rows / block - 1 - i) blocks after it: half of them on average.
        Program(program.as_text() or "", unknown_trips=(local_rows / block - 1) / 2),
        program.memory_analysis(),
    )


def slice_mesh(topology: str) -> Any:
    """Return the mesh of a TPU slice that need not exist."""
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    return meshes.make_mesh(described.devices)


def measure(topology: str, num_points: int, precision: Precision) -> dict[str, Any]:
    """Compile one row of the table."""
    step = compiled(topology, num_points, precision=precision)
    traffic, seconds = step.traffic, step.modeled_seconds()
    row = {
        "slice": topology,
        "n": num_points,
        "d": step.dim,
        "precision": precision,
        "local_rows": step.local_rows,
        "block": step.block,
        "chunk": step.chunk,
        "argument_gib": step.memory.argument_size_in_bytes / 2**30,
        "temporary_gib": step.memory.temp_size_in_bytes / 2**30,
        "memory_gib": step.memory_bytes / 2**30,
        "fits": step.memory_bytes / 2**30 <= step.chip.hbm_gib,
        "flops": traffic.flops,
        "passes": traffic.passed_flops / traffic.flops,
        "hbm_bytes": traffic.hbm_bytes,
        "hbm_over_ideal": traffic.hbm_bytes / step.ideal_hbm_bytes(),
        "sent_bytes": step.sent_bytes,
        "sent_synchronously": step.synchronous_share,
        "hops_asynchronous": all(hop.asynchronous for hop in step.hops),
        "modeled_seconds": seconds,
        "bound_by": max(seconds, key=lambda name: seconds[name]),
        "score_tile": score_tile(step),
        "product_results": product_results(step),
    }
    print(_line(row), flush=True)
    return row


def score_tile(step: Step) -> dict[str, Any]:
    """Record where tiles live, and how many tiles of exponentials are stored at all.

    The others are computed again inside the fusion of the product that they weigh.
    """
    products, outside = 0, 0
    for visit in step.program.visits():
        opcodes = step.program.opcodes(visit.instruction)
        is_product = _is_product(opcodes)
        products += is_product
        outside += not is_product and "exponential" in opcodes
    return {
        "in_vmem": step.has_tiles_in_vmem(),
        "product_fusions": products,
        "exponentials_outside_product_fusions": outside,
    }


def _is_product(opcodes: Any) -> bool:
    return "convolution" in opcodes or "dot" in opcodes


def product_results(step: Step) -> dict[str, int]:
    """Count the results of matrix products, apart from vectors, by where they live."""
    found = {"vmem": 0, "hbm": 0}
    for visit in step.program.visits():
        opcodes = step.program.opcodes(visit.instruction)
        if _is_product(opcodes):
            for array in visit.instruction.arrays:
                if sum(side > 1 for side in array.dims) > 1:
                    found["vmem" if array.memory else "hbm"] += 1
    return found


_COLUMNS = {
    "slice": 10,
    "n": 11,
    "precision": 9,
    "rows": 8,
    "GiB": 7,
    "TFLOP": 9,
    "HBM GB": 9,
    "/ideal": 7,
    "sent GB": 8,
    "async": 6,
    "tile": 5,
    "seconds": 9,
    "bound by": 13,
}


def _line(row: dict[str, Any]) -> str:
    cells = [
        row["slice"],
        f"{row['n']:,}",
        row["precision"],
        f"{row['local_rows']:,}",
        f"{row['memory_gib']:.2f}",
        f"{row['flops'] / 1e12:.1f}",
        f"{row['hbm_bytes'] / 1e9:.1f}",
        f"{row['hbm_over_ideal']:.2f}",
        f"{row['sent_bytes'] / 1e9:.2f}",
        "yes" if row["hops_asynchronous"] else "no",
        "VMEM" if row["score_tile"]["in_vmem"] else "HBM",
        f"{max(row['modeled_seconds'].values()):.3f}",
        row["bound_by"] if row["fits"] else "does not fit",
    ]
    return _aligned(cells)


def _aligned(cells: list[str]) -> str:
    return " ".join(
        f"{cell:>{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True)
    )


def main() -> None:
    """Compile every row, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the first row only; writes nothing")
    quick = parser.parse_args().quick
    jax.config.update("jax_platforms", "cpu")
    sys.path.append(str(Path(sys.prefix) / "aot"))
    print(f"{_NOTE}; a device and step", _aligned(list(_COLUMNS)), sep="\n")
    cases = list(itertools.product(SLICES, SIZES, PRECISIONS))
    rows = [measure(*case) for case in cases[: 1 if quick else len(cases)]]
    if not quick:
        peaks = {name: chip._asdict() for name, chip in CHIPS.items()}
        write_result("tpu_aot", {"note": _NOTE, "peaks": peaks, "rows": rows})


if __name__ == "__main__":
    main()
