"""``hyperface leakage`` as a user runs it: embeddings in, figures and a page out."""

import base64
import json
import re
import tarfile

import numpy as np
import pytest

from hyperface_jax.cli.main import main
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.images import decode, encode

pytest.importorskip("matplotlib")

D, N, M = 8, 60, 90


def run(*words):
    return main([str(word) for word in words])


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def summary(out):
    return json.loads((out / "summary.json").read_text())


def write_images(root, names):
    rng = np.random.default_rng(0)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(rng.integers(0, 255, (20, 16, 3), dtype=np.uint8)))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Targets, images drawn from them with names as embed writes them, and real people."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(20, D))
    faces = np.repeat(targets, 3, axis=0) + 0.4 * rng.normal(size=(N, D))
    real = rng.normal(size=(M, D))
    real[11] = 3 * faces[7]
    names = np.array([f"{i // 3:06d}/{i % 3:04d}.png" for i in range(N)])
    np.save("targets.npy", targets.astype(np.float32))
    np.save("real.npy", real.astype(np.float32))
    np.savez("faces.npz", embeddings=faces.astype(np.float32), names=names)
    write_images(tmp_path / "pictures", names)
    write_images(tmp_path / "people", [f"{i:03d}.png" for i in range(M)])
    return unit(faces.astype(np.float32)), unit(real.astype(np.float32)), unit(targets)


@pytest.mark.parametrize("devices", [1, 3])
def test_one_set_against_another(tmp_path, world, devices, capsys):
    faces, real, _ = world
    words = ["--embeddings", "faces.npz", "--against", "real.npy", "--out", "deep/out", "--top", 9]
    assert run("leakage", *words, "--threshold", 0.391, 0.9, "--devices", devices) == 0
    scores = faces @ real.T
    with np.load("deep/out/nearest.npz") as archive:
        np.testing.assert_array_equal(archive["nearest"], scores.argmax(1))
        np.testing.assert_allclose(archive["cosine"], scores.max(1), atol=1e-6)
    result = summary(tmp_path / "deep" / "out")
    found = result["nearest"]
    order = np.argsort(-scores, axis=None)[:9]
    pairs = [(p["row"], p["column"]) for p in found["pairs"]]
    assert pairs == list(
        zip(*(i.tolist() for i in np.unravel_index(order, scores.shape)), strict=True)
    )
    assert pairs[0] == (7, 11)
    rates = {row["threshold"]: row["num"] for row in found["above"]}
    assert list(rates) == [0.3, 0.391, 0.4, 0.5, 0.6, 0.7, 0.9]
    assert all(num == (scores.max(1) > limit).sum() for limit, num in rates.items())
    assert found["max_cosine"] == pytest.approx(1, abs=1e-6)
    assert found["num_pairs"] == N * M
    assert result["own_target"] is None
    assert result["against"]["sha256"] == file_sha256("real.npy")
    assert {"hyperface_jax", "jax", "python"} <= result["versions"].keys()
    page = (tmp_path / "deep" / "out" / "report.html").read_text()
    assert "60 embeddings against 90 others" in page
    assert "src=" not in page
    printed = capsys.readouterr().out
    assert f"above 0.391: {rates[0.391]} rows" in printed


def test_within_one_set_no_row_meets_itself_and_copies_are_found(tmp_path, world):
    _, real, _ = world
    doubled = np.concatenate([real, real[5:6]])
    np.save("doubled.npy", doubled)
    assert run("leakage", "--embeddings", "doubled.npy", "--out", "out") == 0
    found = summary(tmp_path / "out")["nearest"]
    first = found["pairs"][0]
    assert (first["row"], first["column"]) == (5, M)
    assert first["cosine"] == pytest.approx(1, abs=1e-9)
    assert found["pairs"][1]["cosine"] < 1 - 1e-6
    assert len(found["pairs"]) == 100
    assert found["num_pairs"] == (M + 1) * M // 2


def test_images_against_their_targets(tmp_path, world, capsys):
    faces, _, targets = world
    words = ["--embeddings", "faces.npz", "--targets", "targets.npy", "--out", "out"]
    assert run("leakage", *words) == 0
    scores, own = faces @ targets.T, np.arange(N) // 3
    mine = scores[np.arange(N), own]
    ranks = 1 + (scores > mine[:, None] + 1e-6).sum(1)
    with np.load("out/nearest.npz") as archive:
        np.testing.assert_allclose(archive["target_cosine"], mine, atol=1e-6)
        np.testing.assert_array_equal(archive["target_rank"], ranks)
    result = summary(tmp_path / "out")
    assert result["nearest"] is None
    assert result["own_target"]["mean_cosine"] == pytest.approx(mine.mean(), abs=1e-6)
    assert result["own_target"]["rank_1"] == np.mean(ranks == 1)
    assert "own target first of all" in capsys.readouterr().out


def test_targets_by_labels_and_another_set_in_one_run(tmp_path, world):
    own = np.random.default_rng(1).integers(0, 20, N)
    np.save("own.npy", own)
    words = ["--embeddings", "faces.npz", "--targets", "targets.npy", "--labels", "own.npy"]
    assert run("leakage", *words, "--against", "real.npy", "--out", "out") == 0
    faces, _, targets = world
    result = summary(tmp_path / "out")
    mean = np.mean(np.sum(faces * targets[own], axis=1))
    assert result["own_target"]["mean_cosine"] == pytest.approx(mean, abs=1e-6)
    assert result["nearest"]["max_cosine"] == pytest.approx(1, abs=1e-6)


def test_images_stand_side_by_side(tmp_path, world):
    words = ["--embeddings", "faces.npz", "--against", "real.npy", "--out", "out", "--top", 30]
    assert run("leakage", *words, "--images", "pictures", "--against-images", "people") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('<img src="data:image/png;base64,') == 24
    first = summary(tmp_path / "out")["nearest"]["pairs"][0]
    assert (first["row_image"], first["column_image"]) == ("000002/0001.png", "011.png")
    assert "000002/0001.png" in page


def _shards(folder, images):
    """Pack the images below a folder into two shards."""
    folder.mkdir()
    paths = sorted(path for path in images.rglob("*") if path.is_file())
    for number, part in enumerate((paths[:50], paths[50:])):
        with tarfile.open(folder / f"shard-{number}.tar", "w") as tar:
            for path in part:
                tar.add(path, path.relative_to(images))


def test_images_of_both_sides_may_be_in_shards(tmp_path, world):
    words = ["--embeddings", "faces.npz", "--against", "real.npy", "--top", 3]
    pages = []
    for kind in ("folder", "shards"):
        images = ["pictures", "people"]
        if kind == "shards":
            for name in images:
                _shards(tmp_path / f"{name}-shards", tmp_path / name)
            images = [f"{name}-shards" for name in images]
        both = ["--images", images[0], "--against-images", images[1]]
        assert run("leakage", *words, *both, "--out", kind) == 0
        page = (tmp_path / kind / "report.html").read_text()
        pages.append(re.findall(r'src="data:image/png;base64,([^"]+)', page))
    assert len(pages[0]) == 3
    assert pages[0] == pages[1]


def test_images_of_one_side_stand_alone_and_may_be_in_shards(tmp_path, world):
    _shards(tmp_path / "shards", tmp_path / "people")
    words = ["--embeddings", "faces.npz", "--against", "real.npy", "--out", "out"]
    assert run("leakage", *words, "--against-images", "shards") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "each pair shows one face" in page
    picture = base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)', page)[1])
    assert decode(picture, name="pair").shape == (116, 116, 3)
    assert summary(tmp_path / "out")["nearest"]["pairs"][0]["column_image"] == "011.png"


def test_a_set_against_itself_or_with_cosines_all_alike_is_reported(tmp_path, world):
    words = ["leakage", "--embeddings", "faces.npz", "--against", "faces.npz", "--out", "same"]
    assert run(*words) == 0
    np.save("axes.npy", np.eye(D, dtype=np.float32))
    assert run("leakage", "--embeddings", "axes.npy", "--out", "axes") == 0
    targets = ["--targets", "faces.npz", "--labels", "own.npy"]
    np.save("own.npy", np.arange(N))
    assert run("leakage", "--embeddings", "faces.npz", *targets, "--out", "own") == 0
    for out, key, mean in (
        ("same", "nearest", 1),
        ("axes", "nearest", 0),
        ("own", "own_target", 1),
    ):
        found = summary(tmp_path / out)[key]
        assert found["mean_cosine"] == pytest.approx(mean, abs=1e-6)
        assert sum(found["histogram"]["counts"]) == found["num_rows"]
        assert (tmp_path / out / "report.html").exists()


def test_a_finished_result_is_written_again(tmp_path, world):
    words = ["leakage", "--embeddings", "real.npy", "--out", "out"]
    assert run(*words, "--top", 3) == 0
    before = summary(tmp_path / "out")
    assert run(*words, "--top", 3) == 0
    assert summary(tmp_path / "out") == before
    assert run(*words, "--top", 4) == 0
    assert len(summary(tmp_path / "out")["nearest"]["pairs"]) == 4


@pytest.mark.parametrize(
    ("changed", "culprit"),
    [
        ({"--embeddings": "nowhere.npy"}, "nowhere.npy"),
        ({"--embeddings": "nan.npy"}, "nan.npy: 1 of 60 rows are NaN"),
        ({"--against": "empty.npy"}, "empty.npy: is empty"),
        ({"--against": "narrow.npy"}, "--against narrow.npy: rows have dimension 5, not 8"),
        (
            {"--against": None, "--top": 100, "--embeddings": "four.npy"},
            "--top 100: there are only 6",
        ),
        ({"--against": None, "--embeddings": "one.npy"}, "one row makes no pair"),
        ({"--top": 0}, "--top 0"),
        ({"--top": 1001}, "--top 1001"),
        ({"--threshold": 1.5}, "--threshold 1.5"),
        ({"--threshold": "nan"}, "--threshold nan"),
        ({"--images": "people"}, "--images people: lacks 60 of the 60 images"),
        ({"--against-images": "pictures"}, "--against-images pictures: holds 60 images for the 90"),
        (
            {"--against-images": "people", "--against": None},
            "--against-images: belongs to --against",
        ),
        ({"--labels": "own.npy"}, "--labels: belongs to --targets"),
        ({"--targets": "four.npy"}, "labels 0 to 19 for the 4 rows of --targets four.npy"),
        ({"--targets": "narrow.npy"}, "--targets narrow.npy: rows have dimension 5"),
        ({"--embeddings": "real.npy", "--targets": "four.npy"}, "real.npy: tells no identities"),
        ({"--targets": "targets.npy", "--against": None, "--top": 3}, "--top: is of the pairs"),
        ({"--out": "taken"}, "holds files of something else"),
        ({"--out": "run"}, "holds files of something else"),
        ({"--out": "real.npy"}, "--out real.npy: is a file"),
        ({"--devices": 99}, "--devices 99"),
    ],
)
def test_bad_input_is_named_before_any_work(tmp_path, world, changed, culprit, capsys):
    faces, real, _ = world
    faces[3, 1] = np.nan
    np.save("nan.npy", faces)
    np.save("narrow.npy", real[:, :5])
    np.save("empty.npy", real[:0])
    np.save("four.npy", real[:4])
    np.save("one.npy", real[:1])
    for folder, name in (("taken", "cat.jpg"), ("run", "summary.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text('{"max_cosine": 0.1}')
    settings = {"--embeddings": "faces.npz", "--against": "real.npy", "--out": "out"} | changed
    words = [word for pair in settings.items() if pair[1] is not None for word in pair]
    assert run("leakage", *words) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert culprit in captured.err
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("nearest.npz"))
