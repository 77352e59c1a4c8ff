"""A million identities on this machine, by the command line that a user would type.

    python -m benchmarks.million

Records what the run says of itself, the wall time of the whole command and the most memory it held.
"""

from __future__ import annotations

import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import write_result
from hyperface_jax.io.files import read_json
from hyperface_jax.io.run_directory import SUMMARY

WORDS = shlex.split(
    "pack --num-ids 1000000 --dim 512 --method stochastic --steps 20 --checkpoint-seconds 600"
)


def main() -> None:
    """Run the command in a temporary folder and write the JSON."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        start = time.perf_counter()
        command = [sys.executable, "-m", "hyperface_jax.cli.main", *WORDS, "--out", str(out)]
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - start
        summary = read_json(out / SUMMARY)
    # Linux counts this in KiB.
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    figures = {"max_rss_gib": most / 2**30, "wall_seconds": seconds, "summary": summary}
    write_result("million", {"command": shlex.join(["hyperface", *WORDS]), **figures})


if __name__ == "__main__":
    main()
