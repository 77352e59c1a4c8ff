"""Exact search of one set of embeddings for another, from files, against this machine's product rate.

    python -m benchmarks.leakage [--rows 1000000] [--against 100000] [--dim 512] [--directory /tmp]

The plain product of one block of rows with the other set is timed in the same run, before and after
the search, by XLA and by NumPy; the fastest counts. One share is that of the whole search, compilation
and the most similar pairs included, the other that of the sweep after its first block. Memory is what
the process holds besides the pages of the mapped files, which the system may take back.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import seconds, spread, write_result
from hyperface_jax import sphere
from hyperface_jax.evaluation import nearest_pairs
from hyperface_jax.io.embedding_sets import open_embedding_set
from hyperface_jax.pairwise.streamed import PASSING_ROWS

_NUM_PAIRS = 100
_WRITTEN_ROWS = 65_536


def main() -> None:
    """Write the two sets, search, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--against", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--directory", type=Path, help="for the files, some GB; default: temporary")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the figures and write nothing"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        row = measure(Path(folder), options.rows, options.against, options.dim)
    if not options.dry_run:
        write_result("leakage", {"rows": [row]})


def measure(folder: Path, num_rows: int, num_others: int, dim: int) -> dict[str, Any]:
    """Time the checks of the files, the search and the plain product of one shape."""
    write_rows(folder / "x.npy", num_rows, dim, seed=0)
    write_rows(folder / "y.npy", num_others, dim, seed=1)
    product = _Product(min(num_rows, PASSING_ROWS), num_others, dim)
    rates = [product.rates()]
    start = time.perf_counter()
    x, y = (open_embedding_set(folder / name) for name in ("x.npy", "y.npy"))
    opened = time.perf_counter()
    marks: list[tuple[float, float]] = []
    with PeakMemory() as memory:
        found = nearest_pairs(
            x,
            y,
            num_pairs=_NUM_PAIRS,
            progress=lambda done, _="", /: marks.append((time.perf_counter(), done)),
        )
    searched = time.perf_counter() - opened
    rates.append(product.rates())
    flops = 2.0 * num_rows * num_others * dim
    steady = 2.0 * num_others * dim * (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])
    fastest = max(value for rate in rates for value in rate.values())
    row = {
        "n": num_rows,
        "m": num_others,
        "d": dim,
        "num_pairs": len(found.pairs.cosine),
        "max_cosine": float(found.pairs.cosine[0]),
        "check_seconds": opened - start,
        "search_seconds": searched,
        "product_gflops": [{name: value / 1e9 for name, value in rate.items()} for rate in rates],
        "search_gflops": flops / searched / 1e9,
        "share_of_product_rate": flops / searched / fastest,
        "share_after_first_block": steady / fastest,
        "peak_mib": memory.peak / 2**20,
        "files_mib": 4 * (num_rows + num_others) * dim / 2**20,
    }
    print(
        f"n={num_rows} m={num_others} d={dim}: {row['search_gflops']:.0f} GFLOP/s, "
        f"{row['share_of_product_rate']:.2f} of the product rate "
        f"({row['share_after_first_block']:.2f} after the first block), {row['peak_mib']:.0f} MiB"
    )
    return row


def write_rows(path: Path, num_rows: int, dim: int, *, seed: int) -> None:
    """Write random unit rows, some at a time."""
    out = np.lib.format.open_memmap(path, "w+", np.float32, (num_rows, dim))
    for start in range(0, num_rows, _WRITTEN_ROWS):
        part = out[start : start + _WRITTEN_ROWS]
        key = jax.random.fold_in(jax.random.key(seed), start)
        part[:] = np.asarray(sphere.sample_uniform(key, len(part), dim))
    out.flush()


class _Product:
    """The matrix product that the search cannot do without, one block of it."""

    def __init__(self, num_rows: int, num_others: int, dim: int) -> None:
        self._flops = 2.0 * num_rows * num_others * dim
        self._x = sphere.sample_uniform(jax.random.key(0), num_rows, dim)
        self._y = sphere.sample_uniform(jax.random.key(1), num_others, dim)
        self._product = jax.jit(lambda x, y: jnp.matmul(x, y.T, precision="highest"))

    def rates(self) -> dict[str, float]:
        """Return FLOP/s of XLA and of NumPy, median of three."""
        x, y = np.asarray(self._x), np.asarray(self._y)
        times = {
            "xla": seconds(self._product, self._x, self._y, runs=3),
            "numpy": seconds(lambda: x @ y.T, runs=3),
        }
        return {name: self._flops / spread(values)["median"] for name, values in times.items()}


class PeakMemory:
    """The most memory of the process that is not the pages of a file, looked at ten times a second."""

    def __init__(self) -> None:
        self.peak = 0
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, _anonymous_bytes())
            if self._is_done.wait(0.1):
                return


def _anonymous_bytes() -> int:
    match = re.search(r"RssAnon:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(match[1]) if match else 0


if __name__ == "__main__":
    main()
