"""The benchmarks of the largest runs, in small, go on where they were stopped, beside their plan."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import checkpoints, rehearsal, rounding, tables
from hyperface_jax.sphere import sample_uniform

ROOT = Path(__file__).parents[1]


@pytest.fixture
def few_rows(monkeypatch, key):
    rows = np.asarray(sample_uniform(key, 40, 16))
    monkeypatch.setattr(rehearsal, "text_rows", lambda: rows)
    monkeypatch.setattr(rehearsal, "DIM", 8)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return rows


def test_a_rehearsal_is_measured_beside_its_plan(few_rows, tmp_path):
    figures = rehearsal.rehearse(tmp_path, 60, 50, 2)
    gallery = np.load(tmp_path / "gallery.npy")
    np.testing.assert_allclose(np.linalg.norm(gallery, axis=1), 1, atol=1e-6)
    assert gallery.shape == (50, 8)
    assert figures["summary"]["gallery_mean_cosine"] > 0.5
    assert figures["max_rss_gib"] > 0
    here, pod, host = figures["plans"]
    assert (here["num_ids"], here["num_searches"]) == (60, 1)
    assert pod["num_searches"] == host["num_searches"] == 20
    text = tables.rehearsal(json.loads(json.dumps(figures)))
    assert "10,000,000 x 512 near 1,000,000 rows, 200 steps, annealed | planned for v5e:256" in text


def test_both_ends_of_a_run_begin_at_the_same_steps(tmp_path):
    end = rounding.End(n=60, d=8, steps=12, late_steps=4, early_precision="bf16", seed=0)
    (row,) = rounding.three_pass([end], tmp_path)
    assert row["late_steps"] == 4
    assert row["difference"] == row["bf16_x3"] - row["float32"]
    assert row["difference_again"] == row["float32_again"] - row["float32"]
    assert abs(row["difference"]) < 1e-4
    done = tmp_path / "rows.json"
    kept = json.loads(done.read_text())
    del kept["rows"][0]["bf16_x3"]
    done.write_text(json.dumps(kept))
    assert rounding.three_pass([end], tmp_path) == [row], "goes on from the state that was kept"
    assert f"the last 4 of 12, after bf16 | {row['float32']:.6f}" in tables.three_pass(
        {"rows": [row], "errors": []}
    )


def test_a_host_of_a_job_saves_its_share(tmp_path):
    figures = checkpoints.measure("3000@h100:16", tmp_path)
    assert figures["num_hosts"] == 2
    assert [row["devices"] for row in figures["rows"]] == [8, 8, 3]
    assert figures["gib"] == pytest.approx(figures["planned_gib"] / 2, rel=0.1)
    assert figures["gib_on_disk"] > 0.5 * figures["gib"], "random numbers do not compress"
    assert "3,000 x 512 on h100:16" in tables.checkpoints({"dim": 512, "jobs": [figures]})
