"""A million identities on this machine, by the command line that a user would type.

    python -m benchmarks.million [--out FOLDER]

Records what the run says of itself, the wall time of the whole command and the most memory it held.
It takes an hour or two: with a FOLDER it goes on where it was stopped, and adds up the calls.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import work_folder, write_result
from hyperface_jax.io.files import JsonLines, read_json, read_jsonl
from hyperface_jax.io.run_directory import SUMMARY

WORDS = shlex.split(
    "pack --num-ids 1000000 --dim 512 --method stochastic --steps 20 --checkpoint-seconds 600"
)


def main() -> None:
    """Run the command and write the JSON once it has finished."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder to keep, and to go on in")
    out = parser.parse_args().out
    with work_folder(out) as folder:
        write_result("million", measure(folder, WORDS))


def measure(folder: Path, words: list[str]) -> dict[str, Any]:
    """Run a command of a packing in a folder, or go on with it, and return its figures.

    The folder becomes the working directory of the command. The time of the processor is that of all
    calls, also where other work shares the cores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    command = [sys.executable, "-m", "hyperface_jax.cli.main", *words, "--out", "run"]
    code = subprocess.run(command, cwd=folder).returncode
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    call = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "max_rss_gib": used.ru_maxrss * 1024 / 2**30,  # Linux counts this in KiB.
        "code": code,
    }
    calls = folder / "calls.jsonl"
    with JsonLines(calls) as lines:
        lines.append(call)
    if code:
        raise SystemExit(code)
    every = read_jsonl(calls)
    return {
        "command": shlex.join(["hyperface", *words]),
        "num_calls": len(every),
        "max_rss_gib": max(call["max_rss_gib"] for call in every),
        "wall_seconds": sum(call["seconds"] for call in every),
        "cpu_seconds": sum(call["cpu_seconds"] for call in every),
        "summary": read_json(folder / "run" / SUMMARY),
    }


if __name__ == "__main__":
    main()
