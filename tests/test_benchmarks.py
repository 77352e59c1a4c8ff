"""The documents' tables are those of the JSON results, and every committed result says its device."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*/*.json"))


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))


def test_tables_come_from_the_results(monkeypatch, capsys):
    from benchmarks import tables

    monkeypatch.setattr(sys, "argv", ["tables", "--check"])
    assert tables.main() == 0, capsys.readouterr().out


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: p.stem)
def test_result_says_where_it_comes_from(path):
    about = json.loads(path.read_text())["about"]
    assert about["device"]
    assert about["versions"]["jax"]
    assert about["commit"]


def test_no_small_code_is_below_its_bound():
    for path in RESULTS:
        if path.stem == "small_codes":
            rows = json.loads(path.read_text())["rows"]
            assert all(row["max_cosine"] >= row["lower_bound"] - 1e-9 for row in rows)
