"""Who follows the tutorial in the toy world gets the numbers that its page prints."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def test_the_toy_commands_give_the_printed_numbers(tmp_path):
    from benchmarks.common import read_result
    from benchmarks.tutorial import run_toy

    found = run_toy(tmp_path)
    printed = read_result("tutorial")["toy"]
    assert found.keys() == {row["name"] for row in printed}
    for row in printed:
        assert found[row["name"]] == pytest.approx(row["value"], abs=row["tolerance"]), row["what"]


def test_the_printed_estimates_are_those_of_the_script():
    from benchmarks.common import read_result
    from benchmarks.tutorial import FIGURES, costs

    result = read_result("tutorial")
    assert result["costs"] == costs()
    tolerances = {name: figure.tolerance for name, figure in FIGURES.items()}
    assert {row["name"]: row["tolerance"] for row in result["toy"]} == tolerances
