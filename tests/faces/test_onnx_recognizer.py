import runpy
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.faces import OnnxRecognizer
from hyperface_jax.io.embeddings import file_sha256

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

tiny = types.SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tiny_onnx.py"))))


def faces(num, size=32, seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", ["n", 1, 4])
@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_an_onnx_model_computes_what_its_layers_say(tmp_path, batch, color):
    recognizer = OnnxRecognizer(tiny.write(tmp_path / "a.onnx", batch=batch), color=color)
    raw = recognizer(faces(9))
    assert raw.dtype == np.float32
    np.testing.assert_allclose(raw, tiny.reference(faces(9), color), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["flat", "embedding"])
def test_an_open_batch_that_is_fixed_inside_gets_one_image_at_a_time(tmp_path, name):
    """Two images fail where the rows are fixed to one, or come out as one long row."""
    path = tiny.write(tmp_path / "a.onnx", sizes=np.array([1, -1]))
    model = onnx.load(path)
    place, node = next((i, n) for i, n in enumerate(model.graph.node) if n.output[0] == name)
    node.output[0] = "any"
    model.graph.node.insert(place + 1, onnx.helper.make_node("Reshape", ["any", "sizes"], [name]))
    onnx.save(model, path)
    recognizer = OnnxRecognizer(path)
    np.testing.assert_allclose(recognizer(faces(5)), tiny.reference(faces(5)), rtol=1e-3, atol=1e-3)


def test_a_network_that_mixes_the_images_of_a_batch_gets_one_at_a_time(tmp_path):
    path = tiny.write(tmp_path / "a.onnx")
    model = onnx.load(path)
    mean = onnx.helper.make_node("ReduceMean", ["embedding"], ["mean"], axes=[0], keepdims=1)
    mixed = onnx.helper.make_node("Add", ["embedding", "mean"], ["mixed"])
    model.graph.node.extend([mean, mixed])
    model.graph.output[0].name = "mixed"
    onnx.save(model, path)
    recognizer = OnnxRecognizer(path)
    expected = 2 * tiny.reference(faces(5))
    np.testing.assert_allclose(recognizer(faces(5)), expected, rtol=1e-3, atol=1e-3)


SUB, MUL = ("Sub", ["mean"]), ("Mul", ["factor"])
HALF = {"mean": np.float32(127.5), "factor": np.float32(1 / 127.5)}
CHANNELS = {key: np.full((3, 1, 1), value, np.float32) for key, value in HALF.items()}
NORM = ("BatchNormalization", ["gain", "offset", "mean", "variance"], "bn_data")
NORM_ARRAYS = {
    "gain": np.ones(3, np.float32),
    "offset": np.zeros(3, np.float32),
    "mean": np.full(3, 127.5, np.float32),
    "variance": np.full(3, 127.5**2, np.float32),
}

SCALED = {
    "sub, mul": ([SUB, MUL], HALF),
    "named as by MXNet": ([(*SUB, "_minusscalar0"), (*MUL, "_mulscalar0")], HALF),
    "a number a channel": ([("Identity", []), SUB, MUL], CHANNELS),
    "div": ([SUB, ("Div", ["by"])], {"mean": HALF["mean"], "by": np.float32(127.5)}),
    "mul, add": ([MUL, ("Add", ["one"])], {"factor": HALF["factor"], "one": np.float32(-1)}),
    "batch norm": ([NORM], NORM_ARRAYS),
    "of 0 to 1": ([SUB, MUL], {"mean": np.float32(0.5), "factor": np.float32(2)}),
}


@pytest.mark.parametrize("case", SCALED)
def test_a_model_that_scales_pixels_itself_gets_them_as_it_expects(tmp_path, case):
    before, arrays = SCALED[case]
    recognizer = OnnxRecognizer(tiny.write(tmp_path / "a.onnx", before=before, **arrays))
    np.testing.assert_allclose(recognizer(faces(3)), tiny.reference(faces(3)), rtol=1e-3, atol=1e-3)


def _constant(name, value):
    tensor = onnx.numpy_helper.from_array(np.float32(value))
    return onnx.helper.make_node("Constant", [], [name], value=tensor)


def _computed(name):
    return onnx.helper.make_node("Neg", [f"{name}0"], [name])


@pytest.mark.parametrize(
    "extra",
    [
        lambda name, value: [_constant(name, value)],
        lambda name, value: [_constant(f"{name}0", -value), _computed(name)],
    ],
    ids=["constant nodes", "computed"],
)
def test_constants_that_are_no_initializers_are_found(tmp_path, extra):
    path = tiny.write(tmp_path / "a.onnx", before=[SUB, MUL])
    model = onnx.load(path)
    nodes = [*extra("mean", 127.5), *extra("factor", 1 / 127.5), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)
    recognizer = OnnxRecognizer(path)
    np.testing.assert_allclose(recognizer(faces(3)), tiny.reference(faces(3)), rtol=1e-3, atol=1e-3)


def test_arithmetic_on_scaled_pixels_changes_nothing(tmp_path):
    """A network may start with a shift and a factor of its own: here, they cancel."""
    arrays = {"two": np.float32(2), "half": np.float32(0.5)}
    before = [("Mul", ["two"]), ("Sub", ["two"]), ("Add", ["two"]), ("Mul", ["half"])]
    recognizer = OnnxRecognizer(tiny.write(tmp_path / "a.onnx", before=before, **arrays))
    np.testing.assert_allclose(recognizer(faces(3)), tiny.reference(faces(3)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {"matrix": np.ones((1024, 6), np.float32) * 1e-6},
            "an image and its negative get the same",
        ),
        ({"bias": np.full(6, np.nan, np.float32)}, "zeros or as no finite numbers"),
    ],
)
def test_a_network_that_cannot_tell_images_apart_is_refused(tmp_path, arrays, words):
    with pytest.raises(InputError, match=rf"a\.onnx: .*{words}"):
        OnnxRecognizer(tiny.write(tmp_path / "a.onnx", **arrays))


def test_an_onnx_model_tells_its_size_dimension_and_digest(tmp_path):
    path = tiny.write(tmp_path / "a.onnx", size=20)
    recognizer = OnnxRecognizer(path)
    assert (recognizer.image_size, recognizer.embedding_dim) == (20, tiny.DIM)
    assert recognizer.color == "rgb"
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
def test_a_file_that_is_no_recognizer_is_named(tmp_path, case):
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
    with pytest.raises(InputError, match=r"pip install '\.\[onnx\]' in a checkout"):
        OnnxRecognizer(path)
