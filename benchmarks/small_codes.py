"""How often a search reaches the best known spherical codes, in a given time a row.

    python -m benchmarks.small_codes --seconds 60

For every row of the table of records with n <= 700 and d <= 16: :func:`hyperface_jax.packing.search`,
which knows the constructions but no record, and ends where it meets the record. The JSON is written
after every row, and the same command goes on where it was stopped. Reports the share of rows within 1e-6
and 1e-3 of the record, at the end and after ten seconds, before the polish of the end, and stops if a
value is below a proven bound.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.common import SHARED, read_own_result, result_locked, write_result
from hyperface_jax import bounds
from hyperface_jax.packing import Found, search

TOLERANCES = (1e-6, 1e-3)
EARLY = 10.0
"""Seconds after which every row is looked at, too."""
_MOST_POINTS, _MOST_DIM = 700, 16
_ROUNDING = 1e-9


def main() -> None:
    """Run every row that is not in the JSON yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, default=SHARED / "spherical_codes.json")
    parser.add_argument("--seconds", type=float, default=60.0, help="search of each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backwards", action="store_true", help="begin at the last row")
    args = parser.parse_args()
    records = _small(args.records)
    for record in reversed(records) if args.backwards else records:
        size = (record["n"], record["d"])
        if size not in _sizes(_finished(args.seconds, args.seed)):
            row = solve_row(record, args.seconds, args.seed)
            print(json.dumps(row), flush=True)
            with result_locked("small_codes"):
                rows = _finished(args.seconds, args.seed)
                others = [row for row in rows if (row["n"], row["d"]) != size]
                _write([*others, row], args.seconds, args.seed)


def _write(rows: list[dict[str, Any]], seconds: float, seed: int) -> None:
    rows = sorted(rows, key=lambda row: (row["d"], row["n"]))
    figures = {
        "seconds_per_row": seconds,
        "shares": {f"{t:g}": _share(rows, "excess", t) for t in TOLERANCES},
        "shares_early": {f"{t:g}": _share(rows, "excess_early", t) for t in TOLERANCES},
        "rows": rows,
    }
    write_result("small_codes", figures, seed=seed)


def _sizes(rows: list[dict[str, Any]]) -> set[tuple[int, int]]:
    return {(row["n"], row["d"]) for row in rows}


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


def _share(rows: list[dict[str, Any]], field: str, tolerance: float) -> float:
    values = [row[field] for row in rows]
    return sum(value is not None and value <= tolerance for value in values) / len(rows)


def solve_row(record: dict[str, Any], seconds: float, seed: int) -> dict[str, Any]:
    """Search for one (n, d)."""
    n, d = record["n"], record["d"]
    start = time.perf_counter()
    early: list[float] = []

    def look(found: Found) -> None:
        if time.perf_counter() - start <= EARLY:
            early.append(found.max_cosine)

    target = record["max_cos"] + _ROUNDING
    found = search(n, d, seconds=seconds, seed=seed, target=target, callback=look)
    if time.perf_counter() - start <= EARLY:
        early.append(found.max_cosine)
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
        "excess_early": early[-1] - record["max_cos"] if early else None,
        "lower_bound": bound.value,
        "packings": found.num_trials,
        "found_by": found.origin,
        "seconds": time.perf_counter() - start,
    }


if __name__ == "__main__":
    main()
