"""How long ``hyperface demo`` takes, quick and as it is, stage by stage.

    python -m benchmarks.demo

Both sizes run as a user types them, in an empty folder and a process of their own, on all cores. The
estimate that the demo prints before it starts is a line through these figures, which a test compares.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import write_result
from hyperface_jax.io.files import read_json

SIZES = {"quick": ("--quick",), "default": ()}
_CACHE = "JAX_COMPILATION_CACHE_DIR"


def main() -> None:
    """Time both sizes, and write the JSON."""
    write_result("demo", {"sizes": {name: measure(*words) for name, words in SIZES.items()}})


def measure(*words: str) -> dict[str, Any]:
    """Run the demo in an empty folder, print what it printed, and return its seconds."""
    environment = {name: value for name, value in os.environ.items() if name != _CACHE}
    command = [str(Path(sys.executable).with_name("hyperface")), "demo", "--out", "demo", *words]
    with tempfile.TemporaryDirectory() as folder:
        start, before = time.perf_counter(), _cpu_seconds()
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        total = time.perf_counter() - start
        cpu = _cpu_seconds() - before
        stages = read_json(Path(folder) / "demo" / "results.json")["seconds"]
    print(done.stdout, done.stderr, sep="\n")
    rest = total - sum(stages.values())
    return {"total": total, "cpu": cpu, "stages": stages, "rest": rest}


def _cpu_seconds() -> float:
    """Return the time that finished child processes had on all cores."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
