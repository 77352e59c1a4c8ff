"""How long the first packing of a process takes, and the second one.

    python -m benchmarks.first_packing

n = 200, d = 16, 100 steps, in new processes; the import of jax is not counted, that of this package is.
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.common import spread, write_result

PROCESSES = 5
PROGRAM = """
import json, time
import jax
jax.devices()
start = time.perf_counter()
import hyperface_jax as hf
imported = time.perf_counter()
problem = hf.PackingProblem(num_points=200, dim=16)
times = []
for seed in range(6):
    begin = time.perf_counter()
    jax.block_until_ready(hf.solve(problem, jax.random.key(seed), num_steps=100).x)
    times.append(time.perf_counter() - begin)
loop = hf.packing.Loop.of(hf.Annealed(num_steps=100), problem)
placed, steps = loop.place(problem), []
for seed in range(5):
    state = jax.block_until_ready(loop.init(problem, placed, jax.random.key(seed), "uniform"))
    begin = time.perf_counter()
    jax.block_until_ready(loop.advance(placed, state, 100))
    steps.append(time.perf_counter() - begin)
print(json.dumps({
    "import_seconds": imported - start,
    "first_seconds": times[0] + imported - start,
    "later_seconds": sorted(times[1:])[2],
    "compiled_steps_seconds": sorted(steps)[2],
}))
"""


def main() -> None:
    """Start the processes and write their figures."""
    runs = []
    for _ in range(PROCESSES):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout))
        print(runs[-1], flush=True)
    figures = {name: spread([run[name] for run in runs]) for name in runs[0]}
    ratio = spread([run["later_seconds"] / run["compiled_steps_seconds"] for run in runs])
    write_result("first_packing", {"runs": runs, **figures, "later_over_steps": ratio})


if __name__ == "__main__":
    main()
