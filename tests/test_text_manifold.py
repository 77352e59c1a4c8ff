"""On a real embedding manifold, where its file is at hand: separation, nearness, keep-out."""

import json
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax.cli.main import main

ROWS = Path(__file__).parents[2] / "shared" / "data" / "text_gallery_12k.npy"

pytestmark = pytest.mark.skipif(not ROWS.exists(), reason=f"{ROWS} is absent")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("text"), np.load(ROWS)
    parts = {"gallery": rows[:10_000], "start": rows[11_000:], "rest": rows[3000:10_000]}
    parts["real"] = rows[:3000]
    for name, part in parts.items():
        np.save(folder / f"{name}.npy", part)
    return folder


def _pack(files, out, *words, steps):
    command = [
        "pack",
        "--num-ids",
        "1000",
        "--init",
        str(files / "start.npy"),
        "--steps",
        str(steps),
        "--devices",
        "1",
    ]
    assert main([*command, "--out", str(out), *words]) == 0
    return json.loads((out / "summary.json").read_text())


def test_far_apart_and_near_the_manifold(files, tmp_path):
    nearby = ["--gallery", str(files / "gallery.npy")]
    figures = _pack(files, tmp_path / "run", *nearby, steps=120)
    assert figures["max_cosine"] <= 0.08
    assert figures["gallery_mean_cosine"] >= 0.755


def test_nobody_near_the_keep_out_people(files, tmp_path):
    keep_out = ["--keep-out", str(files / "real.npy"), "--keep-out-cosine", "0.391"]
    nearby = ["--gallery", str(files / "rest.npy"), *keep_out]
    figures = _pack(files, tmp_path / "run", *nearby, steps=50)
    assert figures["keep_out_violations"] == 0
    assert figures["keep_out_max_cosine"] <= 0.391
    real = np.load(files / "real.npy").astype(np.float64)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    x = np.load(tmp_path / "run" / "embeddings.npy").astype(np.float64)
    assert (x @ real.T).max() <= 0.391 + 1e-6
