"""What a checkpoint takes: written by one process, and read again onto as many and onto fewer devices.

    python -m benchmarks.checkpoints [--jobs 1000000@v5e:32 10000000@v5e:256] [--work FOLDER]

Every process of a job writes and reads the rows of its own devices, at the same time as the others. So
the state here is what one host of a planned job holds, on virtual devices of this machine, and the
rate that counts is that of the disk and of the processor. Times of the processor are given too, because
other work may share the cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import work_folder, write_result
from hyperface_jax import meshes
from hyperface_jax.io.checkpoints import Checkpointer
from hyperface_jax.packing import Annealed, Loop, PackingProblem
from hyperface_jax.pairwise import Sweep
from hyperface_jax.planning import parse_devices, plan_run

DIM, DEVICES, FEWER = 512, 8, 3
JOBS = ("1000000@v5e:32", "10000000@v5e:256")


def main() -> None:
    """Write and read the state of one host, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", nargs="+", default=JOBS, metavar="IDS@KIND:COUNT")
    parser.add_argument("--work", type=Path, help="folder on the disk to be measured")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", DEVICES)
    with work_folder(options.work) as work:
        jobs = [measure(job, work) for job in options.jobs]
    write_result("checkpoints", {"dim": DIM, "jobs": jobs})


def measure(job: str, work: Path) -> dict[str, Any]:
    """Save and restore the share of one host of a planned job, such as ``1000000@v5e:32``."""
    num_ids, devices = int(job.partition("@")[0]), job.partition("@")[2]
    machine = parse_devices(devices)
    num_hosts = machine.num_hosts
    planned = plan_run(num_ids, DIM, machine)
    folder = work / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    like = {count: shapes(num_ids // num_hosts, count) for count in (DEVICES, FEWER)}
    state = filled(like[DEVICES])
    num_bytes = _bytes(state)
    rows = [{**timed("save", lambda: _saved(folder, state)), "devices": DEVICES}]
    del state
    with Checkpointer(folder) as saved:
        for count, shape in like.items():
            row = timed("restore", lambda shape=shape: saved.restore(shape))
            rows.append({**row, "devices": count})
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return {
        "num_ids": num_ids,
        "devices": devices,
        "num_hosts": num_hosts,
        "planned_gib": planned.checkpoint_bytes / 2**30,
        "gib": num_bytes / 2**30,
        "gib_on_disk": size / 2**30,
        "rows": rows,
    }


def shapes(num_ids: int, num_devices: int) -> Any:
    """Return the shapes and shardings of a state of the annealed solver."""
    mesh = meshes.make_mesh(jax.devices()[:num_devices])
    problem = PackingProblem(num_points=num_ids, dim=DIM)
    return Loop.of(Annealed(num_steps=200), problem, Sweep(mesh)).shapes(problem)


def filled(shape: Any) -> Any:
    """Return a state of numbers that cannot be compressed."""
    rng = np.random.default_rng(0)

    def fill(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.device_put(jax.random.key(0), leaf.sharding)
        values = rng.random(leaf.shape, np.float32)
        return jax.device_put(values.astype(leaf.dtype), leaf.sharding)

    return jax.tree.map(fill, shape)


def _saved(folder: Path, state: Any) -> None:
    with Checkpointer(folder) as saved:
        saved.save(1, state, {})
    os.sync()


def timed(name: str, action: Callable[[], Any]) -> dict[str, Any]:
    """Time an action by the clock and by the processor."""
    start, used = time.perf_counter(), time.process_time()
    jax.block_until_ready(getattr(action(), "state", None))
    row = {
        "what": name,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - used,
    }
    print(row, flush=True)
    return row


def _bytes(state: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state) if hasattr(leaf, "nbytes"))


if __name__ == "__main__":
    main()
