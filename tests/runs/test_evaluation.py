"""``runs.evaluate`` from Python: the figures of benchmarks, and settings that exclude each other."""

import pickle
import runpy
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.evaluation import flip_fused, verify
from hyperface_jax.io.files import read_json
from hyperface_jax.io.images import encode

pytest.importorskip("matplotlib")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

tiny = runpy.run_path(str(Path(__file__).parents[1] / "faces" / "tiny_onnx.py"))
SIZE, NUM_PAIRS = 32, 40


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    is_same = np.arange(NUM_PAIRS) % 2 == 0
    first, other = rng.uniform(0, 255, (2, NUM_PAIRS, SIZE, SIZE, 3))
    share = np.where(is_same, 0.7, 0.3)[:, None, None, None]
    both = np.stack([first, share * first + (1 - share) * other], 1)
    return both.reshape(-1, SIZE, SIZE, 3).astype(np.uint8), is_same


@pytest.fixture
def settings(tmp_path, pairs):
    images, is_same = pairs
    encoded = [encode(image) for image in images]
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((encoded, is_same.tolist())))
    model = tiny["write"](tmp_path / "tiny.onnx")

    def make(**changes):
        chosen = {"model": model, "benchmark": (tmp_path / "lfw.bin",), "out": tmp_path / "eval"}
        return runs.Evaluate(**(chosen | changes))

    return make


def test_a_result_is_what_the_file_holds(settings, pairs, capsys):
    images, is_same = pairs
    result = runs.evaluate(settings())
    assert result.summary == read_json(result.path / "evaluation.json")
    unit = flip_fused(tiny["reference"](images), tiny["reference"](images[:, :, ::-1]))
    expected = verify(unit[::2], unit[1::2], is_same)
    found = result.summary["benchmarks"]["lfw"]
    assert found["accuracy"] == pytest.approx(expected.accuracy, abs=1e-9)
    head, row, last = result.text.splitlines()
    assert head.split()[:2] == ["benchmark", "pairs"]
    assert row.split()[:2] == ["lfw", str(NUM_PAIRS)]
    assert f"{100 * expected.accuracy:.3f} ±" in row
    assert last == f"report: {result.path / 'report.html'}"
    assert "".join(capsys.readouterr()) == ""


def test_the_same_call_writes_the_same_again(settings):
    first, again = (runs.evaluate(settings()).summary["benchmarks"]["lfw"] for _ in range(2))
    assert first.pop("seconds") > 0
    assert again.pop("seconds") > 0
    assert first == again


def test_a_watch_sees_the_images_and_those_of_another_size(settings, pairs, tmp_path):
    images, is_same = pairs
    padded = [encode(np.pad(image, ((4, 4), (0, 0), (0, 0)))) for image in images]
    (tmp_path / "tall.bin").write_bytes(pickle.dumps((padded, is_same.tolist())))
    opened, counts, warned = [], [], []

    @contextmanager
    def progress(title, unit, total, done=0):
        opened.append((title, unit, total))
        yield lambda done, figure="": counts.append(done)

    watch = runs.Watch(progress=progress, warn=warned.append)
    runs.evaluate(settings(benchmark=(tmp_path / "tall.bin",), batch_size=50), watch=watch)
    assert opened == [("tall", "images", 2 * NUM_PAIRS)]
    assert counts == [50, 80]
    assert "tall.bin: 80 images are not of an aligned face's" in warned[0]


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"batch_size": 0}, "`batch_size=0`: must be at least 1"),
        ({"benchmark": ()}, "`benchmark`: names no file"),
        ({"benchmark": (Path("a/lfw.bin"), Path("b/lfw.bin"))}, "`benchmark`: two are called lfw"),
        ({"benchmark": (Path("nowhere.bin"),)}, "nowhere.bin: cannot read"),
        ({"devices": 99}, "`devices=99`: must be between"),
        ({"devices": 1}, "`devices=1` does not go with an .onnx as `model`"),
        ({"images": Path("pictures")}, "`images=pictures`: is for lists of pairs"),
        ({"model": Path("nowhere.onnx")}, "nowhere.onnx: there is no such recognizer"),
    ],
)
def test_bad_input_names_the_field(settings, changes, culprit, tmp_path):
    with pytest.raises(runs.InputError, match=culprit):
        runs.evaluate(settings(**changes))
    assert not (tmp_path / "eval").exists()


def test_a_folder_of_something_else_is_refused(settings, tmp_path):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "cat.jpg").write_text("")
    with pytest.raises(runs.InputError, match=r"holds files of something else \(cat.jpg\)"):
        runs.evaluate(settings())
