"""``runs.diversity`` from Python: the figures of a data set, and settings that cannot work."""

from pathlib import Path

import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.evaluation import certify, diversity
from hyperface_jax.io.files import read_json

pytest.importorskip("matplotlib")

D, N = 8, 60


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, N)
    faces = rng.normal(size=(12, D))[labels] + 0.4 * rng.normal(size=(N, D))
    faces = (faces / np.linalg.norm(faces, axis=1, keepdims=True)).astype(np.float32)
    gallery = rng.normal(size=(40, D)).astype(np.float32)
    np.savez("faces.npz", embeddings=faces, identities=labels)
    np.save("gallery.npy", gallery)
    return faces, labels, gallery


def settings(**changes):
    chosen = {"embeddings": Path("faces.npz"), "gallery": Path("gallery.npy"), "out": Path("out")}
    return runs.Diversity(**(chosen | changes))


def test_a_result_is_what_the_folder_holds(world, capsys):
    faces, labels, _ = world
    result = runs.diversity(settings(threshold=(0.45,)))
    assert result.summary == read_json(result.path / "summary.json")
    expected = diversity(faces, labels)
    found = result.summary["diversity"]
    assert found["genuine_mean"] == pytest.approx(expected.genuine_mean, rel=1e-5)
    assert result.summary["pairs"]["eer"] == pytest.approx(expected.pairs.eer)
    lines = result.text.splitlines()
    assert lines[0].startswith(f"{N} images of 12 identities; cosine within ")
    assert any(line.startswith("  gallery within 0.45: ") for line in lines)
    assert lines[-1] == "report: out/report.html"
    assert "".join(capsys.readouterr()) == ""


def test_a_certificate_is_reported_where_it_is_asked_for(world):
    faces, labels, _ = world
    result = runs.diversity(settings(certify=0.5))
    expected = certify(faces, labels, diversity(faces, labels).classes, threshold=0.5)
    told = result.summary["certificate"]
    assert (told["num_pairs"], told["num_certified"]) == (66, expected.num_certified)
    assert told["worst"][0]["identities"] == expected.labels[expected.worst[0]].tolist()
    assert f"certified at cosine 0.5: {expected.num_certified} of 66 pairs" in result.text
    with np.load("out/identities.npz") as stored:
        np.testing.assert_allclose(stored["radius"], expected.radii, atol=1e-6)
    assert runs.diversity(settings()).summary["certificate"] is None


def test_no_gallery_and_a_set_that_was_measured_before(world):
    first = runs.diversity(settings(gallery=None))
    assert "gallery" not in first.text
    assert runs.diversity(settings(gallery=None)).summary == first.summary


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"seed": -1}, "`seed=-1`: must be at least 0"),
        ({"certify": 2.0}, "`certify=2.0`: must be a cosine"),
        ({"threshold": (2.0,)}, "`threshold=2.0`: must be a cosine"),
        ({"embeddings": Path("gallery.npy")}, "tells no identities; give them as `labels`"),
        ({"labels": Path("alone.npy")}, "alone.npy: labels: identities: 60"),
        ({"gallery": Path("narrow.npy")}, "`gallery=narrow.npy`: rows have dimension 5, not 8"),
        ({"out": Path("taken")}, "holds files of something else"),
    ],
)
def test_bad_input_names_the_field(world, changes, culprit, tmp_path):
    np.save("alone.npy", np.arange(N))
    np.save("narrow.npy", world[2][:, :5])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "cat.jpg").write_text("")
    with pytest.raises(runs.InputError, match=culprit):
        runs.diversity(settings(**changes))
    assert not list(tmp_path.rglob("summary.json"))
