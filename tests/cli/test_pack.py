"""``hyperface pack`` as a user runs it: processes, files, exit codes."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from hyperface_jax import sphere
from hyperface_jax.cli.main import main

SUMMARY_FIELDS = [
    "num_ids",
    "dim",
    "method",
    "steps",
    "seed",
    "max_cosine",
    "mean_nearest_cosine",
    "min_angle_deg",
    "lower_bound",
    "lower_bound_name",
    "gap",
    "gallery_mean_cosine",
    "gallery_min_cosine",
    "subspace_dims",
    "keep_out_violations",
    "seconds",
    "pairs_per_second",
    "device",
    "versions",
]


def run(*words):
    """Run in this process, on one device as a process of its own would."""
    devices = ["--devices", 1] if words[0] == "pack" else []
    return main([str(word) for word in (*words, *devices)])


def embeddings(out):
    return np.load(out / "embeddings.npy")


def summary(out):
    return json.loads((out / "summary.json").read_text())


@pytest.fixture
def gallery(tmp_path):
    path = tmp_path / "gallery.npy"
    rows = sphere.sample_uniform(jax.random.key(5), 300, 16) + 0.5
    np.save(path, np.asarray(rows))
    return path


def test_a_run_leaves_everything_it_promises(tmp_path, capsys):
    out = tmp_path / "deep" / "run"
    assert run("pack", "--num-ids", 60, "--dim", 8, "--steps", 120, "--out", out) == 0
    x, figures = embeddings(out), summary(out)
    assert x.shape == (60, 8)
    assert x.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
    assert set(SUMMARY_FIELDS) <= figures.keys()
    scores = x @ x.T - 3 * np.eye(60)
    assert figures["max_cosine"] == pytest.approx(scores.max(), abs=1e-6)
    assert figures["mean_nearest_cosine"] == pytest.approx(scores.max(1).mean(), abs=1e-6)
    assert figures["gap"] == pytest.approx(figures["max_cosine"] - figures["lower_bound"])
    assert figures["gap"] > 0
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in history] == list(range(120))
    assert min(row["max_cosine"] for row in history) == pytest.approx(
        figures["max_cosine"], abs=1e-6
    )
    assert "<html" in (out / "report.html").read_text()
    assert "max cosine" in capsys.readouterr().out


def test_no_steps_writes_the_start(tmp_path, gallery):
    out = tmp_path / "run"
    words = ["--init", gallery, "--dim", 16, "--steps", 0, "--out", out]
    assert run("pack", "--num-ids", 300, *words) == 0
    rows = np.load(gallery)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(embeddings(out), rows, atol=1e-6)
    assert summary(out)["max_cosine"] == summary(out)["initial_max_cosine"]


def test_the_span_of_several_gallery_rows_and_a_start_far_apart(tmp_path, gallery):
    words = ["pack", "--num-ids", 40, "--gallery", gallery, "--alpha", 8]
    runs = {
        "random": ["--steps", 0],
        "farthest": ["--steps", 0, "--init", "farthest"],
        "span": ["--steps", 100, "--neighbors", 6],
    }
    figures = {}
    for name, more in runs.items():
        assert run(*words, *more, "--out", tmp_path / name) == 0
        figures[name] = summary(tmp_path / name)
    assert figures["farthest"]["max_cosine"] < figures["random"]["max_cosine"]
    assert figures["farthest"]["gallery_mean_cosine"] > 0.999
    assert figures["span"]["max_cosine"] < figures["farthest"]["max_cosine"]
    history = (tmp_path / "span" / "history.jsonl").read_text().splitlines()
    to_the_span = json.loads(history[figures["span"]["best_step"]])["gallery_mean_cosine"]
    assert to_the_span > figures["span"]["gallery_mean_cosine"] + 0.01


def test_a_finished_run_is_left_alone(tmp_path, capsys):
    words = ["pack", "--num-ids", 60, "--dim", 8, "--steps", 120, "--out", tmp_path / "run"]
    assert run(*words) == 0
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    capsys.readouterr()
    assert run(*words) == 0
    assert "already finished" in capsys.readouterr().out
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_other_settings_on_the_same_directory_are_refused(tmp_path, capsys):
    out = tmp_path / "run"
    assert run("pack", "--num-ids", 60, "--dim", 8, "--steps", 120, "--out", out) == 0
    assert run("pack", "--num-ids", 60, "--dim", 5, "--seed", 3, "--steps", 120, "--out", out) == 2
    error = capsys.readouterr().err
    assert "dim (8 there, 5 now)" in error
    assert "seed (0 there, 3 now)" in error
    assert "num_ids" not in error


def test_a_gallery_run_reports_nearness_and_knows_its_files(tmp_path, gallery, capsys):
    out = tmp_path / "run"
    words = ["pack", "--num-ids", 50, "--gallery", gallery, "--steps", 80, "--out", out]
    assert run(*words) == 0
    rows = np.load(gallery)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    nearness = (embeddings(out) @ rows.T).max(axis=1)
    assert summary(out)["gallery_mean_cosine"] == pytest.approx(nearness.mean(), abs=1e-5)
    assert summary(out)["gallery_min_cosine"] == pytest.approx(nearness.min(), abs=1e-5)
    np.save(gallery, np.load(gallery)[::-1])
    assert run(*words) == 2
    assert "gallery_sha256" in capsys.readouterr().err


def test_extending_leaves_the_old_rows_bit_identical(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    assert run("pack", "--num-ids", 30, "--dim", 6, "--steps", 60, "--out", old) == 0
    frozen = old / "embeddings.npy"
    assert run("pack", "--num-ids", 25, "--frozen", frozen, "--steps", 60, "--out", new) == 0
    x = embeddings(new)
    assert x.shape == (55, 6)
    assert x[:30].tobytes() == embeddings(old).tobytes()
    assert summary(new)["num_frozen"] == 30
    scores = x @ x.T - 3 * np.eye(55)
    assert summary(new)["max_cosine"] == pytest.approx(scores[30:].max(), abs=1e-6)


def test_extending_says_when_the_gallery_is_left_out(tmp_path, gallery, capsys):
    old = tmp_path / "old"
    near = ("--gallery", gallery, "--steps", 10)
    assert run("pack", "--num-ids", 10, *near, "--out", old) == 0
    more = ("pack", "--num-ids", 3, "--frozen", old / "embeddings.npy", "--quiet")
    capsys.readouterr()
    assert run(*more, *near, "--out", tmp_path / "near") == 0
    assert "gallery" not in capsys.readouterr().err
    assert run(*more, "--steps", 10, "--out", tmp_path / "free") == 0
    assert "embeddings.npy: was packed near a gallery" in capsys.readouterr().err


def test_extending_a_polished_packing_keeps_its_float64_bits(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    assert run("pack", "--num-ids", 8, "--dim", 3, "--polish", "--out", old) == 0
    assert embeddings(old).dtype == np.float64
    frozen = old / "embeddings.npy"
    assert run("pack", "--num-ids", 4, "--frozen", frozen, "--steps", 60, "--out", new) == 0
    assert embeddings(new)[:8].tobytes() == embeddings(old).tobytes()


def test_keep_out_is_kept(tmp_path, gallery):
    out = tmp_path / "run"
    words = ["--keep-out", gallery, "--keep-out-cosine", 0.8, "--dim", 16]
    assert run("pack", "--num-ids", 50, *words, "--steps", 80, "--out", out) == 0
    rows = np.load(gallery)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert (embeddings(out) @ rows.T).max() <= 0.8
    assert summary(out)["keep_out_violations"] == 0


def test_an_infeasible_keep_out_set_is_said_so(tmp_path, capsys):
    everywhere = tmp_path / "everywhere.npy"
    np.save(everywhere, np.concatenate([np.eye(3), -np.eye(3)]))
    out = tmp_path / "run"
    words = ["--keep-out", everywhere, "--keep-out-cosine", 0.3, "--dim", 3]
    assert run("pack", "--num-ids", 5, *words, "--steps", 40, "--out", out) == 0
    assert summary(out)["keep_out_violations"] == 5
    assert summary(out)["keep_out_max_cosine"] > 0.3
    assert "infeasible" in capsys.readouterr().err


def test_restarts_and_polish_find_the_icosahedron(tmp_path):
    out = tmp_path / "run"
    words = ["--restarts", 8, "--polish", "--steps", 200]
    assert run("pack", "--num-ids", 12, "--dim", 3, *words, "--out", out) == 0
    assert summary(out)["max_cosine"] == pytest.approx(5**-0.5, abs=1e-9)


@pytest.mark.parametrize("method", ["paper", "stochastic"])
def test_other_methods_run(tmp_path, method):
    out = tmp_path / "run"
    words = ["pack", "--num-ids", 300, "--dim", 8, "--method", method, "--steps", 60, "--out", out]
    assert run(*words) == 0
    assert summary(out)["max_cosine"] < summary(out)["initial_max_cosine"]


def test_a_short_run_of_mini_batches_ends_with_an_exact_figure_unless_told_otherwise(tmp_path):
    size = ["--num-ids", 600, "--dim", 8]
    words = ["pack", *size, "--method", "stochastic", "--batch-size", 20, "--steps", 1]
    assert run(*words, "--out", tmp_path / "swept") == 0
    assert run(*words, "--no-relax", "--out", tmp_path / "sampled") == 0
    swept, sampled = summary(tmp_path / "swept"), summary(tmp_path / "sampled")
    assert (swept["max_cosine_rows"], swept["max_cosine_is_exact"]) == (600, True)
    assert (sampled["max_cosine_rows"], sampled["max_cosine_is_exact"]) == (20, False)
    x = np.load(tmp_path / "swept" / "embeddings.npy")
    assert swept["max_cosine"] == pytest.approx((x @ x.T - 2 * np.eye(600)).max(), abs=1e-6)


def _spawn(*words):
    command = [sys.executable, "-m", "hyperface_jax.cli.main", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_for_checkpoint(process, out, number):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        steps = [p for p in (out / "checkpoints").glob("*") if p.name.isdigit()]
        if any(int(p.name) >= number for p in steps):
            return
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint {number}: {process.communicate()}")


LONG = ["pack", "--num-ids", 400, "--dim", 16, "--checkpoint-seconds", 0]


@pytest.mark.parametrize(
    "extra",
    [
        ["--steps", 1000],
        ["--steps", 1000, "--method", "stochastic", "--batch-size", 100],
        ["--steps", 300, "--restarts", 3],
    ],
    ids=["annealed", "stochastic", "restarts"],
)
def test_resume_after_kill_equals_an_uninterrupted_run(tmp_path, extra):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(*LONG, *extra, "--out", whole) == 0
    process = _spawn(*LONG, *extra, "--out", killed)
    _wait_for_checkpoint(process, killed, 100)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (killed / "summary.json").exists(), "killed too late to show anything"
    assert run(*LONG, *extra, "--out", killed) == 0
    assert embeddings(killed).tobytes() == embeddings(whole).tobytes()
    steps = [
        json.loads(line)["step"] for line in (killed / "history.jsonl").read_text().splitlines()
    ]
    assert steps == list(range(len(steps)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_keeps_others_out_until_a_signal_stops_it(tmp_path, number, capsys):
    words = [*LONG, "--steps", 100_000, "--out", tmp_path / "run"]
    process = _spawn(*words)
    _wait_for_checkpoint(process, tmp_path / "run", 100)
    assert run(*words) == 2
    assert "another process" in capsys.readouterr().err
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command to go on" in stdout
    assert "Traceback" not in stderr
