"""``hyperface pack --init code``: written as it is with its certificate, or refined."""

import json
import re
from contextlib import contextmanager

import numpy as np
import pytest

from hyperface_jax import codes
from hyperface_jax.cli.main import main
from hyperface_jax.runs import Pack, Stopped, Watch, pack
from hyperface_jax.runs.packing import codes as stage


def run(*words):
    return main([str(word) for word in (*words, "--devices", 1)])


def summary(out):
    return json.loads((out / "summary.json").read_text())


def code_words(out, num_ids=3000, dim=64):
    words = ["--num-ids", num_ids, "--dim", dim, "--init", "code", "--steps", 0, "--out", out]
    return ["pack", *words]


def test_a_code_is_written_with_its_certificate(tmp_path, capsys):
    assert run(*code_words(tmp_path / "run")) == 0
    x, figures = np.load(tmp_path / "run" / "embeddings.npy"), summary(tmp_path / "run")
    assert (x.shape, x.dtype) == ((3000, 64), np.float32)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
    best = codes.best_known(3000, 64)
    scores = x @ x.T - 3 * np.eye(3000)
    assert scores.max() == pytest.approx(best.max_cosine, abs=1e-6)
    assert figures["max_cosine"] == figures["best_known"] == best.max_cosine
    assert figures["max_cosine_is_exact"]
    assert figures["lower_bound"] < figures["max_cosine"]
    certificate = figures["certificate"]
    assert certificate["verified_by"] == "words"
    assert certificate["verified_max_cosine"] == pytest.approx(best.max_cosine, abs=1e-9)
    assert certificate["code"] == best.name
    assert certificate["reference"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Best construction" in page
    assert best.name in page
    assert "certified by its construction" in capsys.readouterr().out


def test_the_seed_turns_the_code(tmp_path):
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        assert run(*code_words(tmp_path / name, 40, 8), "--seed", seed) == 0
    a, b, c = (np.load(tmp_path / name / "embeddings.npy") for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert abs(a - c).max() > 0.1


def test_an_interrupted_code_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "_BLOCK", 500)
    whole = tmp_path / "whole"
    assert run(*code_words(whole)) == 0

    counts = iter(range(1, 100))

    @contextmanager
    def second_block():
        yield lambda: next(counts) == 2

    out = tmp_path / "run"
    config = Pack(num_ids=3000, dim=64, init="code", steps=0, devices=1, out=out)
    with pytest.raises(Stopped):
        pack(config, watch=Watch(stopping=second_block))
    assert not (out / "summary.json").exists()
    partial = np.load(out / ".embeddings.npy.partial", mmap_mode="r")
    assert partial[:1000].any(axis=1).all()
    assert not partial[1000:].any()
    assert run(*code_words(out)) == 0
    assert not (out / ".embeddings.npy.partial").exists()
    expected, found = np.load(whole / "embeddings.npy"), np.load(out / "embeddings.npy")
    np.testing.assert_array_equal(found, expected)
    assert summary(out)["mean_nearest_cosine"] == summary(whole)["mean_nearest_cosine"]


def test_a_finished_code_stays_and_other_settings_are_refused(tmp_path, capsys):
    out = tmp_path / "run"
    assert run(*code_words(out, 40, 8)) == 0
    before = (out / "embeddings.npy").read_bytes()
    assert run(*code_words(out, 40, 8)) == 0
    assert "already finished" in capsys.readouterr().out
    assert run(*code_words(out, 41, 8)) == 2
    assert "num_ids" in capsys.readouterr().err
    assert (out / "embeddings.npy").read_bytes() == before


def test_rows_that_are_not_the_code_are_found_out(tmp_path, monkeypatch):
    rotated_rows = stage.rotated_rows

    def broken(code, rotation):
        return rotated_rows(code, rotation.at[:, 0].set(0))

    monkeypatch.setattr(stage, "rotated_rows", broken)
    with pytest.raises(AssertionError, match="was written"):
        run(*code_words(tmp_path / "run"))


def test_a_code_is_refined_and_never_made_worse(tmp_path, capsys):
    words = ["--num-ids", 300, "--dim", 40, "--init", "code", "--steps", 150]
    assert run("pack", *words, "--out", tmp_path / "run") == 0
    figures = summary(tmp_path / "run")
    assert figures["initial_max_cosine"] == pytest.approx(figures["best_known"], abs=1e-6)
    assert figures["max_cosine"] < figures["best_known"] - 0.01
    assert "certificate" not in figures
    (shown,) = re.findall(r"best construction ([0-9.]+)", capsys.readouterr().out)
    assert float(shown) == pytest.approx(figures["best_known"], abs=1e-6)


def test_codes_go_with_a_gallery_and_with_frozen_rows(tmp_path):
    gallery = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32) + 0.5
    np.save(tmp_path / "gallery.npy", gallery)
    near = ["--num-ids", 50, "--init", "code", "--gallery", tmp_path / "gallery.npy"]
    assert run("pack", *near, "--steps", 0, "--out", tmp_path / "start") == 0
    assert run("pack", *near, "--steps", 60, "--out", tmp_path / "near") == 0
    start, end = summary(tmp_path / "start"), summary(tmp_path / "near")
    assert start["max_cosine"] == pytest.approx(start["best_known"], abs=1e-6)
    assert end["gallery_mean_cosine"] > start["gallery_mean_cosine"] + 0.1
    words = ["--num-ids", 1, "--frozen", tmp_path / "near" / "embeddings.npy"]
    assert run("pack", *words, "--init", "code", "--steps", 5, "--out", tmp_path / "more") == 0
    assert summary(tmp_path / "more")["num_frozen"] == 50


@pytest.mark.parametrize("method", ["paper", "stochastic"])
def test_other_methods_do_not_refine_codes(tmp_path, capsys, method):
    words = ["--num-ids", 50, "--dim", 8, "--init", "code", "--method", method]
    assert run("pack", *words, "--out", tmp_path / "run") == 2
    assert f"--method {method}" in capsys.readouterr().err


def test_bounds_verifies_the_code(capsys):
    assert main(["bounds", "--num-ids", "500000", "--dim", "512", "--verify"]) == 0
    out = capsys.readouterr().out
    assert "0.062500000 (Gold, d = 512)" in out
    assert "verified:     0.062500000 over all words" in out
