import runpy
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.gallery import OnnxRecognizer
from hyperface_jax.io.embeddings import file_sha256

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

tiny = types.SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tiny_onnx.py"))))


def faces(num, size=32, seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", ["n", 1, 4])
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_an_onnx_model_computes_what_its_layers_say(tmp_path, batch, colour):
    recognizer = OnnxRecognizer(tiny.write(tmp_path / "a.onnx", batch=batch), colour=colour)
    raw = recognizer(faces(9))
    assert raw.dtype == np.float32
    np.testing.assert_allclose(raw, tiny.reference(faces(9), colour), rtol=1e-4, atol=1e-4)


def test_an_onnx_model_tells_its_size_dimension_and_digest(tmp_path):
    path = tiny.write(tmp_path / "a.onnx", size=20)
    recognizer = OnnxRecognizer(path)
    assert (recognizer.image_size, recognizer.embedding_dim) == (20, tiny.DIM)
    assert recognizer.colour == "rgb"
    assert recognizer.digest == file_sha256(path)


def _channels_last(path):
    kernel, matrix = np.ones((4, 32, 3, 3), np.float32), np.ones((128, 6), np.float32)
    tiny.write(path, shape=["n", 32, 32, 3], kernel=kernel, matrix=matrix)


def _oblong(path):
    tiny.write(path, shape=["n", 3, 32, 30], matrix=np.ones((960, 6), np.float32))


BAD = {
    "text": (lambda path: path.write_text("no model"), "no ONNX model"),
    "channels last": (_channels_last, "size, size"),
    "open size": (lambda path: tiny.write(path, shape=["n", 3, "s", "s"]), "size, size"),
    "oblong": (_oblong, "size, size"),
    "maps": (lambda path: tiny.write(path, output="positive"), "'positive' has shape"),
    "too small": (lambda path: tiny.write(path, matrix=np.ones((9, 6), np.float32)), "a.onnx"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_recogniser_is_named(tmp_path, case):
    path = tmp_path / "a.onnx"
    make, words = BAD[case]
    make(path)
    with pytest.raises(InputError) as caught:
        OnnxRecognizer(path)
    assert words in str(caught.value)
    assert "a.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_onnxruntime_the_extra_is_named(tmp_path, monkeypatch):
    path = tiny.write(tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install 'hyperface_jax\[onnx\]'"):
        OnnxRecognizer(path)
