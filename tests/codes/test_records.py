"""The table of records, against the bounds and against our own codes."""

import pytest

from hyperface_jax import bounds, codes
from hyperface_jax.codes.records import records


def test_no_record_beats_a_bound_and_no_code_of_ours_beats_a_record():
    assert len(records()) > 100
    for row in records():
        bound = bounds.tightest(row.num_points, row.dim)
        assert row.max_cosine >= bound.value - 1e-9, row
        assert codes.best_known(row.num_points, row.dim).max_cosine >= row.max_cosine - 1e-9, row


def test_records_are_sorted_and_none_is_worse_than_one_of_more_points():
    keys = [(row.dim, row.num_points) for row in records()]
    assert keys == sorted(set(keys))
    for row in records():
        assert codes.record(row.num_points, row.dim) == row


def test_a_record_of_more_points_in_fewer_dimensions_counts():
    listed = codes.record(26, 8)
    assert listed is not None
    assert (listed.num_points, listed.dim) == (26, 8)
    other = codes.record(25, 9)
    assert other is not None
    assert other.max_cosine <= listed.max_cosine
    assert codes.record(1025, 32) is None


def test_every_record_has_a_source():
    assert min(len(row.source) for row in records()) > 15


def test_bounds_tells_a_record_where_it_is_better():
    from hyperface_jax.runs.bounding import Bounds
    from hyperface_jax.runs.bounding import bounds as tell

    better, none = tell(Bounds(num_ids=18, dim=3)), tell(Bounds(num_ids=24, dim=3))
    assert better.summary["record"] == pytest.approx(0.6486958323674945, abs=1e-12)
    assert "record:" in better.text
    assert none.summary["record"] is None
    assert "record:" not in none.text


def test_the_table_of_codes_names_nothing_that_a_record_contradicts():
    from benchmarks.common import read_result

    cells = read_result("codes")["cells"]
    assert len(cells) > 10
    for row in cells:
        listed = codes.record(row["n"], row["d"])
        reached = [row[name]["max_cosine"] for name in ("uniform", "refined") if name in row]
        if listed:
            assert min([row["best_known"], *reached]) <= listed.max_cosine + 1e-9, row
