"""``hyperface demo`` to its report: all files, resume in every stage, the same again."""

import importlib
import json

import numpy as np
import pytest

from hyperface_jax.cli.main import main

SMALL = ["--num-ids", 6, "--images-per-id", 4, "--gallery", 64, "--epochs", 2]
SMALL += ["--pairs", 40, "--test-ids", 12, "--reference-ids", 64]
WAYS = ("packed", "paper", "unpacked", "keep-out")
TRAINED = ("packed", "paper", "unpacked", "real")
SETS = ("easy", "cross-pose", "cross-age", "frontal-profile", "mixed")
EXPECTED = [
    "demo.json",
    "1-gallery/gallery.npz",
    "1-gallery/reference.npz",
    "1-gallery/threshold.json",
    *(f"1-gallery/faces/{i:06d}.png" for i in range(64)),
    *(
        f"2-packing/{w}/{f}"
        for w in WAYS
        for f in ("embeddings.npy", "summary.json", "report.html")
    ),
    *(f"3-synthesis/{w}/shards/shard-000000.tar" for w in WAYS),
    *(
        f"3-synthesis/{w}/{f}"
        for w in WAYS
        for f in ("manifest.parquet", "README.md", "contact_sheet.png", "summary.json")
    ),
    *(f"4-recognition/{w}/{f}" for w in TRAINED for f in ("model.safetensors", "summary.json")),
    *(f"5-evaluation/sets/{name}/{name}.txt" for name in SETS),
    *(f"5-evaluation/{w}/{f}" for w in TRAINED for f in ("evaluation.json", "all_pairs.json")),
    "6-leakage/leakage.json",
    "6-leakage/leakage.npz",
    "results.json",
    "persons.png",
    "report.html",
]


def demo(out, *words):
    return main([str(word) for word in ("demo", "--out", out, *SMALL, *words)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "finished"
    assert demo(out) == 0
    return out


def test_every_file_of_every_stage_is_there(finished):
    missing = [name for name in EXPECTED if not (finished / name).exists()]
    assert not missing


def test_the_report_shows_all_and_needs_nothing_else(finished):
    page = (finished / "report.html").read_text()
    for i, title in enumerate(
        ("Gallery", "Packing", "Synthesis", "Recognition", "Verification", "Leakage"), start=1
    ):
        assert f"<h2>{i} · {title}" in page
    assert page.count("<svg") == 8
    assert page.count('src="data:image/png;base64,') == page.count("<img") == 5
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_figures_are_those_of_the_stages(finished):
    found = json.loads((finished / "results.json").read_text())
    assert set(found["recognition"]) == set(TRAINED)
    for row in found["recognition"].values():
        assert set(row["accuracy"]) == set(SETS)
        assert row["mean_accuracy"] == pytest.approx(np.mean(list(row["accuracy"].values())))
    assert found["packing"]["keep-out"]["keep_out_violations"] == 0
    packed, unpacked = found["packing"]["packed"], found["packing"]["unpacked"]
    assert packed["mean_nearest_cosine"] < unpacked["mean_nearest_cosine"]
    assert unpacked["gallery_mean_cosine"] == pytest.approx(1, abs=1e-5)
    assert found["synthesis"]["unpacked"]["target_cosine"] > 0.5


def _raise_at(monkeypatch, module, name, number):
    """Let the call of that number be stopped by Ctrl-C."""
    *parents, last = name.split(".")
    owner = importlib.import_module(module)
    for part in parents:
        owner = getattr(owner, part)
    function, calls = getattr(owner, last), []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, last, counted)


STOPS = [
    ("hyperface_jax.recognition.recognizer", "FlaxRecognizer.__call__", 1),
    ("hyperface_jax.cli.closed_loop.commands", "run", 4),
    ("hyperface_jax.toyfaces.diffusion", "ToyGenerator.__call__", 2),
    ("hyperface_jax.recognition.train", "Trainer.step", 11),
    ("hyperface_jax.recognition.recognizer", "FlaxRecognizer.__call__", 3),
    ("hyperface_jax.evaluation", "leakage", 2),
    ("hyperface_jax.cli.closed_loop.pictures", "persons_sheet", 1),
]
"""In the middle of each of the seven stages."""


def test_a_loop_stopped_in_every_stage_ends_as_one_that_was_not(finished, tmp_path, monkeypatch):
    out = tmp_path / "stopped"
    for stop in STOPS:
        with monkeypatch.context() as patch:
            _raise_at(patch, *stop)
            assert demo(out) == 130, stop
    assert demo(out) == 0
    for name in EXPECTED:
        assert (out / name).exists(), name
    assert json.loads((out / "results.json").read_text()) == _without_times(finished, out)
    for pattern in ("**/*.png", "**/embeddings.npy", "**/shard-*.tar", "**/model.safetensors"):
        for path in finished.glob(pattern):
            if path.name != "training.png":
                name = path.relative_to(finished)
                assert path.read_bytes() == (out / name).read_bytes(), name


def _without_times(finished, other):
    """Return the results of the first loop with the times of the second."""
    first, second = (json.loads((path / "results.json").read_text()) for path in (finished, other))
    for way, row in first["packing"].items():
        row["seconds"] = second["packing"][way]["seconds"]
    return first


def test_a_folder_of_something_else_is_left_alone(finished, tmp_path, capsys):
    assert demo(finished, "--seed", 1) == 2
    assert "other settings (seed)" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("keep")
    assert demo(tmp_path) == 2
    assert "holds no demo" in capsys.readouterr().err
    assert demo(tmp_path / "new", "--gallery", 1) == 2
    assert "--gallery 1: must be 2 or more" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
