import json
import os
import re
import runpy
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from hyperface_jax.cli.main import main
from hyperface_jax.faces import Recognizer
from hyperface_jax.io.images import decode
from hyperface_jax.recognition.backbones import BACKBONES, BackboneConfig
from hyperface_jax.recognition.sources import open_source
from hyperface_jax.sphere import sample_uniform
from hyperface_jax.synthesis.manifest import read_manifest

SYNTHESIS = Path(__file__).parents[1] / "synthesis"
FAKES = ["--generator", "fake_generator:FAKE"]


@pytest.fixture(autouse=True)
def with_the_fake_generator(monkeypatch):
    monkeypatch.syspath_prepend(str(SYNTHESIS))
    monkeypatch.setenv("PYTHONPATH", str(SYNTHESIS))
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ids(tmp_path):
    path = tmp_path / "ids.npy"
    np.save(path, np.asarray(sample_uniform(jax.random.key(0), 9, 12)))
    return path


def _arguments(ids, out, *more):
    small = ["--images-per-id", "6", "--shard-size", "10", "--crop", "none", "--silent"]
    return ["synthesize", "--embeddings", str(ids), *FAKES, "--out", str(out), *small, *more]


def _images(out):
    """Return every image by identity and sample, from the shards."""
    found = {}
    for path in sorted((out / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for name in tar.getnames():
                if name.endswith(".png"):
                    key = tuple(int(part) for part in name.removesuffix(".png").split("_"))
                    assert key not in found, "an image is doubled"
                    found[key] = decode(tar.extractfile(name).read(), name=name)
    return found


def _same(one, other):
    assert one.keys() == other.keys()
    return all(np.array_equal(one[key], other[key]) for key in one)


def test_a_data_set_has_everything(ids, tmp_path, capsys):
    assert main(_arguments(ids, tmp_path / "out")) == 0
    assert "54 images of 9 identities" in capsys.readouterr().out
    out = tmp_path / "out"
    assert set(_images(out)) == {(i, j) for i in range(9) for j in range(6)}
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["num_images"], summary["num_rejected"]) == (54, 0)
    assert len(read_manifest(out)) == 54
    sheet = decode((out / "contact_sheet.png").read_bytes(), name="sheet")
    assert sheet.shape[0] == 9 * 114 + 2
    assert 0 < sheet.shape[1] - (6 * 114 + 2) < 114  # the numbers of the identities
    assert (
        "fake_generator:FAKE" in (out / "README.md").read_text()
        or "fake" in (out / "dataset.json").read_text()
    )
    assert len(open_source(out / "shards")) == 54


def test_images_show_the_conditions_of_the_manifest(ids, tmp_path):
    main(_arguments(ids, tmp_path / "out", "--min-cosine", "0.6"))
    points = np.load(ids)
    read = runpy.run_path(str(SYNTHESIS / "fake_generator.py"))["read"]
    table = read_manifest(tmp_path / "out").to_pylist()
    images = _images(tmp_path / "out")
    for row in table:
        image = images[row["identity"], row["sample"]]
        cosine = read(image[None])[0] @ points[row["identity"]]
        assert cosine == pytest.approx(row["condition_cosine"], abs=0.02)
        assert row["condition_cosine"] >= 0.6 - 1e-6
    assert np.std([row["condition_cosine"] for row in table]) > 0.02


@pytest.mark.parametrize(
    "changes", [["--batch-size", "1"], ["--batch-size", "37"], ["--shard-size", "4"]]
)
def test_the_layout_of_the_work_changes_no_image(ids, tmp_path, changes):
    main(_arguments(ids, tmp_path / "one"))
    main(_arguments(ids, tmp_path / "other", *changes))
    assert _same(_images(tmp_path / "one"), _images(tmp_path / "other"))


def test_a_folder_holds_the_same_images(ids, tmp_path):
    main(_arguments(ids, tmp_path / "tar"))
    main(_arguments(ids, tmp_path / "folder", "--format", "folder"))
    for (identity, sample), image in _images(tmp_path / "tar").items():
        path = tmp_path / "folder" / "images" / f"{identity:06d}" / f"{sample:04d}.png"
        np.testing.assert_array_equal(decode(path.read_bytes(), name="image"), image)
    assert (tmp_path / "folder" / "contact_sheet.png").exists()


def _worker(arguments, **environment):
    command = [sys.executable, "-m", "hyperface_jax.cli.main", *arguments]
    return subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_workers_share_one_folder_and_agree_with_one(ids, tmp_path):
    main(_arguments(ids, tmp_path / "alone"))
    workers = [
        _worker(_arguments(ids, tmp_path / "both"), RANK=str(rank), WORLD_SIZE="2")
        for rank in range(2)
    ]
    outputs = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert _same(_images(tmp_path / "alone"), _images(tmp_path / "both"))
    assert (tmp_path / "both" / "summary.json").exists()


def test_a_killed_worker_is_made_good_by_the_same_command(ids, tmp_path, monkeypatch):
    main(_arguments(ids, tmp_path / "whole"))
    slow = ["--generator", "slow_generator:SLOW"]
    (tmp_path / "slow_generator.py").write_text(
        "import time, dataclasses, fake_generator as f\n"
        "def paint(c, n):\n    time.sleep(0.1)\n    return f.paint(c, n)\n"
        "SLOW = dataclasses.replace(f.FAKE, function=paint)\n"
    )
    arguments = [*_arguments(ids, tmp_path / "broken", "--batch-size", "2"), *slow]
    process = _worker(arguments, PYTHONPATH=f"{SYNTHESIS}:{tmp_path}")
    first = tmp_path / "broken" / "manifest" / "shard-000000.parquet"
    while not first.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "broken" / "summary.json").exists()
    assert 10 <= len(_images(tmp_path / "broken")) < 54
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(arguments) == 0
    assert _same(_images(tmp_path / "whole"), _images(tmp_path / "broken"))


class _Reader(Recognizer):
    image_size, color, embedding_dim, digest = 16, "rgb", 12, "reader"

    def __call__(self, images, /):
        return runpy.run_path(str(SYNTHESIS / "fake_generator.py"))["read"](images)


@pytest.fixture
def with_reader(monkeypatch, tmp_path):
    from hyperface_jax.faces import opening

    monkeypatch.setattr(opening, "open_recognizer", lambda path, *, color: _Reader())
    return ["--recognizer", str(tmp_path), "--min-cosine", "0.5"]


def test_a_recognizer_measures_faces_and_separation(ids, tmp_path, with_reader, capsys):
    main(_arguments(ids, tmp_path / "out", *with_reader))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert 0.5 < summary["target_cosine"]["0.5"] < 0.95
    points = np.load(ids)
    cosines = points @ points.T - 2 * np.eye(9)
    assert summary["fidelity"]["nearest_before_max"] == pytest.approx(cosines.max(), abs=1e-5)
    assert summary["fidelity"]["num_measured"] == 9
    assert "nearest other identity" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    captions = re.findall(r"<figcaption>(-?[\d.]+): ([^<]+)</figcaption>", page)
    farthest = [(float(c), text) for c, text in captions if "image" in text]
    closest = [(float(c), text) for c, text in captions if "identities" in text]
    rows = read_manifest(tmp_path / "out").to_pylist()
    worst = sorted(rows, key=lambda row: row["target_cosine"])[:12]
    assert farthest == [
        (
            pytest.approx(row["target_cosine"], abs=1e-4),
            f"identity {row['identity']}, image {row['sample']}",
        )
        for row in worst
    ]
    assert len(closest) == 12
    assert closest[0][0] == pytest.approx(summary["fidelity"]["nearest_after_max"], abs=1e-4)
    assert [cosine for cosine, _ in closest] == sorted((c for c, _ in closest), reverse=True)


_TWELVE = {"matrix": (4 * 8 * 8, 12), "bias": (12,)}
"""Shapes of a tiny recognizer of images and embeddings as the fake generator takes them."""


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_the_recognizer_sees_its_own_channel_order_as_in_embed(ids, tmp_path, color):
    pytest.importorskip("onnx")
    tiny = runpy.run_path(str(SYNTHESIS.parent / "faces" / "tiny_onnx.py"))
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=size).astype(np.float32) for name, size in _TWELVE.items()}
    recognizer = str(tiny["write"](tmp_path / "tiny.onnx", size=16, **arrays))
    words = ["--recognizer", recognizer, "--color", color]
    assert main(_arguments(ids, tmp_path / "out", *words, "--format", "folder")) == 0
    gallery = str(tmp_path / "gallery.npz")
    assert main(["embed", str(tmp_path / "out" / "images"), "--out", gallery, *words]) == 0
    parts = sorted((tmp_path / "out" / "embeddings").glob("*.npz"))
    faces = np.concatenate([np.load(part)["embeddings"] for part in parts])
    np.testing.assert_allclose(faces, np.load(gallery)["embeddings"], atol=1e-5)
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["recognizer_color"] == color


def test_faces_too_far_from_their_target_are_dropped(ids, tmp_path, with_reader):
    out = tmp_path / "out"
    main(_arguments(ids, out, *with_reader, "--min-target-cosine", "0.6", "--max-attempts", "1"))
    table = read_manifest(out).to_pylist()
    kept = {(row["identity"], row["sample"]) for row in table if row["is_kept"]}
    assert 0 < len(kept) < 54
    assert set(_images(out)) == kept
    assert all((row["target_cosine"] >= 0.6) == row["is_kept"] for row in table)
    again = tmp_path / "again"
    main(_arguments(ids, again, *with_reader, "--min-target-cosine", "0.6", "--max-attempts", "40"))
    assert len(_images(again)) == 54


BROKEN = """
import dataclasses, numpy as np, fake_generator as f
def black(c, n): return np.zeros((len(c), 16, 16, 3), np.uint8)
def some(c, n): return f.paint(c, n) * (n[:, 0] > -1)[:, None, None, None].astype(np.uint8)
def still(c, n): return f.paint(c, 0 * n)
def stuck(c, n): return f.paint(c, np.where(c[:, :1] > 0, n, 0))
def made(x): return dataclasses.replace(f.FAKE, function=x)
BLACK, SOME, STILL, STUCK = map(made, (black, some, still, stuck))
"""


@pytest.fixture
def broken(tmp_path, monkeypatch):
    (tmp_path / "broken_generator.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda name: ["--generator", f"broken_generator:{name}"]


def _look(request, with_it):
    return request.getfixturevalue("with_reader") if with_it else []


@pytest.mark.parametrize("with_it", [False, True])
@pytest.mark.parametrize("num_ids", ["3", "9"])
def test_nothing_but_black_images_is_an_error(
    ids, tmp_path, broken, request, capsys, with_it, num_ids
):
    words = [
        *broken("BLACK"),
        *_look(request, with_it),
        "--num-ids",
        num_ids,
        "--max-attempts",
        "1",
    ]
    assert main(_arguments(ids, tmp_path / "out", *words)) == 2
    assert "images came out of one color" in capsys.readouterr().err
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.parametrize("with_it", [False, True])
def test_some_black_images_are_dropped_counted_and_told(
    ids, tmp_path, broken, request, capsys, with_it
):
    words = [*broken("SOME"), *_look(request, with_it), "--max-attempts", "1"]
    assert main(_arguments(ids, tmp_path / "out", *words)) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert 0 < summary["num_flat"] == summary["num_rejected"] < 27
    assert len(_images(tmp_path / "out")) == 54 - summary["num_flat"]
    assert f"{summary['num_flat']} of 54 images came out of one color" in capsys.readouterr().err


def test_images_that_are_all_alike_are_told_or_an_error(ids, tmp_path, broken, capsys):
    assert main(_arguments(ids, tmp_path / "still", *broken("STILL"))) == 2
    assert "images of every identity are all alike" in capsys.readouterr().err
    assert main(_arguments(ids, tmp_path / "stuck", *broken("STUCK"))) == 0
    summary = json.loads((tmp_path / "stuck" / "summary.json").read_text())
    assert 0 < summary["num_alike_identities"] < summary["num_comparable"] == 9
    told = capsys.readouterr().err
    assert (
        f"{summary['num_alike_identities']} of 9 identities have images that are all alike" in told
    )


def test_a_data_set_without_an_image_is_an_error(ids, tmp_path, with_reader, capsys):
    words = [*with_reader, "--min-target-cosine", "1", "--max-attempts", "1"]
    assert main(_arguments(ids, tmp_path / "out", *words)) == 2
    assert "all 54 images were dropped, 0 of one color" in capsys.readouterr().err


def test_other_settings_in_the_same_folder_are_refused(ids, tmp_path, capsys):
    main(_arguments(ids, tmp_path / "out"))
    assert main(_arguments(ids, tmp_path / "out", "--seed", "1")) == 2
    assert "seed (0 there, 1 now)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["--images-per-id", "0"], "--images-per-id 0"),
        (["--num-ids", "10"], "holds 9 embeddings"),
        (["--quality", "0"], "--quality 0"),
        (["--min-target-cosine", "0.5"], "--min-target-cosine needs --recognizer"),
        (["--color", "bgr"], "--color bgr: is that of --recognizer"),
        (["--cap-share", "0.5"], "--cap-share needs --min-cosine"),
        (["--min-cosine", "1.5"], "min_cosine=1.5"),
        (["--generator", "nowhere"], "--generator nowhere: neither the folder"),
        (["--generator", "nowhere:x"], "nowhere:x: cannot be imported"),
        (["--crop", "face"], "--crop face: must be none"),
        (["--steps", "4"], "--steps: only the folder of a model"),
    ],
)
def test_bad_settings_are_one_line_and_leave_nothing(ids, tmp_path, capsys, changes, named):
    assert main(_arguments(ids, tmp_path / "out", *changes)) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_embeddings_of_another_dimension_are_refused(tmp_path, capsys):
    np.save(tmp_path / "ids.npy", np.eye(5, dtype=np.float32))
    assert main(_arguments(tmp_path / "ids.npy", tmp_path / "out")) == 2
    assert "rows of dimension 5, but fake takes 12" in capsys.readouterr().err


def test_arc2face_draws_through_the_same_command(tmp_path, capsys):
    write = runpy.run_path(str(SYNTHESIS / "tiny_arc2face.py"))["write_tiny_arc2face"]
    write(tmp_path / "model")
    np.save(tmp_path / "ids.npy", np.asarray(sample_uniform(jax.random.key(0), 3, 32)))
    arguments = [
        *("synthesize", "--embeddings", str(tmp_path / "ids.npy"), "--out", str(tmp_path / "out")),
        *("--generator", str(tmp_path / "model"), "--images-per-id", "2", "--steps", "2"),
        *("--image-format", "jpg", "--originals", "--face-size", "48", "--silent"),
    ]
    assert main(arguments) == 0
    assert "6 images of 3 identities" in capsys.readouterr().out
    source, originals = (open_source(tmp_path / "out" / name) for name in ("shards", "originals"))
    assert decode(source[0].image, name="face").shape == (48, 48, 3)
    assert len(originals) == len(source) == 6
    (tmp_path / "model" / "encoder" / "model.safetensors").unlink()
    assert main([*arguments, "--seed", "1"]) == 2
    assert "encoder" in capsys.readouterr().err


def test_what_it_writes_trains_a_recognizer(ids, tmp_path, monkeypatch):
    toy = BackboneConfig((1,), (8,), image_size=16)
    monkeypatch.setitem(BACKBONES, "iresnet_toy", toy)
    main(_arguments(ids, tmp_path / "data", "--min-cosine", "0.9"))
    train = [
        *("train", "--data", str(tmp_path / "data" / "shards"), "--out", str(tmp_path / "run")),
        *(
            "--backbone",
            "iresnet_toy",
            "--image-size",
            "16",
            "--batch-size",
            "18",
            "--epochs",
            "1",
        ),
        *("--no-augment", "--devices", "1"),
    ]
    assert main(train) == 0
    assert (tmp_path / "run" / "model.safetensors").exists()
