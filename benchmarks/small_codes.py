"""How often a search from nothing reaches the best known spherical codes, in a given time a row.

    python -m benchmarks.small_codes --seconds 60

For every row of the table of records with n <= 700 and d <= 16: :func:`hyperface_jax.packing.search`,
which knows no code. The JSON is written after every row, and the same command goes on where it was
stopped. Reports the share of rows within 1e-6 and 1e-3 of the record, and stops if a value is below a
proven bound.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.common import SHARED, read_own_result, write_result
from hyperface_jax import bounds
from hyperface_jax.packing.searching import search

TOLERANCES = (1e-6, 1e-3)
_MOST_POINTS, _MOST_DIM = 700, 16
_ROUNDING = 1e-9


def main() -> None:
    """Run every row that is not in the JSON yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, default=SHARED / "spherical_codes.json")
    parser.add_argument("--seconds", type=float, default=60.0, help="search of each row")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = _finished(args.seconds, args.seed)
    for record in _small(args.records):
        if (record["n"], record["d"]) not in {(row["n"], row["d"]) for row in rows}:
            rows.append(solve_row(record, args.seconds, args.seed))
            print(json.dumps(rows[-1]), flush=True)
            shares = {f"{t:g}": _share(rows, t) for t in TOLERANCES}
            figures = {"seconds_per_row": args.seconds, "shares": shares, "rows": rows}
            write_result("small_codes", figures, seed=args.seed)


def _small(path: Path) -> list[dict[str, Any]]:
    records = json.loads(path.read_text())
    return [row for row in records if row["n"] <= _MOST_POINTS and row["d"] <= _MOST_DIM]


def _finished(seconds: float, seed: int) -> list[dict[str, Any]]:
    """Return the rows that an earlier run with the same settings left."""
    stored = read_own_result("small_codes") or {}
    # What has a number of steps is of restarts, from before there was a search.
    is_search = bool(stored) and "steps" not in stored
    is_same = is_search and (stored["seconds_per_row"], stored["about"]["seed"]) == (seconds, seed)
    return stored["rows"] if is_same else []


def _share(rows: list[dict[str, Any]], tolerance: float) -> float:
    return sum(row["excess"] <= tolerance for row in rows) / len(rows)


def solve_row(record: dict[str, Any], seconds: float, seed: int) -> dict[str, Any]:
    """Search for one (n, d)."""
    n, d = record["n"], record["d"]
    start = time.perf_counter()
    found = search(n, d, seconds=seconds, seed=seed)
    bound = bounds.tightest(n, d)
    if found.max_cosine < bound.value - _ROUNDING:
        raise AssertionError(
            f"n={n} d={d}: {found.max_cosine} is below the {bound.name} bound {bound.value}"
        )
    return {
        "n": n,
        "d": d,
        "max_cosine": found.max_cosine,
        "record": record["max_cos"],
        "record_status": record["status"],
        "excess": found.max_cosine - record["max_cos"],
        "lower_bound": bound.value,
        "packings": found.num_trials,
        "found_by": found.origin,
        "seconds": time.perf_counter() - start,
    }


if __name__ == "__main__":
    main()
