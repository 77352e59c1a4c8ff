"""``hyperface align`` and ``embed --detect``: faces from photographs in one command."""

import runpy
import types
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.cli.main import main
from hyperface_jax.errors import Stopped
from hyperface_jax.faces import ScrfdDetector, landmarks_of, read_landmarks
from hyperface_jax.io.embeddings import read_embeddings
from hyperface_jax.io.images import align, decode, encode

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

FACES = Path(__file__).parents[1] / "faces"
detectors = types.SimpleNamespace(**runpy.run_path(str(FACES / "test_detectors.py")))
tiny = types.SimpleNamespace(**runpy.run_path(str(FACES / "tiny_onnx.py")))
PHOTOS = ("ann/0.jpg", "ann/1.png", "bob/0.png", "bob/0.webp")


def photo(seed):
    """A noisy picture with the red cell that the tiny detector takes for a face."""
    image = np.random.default_rng(seed).integers(0, 60, (96, 128, 3)).astype(np.uint8)
    row, column = 8 * (3 + seed), 8 * (5 + seed)
    image[row : row + 8, column : column + 8] = detectors.RED
    return image


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for seed, name in enumerate(PHOTOS):
        kind = {"jpg": "jpeg"}.get(name[-3:], name.rpartition(".")[2])
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode(photo(seed), kind=kind))
    (folder / "ann" / "landscape.png").write_bytes(encode(np.zeros((96, 128, 3), np.uint8)))
    (folder / "ann" / "torn.png").write_bytes(encode(photo(0))[:200])
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def detector(tmp_path):
    return detectors.write(tmp_path / "det.onnx", shape=(1, 3, 128, 128))


def expected(photos, detector, name, size=112):
    image = decode((photos / name).read_bytes(), name=name)
    return align(image, landmarks_of(ScrfdDetector(detector), image), size)


def test_photographs_become_aligned_faces_under_their_names(photos, detector, tmp_path, capsys):
    out = tmp_path / "aligned"
    marks = tmp_path / "marks.csv"
    words = ["align", photos, "--detect", detector, "--landmarks", marks, "--out", out]
    assert main([str(word) for word in words]) == 0
    written = {
        "ann/0": PHOTOS[0],
        "ann/1": PHOTOS[1],
        "bob/0.png": PHOTOS[2],
        "bob/0.webp": PHOTOS[3],
    }
    files = {path.relative_to(out).as_posix() for path in out.rglob("*.png")}
    assert files == {f"{name}.png" for name in written}
    for name, source in written.items():
        found = decode((out / f"{name}.png").read_bytes(), name=name)
        np.testing.assert_array_equal(found, expected(photos, detector, source))
    skipped = (tmp_path / "aligned.skipped.txt").read_text().splitlines()
    assert skipped[0] == "ann/landscape.png\tno face was found"
    assert skipped[1].startswith("ann/torn.png\tnot a whole image")
    assert skipped[2].startswith("notes.txt\t")
    assert sorted(read_landmarks(marks)) == sorted(PHOTOS)
    assert "4 faces, 1 images without one, 1 unreadable" in capsys.readouterr().out


def test_embed_detects_what_align_writes(photos, detector, tmp_path):
    recognizer = tiny.write(tmp_path / "tiny.onnx")
    direct, twice = tmp_path / "direct.npz", tmp_path / "twice.npz"
    runs.align(runs.Align(images=photos, detect=detector, out=tmp_path / "aligned"), watch=SILENT)
    runs.embed(
        runs.Embed(images=photos, detect=detector, recognizer=recognizer, out=direct), watch=SILENT
    )
    settings = {"images": tmp_path / "aligned", "recognizer": recognizer, "out": twice}
    runs.embed(runs.Embed(**settings), watch=SILENT)
    np.testing.assert_array_equal(read_embeddings(direct).points, read_embeddings(twice).points)
    assert "no face was found" in (tmp_path / "direct.skipped.txt").read_text()


SILENT = runs.Watch(warn=lambda text: None)


def test_a_stopped_run_goes_on_where_it_was(photos, detector, tmp_path):
    out, told = tmp_path / "aligned", []

    @contextmanager
    def at_once():
        yield lambda: True

    config = runs.Align(images=photos, detect=detector, out=out)
    with pytest.raises(Stopped):
        runs.align(config, watch=runs.Watch(warn=told.append, stopping=at_once))
    (first,) = out.rglob("*.png")
    stamp = first.stat().st_mtime_ns
    result = runs.align(config, watch=runs.Watch(warn=told.append, say=told.append))
    assert result.summary["num_faces"] == len(list(out.rglob("*.png"))) == len(PHOTOS)
    assert first.stat().st_mtime_ns == stamp
    assert "1 faces are there already: going on" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["align", "{photos}", "--detect", "none.onnx", "--out", "out"], "none.onnx"),
        (["align", "{photos}", "--detect", "{det}", "--out", "{photos}/out"], "lies in the folder"),
        (
            ["align", "{photos}/bad", "--detect", "{det}", "--out", "out"],
            "none of 1 images gives a",
        ),
        (
            ["align", "{photos}", "--detect", "{det}", "--out", "out", "--threshold", "2"],
            "--threshold",
        ),
        (
            [
                "embed",
                "{photos}",
                "--detect",
                "{det}",
                "--landmarks",
                "a.csv",
                "--recognizer",
                "{det}",
                "--out",
                "a.npz",
            ],
            "--detect and --landmarks both say",
        ),
    ],
)
def test_bad_input_is_answered_in_one_line(
    photos, detector, tmp_path, monkeypatch, words, message, capsys
):
    monkeypatch.chdir(tmp_path)
    (photos / "bad").mkdir()
    (photos / "bad" / "0.png").write_bytes(encode(np.zeros((96, 128, 3), np.uint8)))
    assert main([word.format(photos=photos, det=detector) for word in words]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_faces_of_another_detector_are_not_mixed(photos, detector, tmp_path, capsys):
    words = ["align", str(photos), "--detect", str(detector), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert main([*words, "--size", "224"]) == 2
    assert "size (112 there, 224 now)" in capsys.readouterr().err
