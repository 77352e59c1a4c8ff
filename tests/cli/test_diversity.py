"""``hyperface diversity`` as a user runs it."""

import json

import numpy as np
import pytest

from hyperface_jax.cli.main import main
from hyperface_jax.evaluation import diversity

pytest.importorskip("matplotlib")

D, N = 8, 90


def run(*words):
    return main([str(word) for word in words])


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 15, N)
    faces = unit(rng.normal(size=(15, D))[labels] + 0.4 * rng.normal(size=(N, D)))
    gallery = unit(rng.normal(size=(70, D)))
    np.savez("faces.npz", embeddings=faces, identities=labels)
    np.save("faces.npy", faces)
    np.save("gallery.npy", gallery)
    return faces, labels, gallery


def summary(out):
    return json.loads((out / "summary.json").read_text())


def test_the_figures_are_those_of_the_embeddings(tmp_path, world, capsys):
    faces, labels, gallery = world
    words = ["--embeddings", "faces.npz", "--gallery", "gallery.npy", "--out", "out"]
    assert run("diversity", *words, "--threshold", 0.45) == 0
    expected = diversity(faces, labels, gallery=gallery)
    result = summary(tmp_path / "out")
    found = result["diversity"]
    known = expected.summary([0.3, 0.4, 0.45, 0.5, 0.6, 0.7])
    assert found["gallery"]["above"] == known["gallery"]["above"]
    for name in ("genuine_mean", "impostor_mean", "vendi_images", "vendi_identities", "resultant"):
        assert found[name] == pytest.approx(known[name], rel=1e-5), name
    assert result["pairs"]["eer"] == pytest.approx(expected.pairs.eer)
    assert result["pairs"]["num_genuine"] == len(expected.pairs.genuine)
    with np.load("out/identities.npz") as archive:
        np.testing.assert_array_equal(archive["labels"], np.arange(15))
        np.testing.assert_array_equal(archive["num_images"], np.bincount(labels))
        np.testing.assert_allclose(archive["resultant"], expected.classes.resultant, rtol=1e-5)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "90 images of 15 identities" in page
    assert "Coverage of the gallery" in page
    assert f"Vendi score {found['vendi_identities']:.1f}" in capsys.readouterr().out


def test_labels_of_a_file_and_no_gallery(tmp_path, world):
    _, labels, _ = world
    (tmp_path / "who.txt").write_text("".join(f"person {i}\n" for i in labels))
    words = ["diversity", "--embeddings", "faces.npy", "--labels", "who.txt", "--out", "out"]
    assert run(*words) == 0
    named = summary(tmp_path / "out")
    assert named["gallery"] is None
    assert "Coverage" not in (tmp_path / "out" / "report.html").read_text()
    with np.load("out/identities.npz") as archive:
        assert archive["labels"][0] == "person 0"
    assert run(*words) == 0
    assert summary(tmp_path / "out") == named


def test_images_that_are_all_alike_still_make_a_page(tmp_path, world):
    np.savez("same.npz", embeddings=np.repeat(np.eye(D), 2, axis=0), labels=np.arange(2 * D) // 2)
    assert run("diversity", "--embeddings", "same.npz", "--out", "out") == 0
    result = summary(tmp_path / "out")
    assert result["pairs"]["eer"] == 0
    assert result["pairs"]["d_prime"] is None
    assert result["diversity"]["vendi_images"] == pytest.approx(D)
    assert "∞" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("changed", "culprit"),
    [
        ({"--embeddings": "nowhere.npy"}, "nowhere.npy"),
        ({"--embeddings": "faces.npy"}, "faces.npy: tells no identities"),
        ({"--labels": "short.npy"}, "short.npy: holds int64 (3,) for 90 rows"),
        ({"--labels": "alone.npy"}, "alone.npy: labels: identities: 90, images of each at most: 1"),
        ({"--gallery": "narrow.npy"}, "--gallery narrow.npy: rows have dimension 5, not 8"),
        ({"--seed": -1}, "--seed -1"),
        ({"--threshold": 2}, "--threshold 2"),
        ({"--out": "taken"}, "holds files of something else"),
    ],
)
def test_bad_input_is_named_before_any_work(tmp_path, world, changed, culprit, capsys):
    np.save("short.npy", np.arange(3))
    np.save("alone.npy", np.arange(N))
    np.save("narrow.npy", world[2][:, :5])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "cat.jpg").write_text("")
    settings = {"--embeddings": "faces.npz", "--out": "out"} | changed
    assert run("diversity", *(word for pair in settings.items() for word in pair)) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert culprit in captured.err
    assert not list(tmp_path.rglob("summary.json"))
