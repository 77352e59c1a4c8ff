"""The documents' tables are those of the JSON results, and every committed result says its device."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import pytest

from hyperface_jax.sphere import sample_uniform

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


@pytest.fixture
def as_users_run_it():
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", "raise")


def test_the_programs_whose_names_are_counted_run(as_users_run_it):
    from benchmarks.api_names import SETUP, TASKS, rows
    from benchmarks.common import read_result

    for task in TASKS:
        exec(SETUP + task.after, {})
    assert read_result("api_names")["rows"] == rows()


# The comparison with rivals


@pytest.fixture
def rivals():
    if not all(map(find_spec, ("geoopt", "pymanopt"))):
        pytest.skip("needs the bench extra")
    from benchmarks.rivals import load_rivals

    return load_rivals()


def test_loading_rivals_leaves_jax_as_it_was(rivals):
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize(
    "name",
    [
        "paper_closest_pair",
        "mean_row_max",
        "koleo",
        "mma",
        "mmd_gaussian",
        "riesz",
        "pymanopt_lse_cg",
    ],
)
def test_a_rival_pays_what_is_stated(name, rivals):
    from benchmarks.rivals import Budget

    n, d = 2560, 4
    x0 = np.array(sample_uniform(jax.random.key(0), n, d))
    budget, cost = Budget(flops=12.0 * n * n * d), rivals[name].cost
    trace = rivals[name].run(x0, budget=budget, seed=0, **rivals[name].tuned["medium"][0])
    assert trace.flops[-1] <= budget.flops
    rounds = np.diff(trace.flops, prepend=0.0) / (n * n * d)
    # The tiles on the diagonal see their pairs twice.
    assert cost.forward + cost.backward <= rounds.max() <= 1.1 * (cost.forward + cost.backward)


@pytest.mark.parametrize("name", ["60x8", "manifold"])
def test_our_solver_stays_within_the_flops(name):
    from benchmarks.rivals import Gallery
    from benchmarks.rivals import __main__ as command
    from benchmarks.rivals.ours import total_flops

    rows = np.array(sample_uniform(jax.random.key(1), 90, 8))
    gallery = Gallery(rows, 0.5) if name == "manifold" else None
    task = command.Task(name, rows[:60], gallery, 1.0, sweeps=40)
    budget = task.budget("flops")
    row = command.our_row(task, budget, seed=0)
    steps = row["settings"]["steps"]
    assert row["flops"] == total_flops(task.problem, steps) <= budget.flops
    assert total_flops(task.problem, steps + 2) > budget.flops


def test_rivals_are_compared_on_both_axes(rivals):
    from benchmarks import drawings, tables
    from benchmarks.rivals import Gallery
    from benchmarks.rivals import __main__ as command

    figures = {"costs": command.costs(rivals), "shapes": [], "manifold": {}}
    rows = np.array(sample_uniform(jax.random.key(1), 90, 8))
    tasks = (
        command.Task("60x8", rows[:60], None, 1.0, sweeps=20),
        command.Task("manifold", rows[:60], Gallery(rows[60:], 0.5), 1.0, sweeps=20),
    )
    for task in tasks:
        settings = {
            name: command.candidates(rivals[name], task, "time", {})[:1] for name in command.RIVALS
        }
        methods = command.compare(task, task.budget("flops"), rivals, settings, seed=0)
        part = {"methods_at_equal_flops": methods}
        command.put(figures, command.describe(task, "flops"), part)
    flat = tables.rivals("methods_at_equal_flops", figures)
    assert "n=60, d=8, 20 sweeps" in flat
    assert "hyperface_jax code start" in flat
    near = tables.rivals_manifold(figures)
    assert near.count("**") == 2
    assert "hyperface_jax code start" not in near
    for name in command.RIVALS:
        assert f"| {name} |" in flat
        assert f"| {name} |" in near
        assert f"| {name} |" in tables.rivals_costs(figures)
    assert tables.rivals("methods", figures).startswith("| method |\n")
    assert drawings.draw_rivals(figures).axes


def test_a_shape_takes_over_the_best_settings_of_the_one_before():
    from benchmarks.rivals import __main__ as command

    figures = {"shapes": [], "manifold": {}}
    for n, lr in ((2000, 0.1), (500, 0.3)):
        row = {"name": f"{n}x8", "n": n, "d": 8}
        command.put(figures, row, {"methods": [{"name": "koleo", "settings": {"lr": lr}}]})
    assert [shape["n"] for shape in figures["shapes"]] == [500, 2000]
    assert command.best_settings(figures["shapes"], "time", 10_000) == {"koleo": {"lr": 0.1}}
    assert command.best_settings(figures["shapes"], "flops", 10_000) == {}


def test_the_protocol_of_ijb_runs_at_a_small_size(tmp_path, capsys):
    from benchmarks import ijb, tables

    ijb.write_lists(tmp_path, num_faces=400, num_templates=40, num_pairs=900)
    row = ijb.run(tmp_path, dim=16)
    assert (row["num_faces"], row["num_templates"], row["num_pairs"]) == (400, 40, 900)
    assert 0 < row["eer"] < 0.3
    printed = capsys.readouterr().out
    assert "fusing: 400 of 400 faces" in printed
    assert "comparing templates: 900 of 900 pairs" in printed
    cells = [" 400, 40, 900, 16 ", " 1024 "]
    table = tables.ijb({"rows": [row | {"peak_mib": 1024}]})
    assert all(cell in table for cell in cells)
