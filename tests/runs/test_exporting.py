"""``hyperface export``: recognizers as ONNX files that give the embeddings of ``embed``."""

import json
import sys

import numpy as np
import pytest
from flax import nnx

from hyperface_jax import runs
from hyperface_jax.cli.main import main
from hyperface_jax.errors import InputError
from hyperface_jax.faces import OnnxRecognizer, open_recognizer
from hyperface_jax.io.embeddings import file_sha256, read_embeddings
from hyperface_jax.io.files import atomic_write_json
from hyperface_jax.io.images import encode
from hyperface_jax.io.onnx_files import find_input_range
from hyperface_jax.io.torch_files import write_state_dict
from hyperface_jax.recognition.backbones import BackboneConfig, IResNet
from hyperface_jax.recognition.weights import export_weights
from hyperface_jax.runs.exporting import TOLERANCE

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

SIZE = 24


def network(variant, seed=0):
    """A backbone of random weights and statistics, with a block that keeps its width."""
    config = BackboneConfig((2, 1), (4, 8), variant, image_size=SIZE, embedding_dim=16)
    model = IResNet(config, rngs=nnx.Rngs(seed))
    rng = np.random.default_rng(seed)
    for _, value in nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat))):
        array = np.asarray(value[...])
        if array.ndim == 1:
            value[...] = array + rng.uniform(0.05, 0.3, array.shape).astype(np.float32)
    return model


@pytest.fixture(params=["insightface", "adaface"])
def run(request, tmp_path):
    """The folder of a training run, as far as a recognizer needs it."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_state_dict(folder / "model.safetensors", export_weights(network(request.param)))
    settings = {"variant": request.param, "image_size": SIZE, "embedding_dim": 16}
    atomic_write_json(folder / "model.json", settings)
    return folder


def faces(num):
    return np.random.default_rng(5).integers(0, 256, (num, SIZE, SIZE, 3), dtype=np.uint8)


def unit(raw):
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def test_the_file_gives_the_embeddings_of_embed(run, tmp_path, capsys):
    for i, image in enumerate(faces(5)):
        (tmp_path / "faces").mkdir(exist_ok=True)
        (tmp_path / "faces" / f"{i}.png").write_bytes(encode(image))
    file = tmp_path / "deep" / "model.onnx"
    assert main(["export", str(run), "--out", str(file)]) == 0
    color = open_recognizer(run).color
    assert f"takes {color.upper()}, (x - 127.5) / 127.5, [n, 3, 24, 24]" in capsys.readouterr().out
    rows = {}
    for recognizer in (run, file):
        out = tmp_path / f"{recognizer.name}.npz"
        words = ["embed", tmp_path / "faces", "--recognizer", recognizer, "--flip", "--out", out]
        assert main([str(word) for word in words]) == 0
        rows[recognizer] = read_embeddings(out).points
    np.testing.assert_allclose(rows[run], rows[file], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_the_file_takes_the_color_that_it_states(run, tmp_path, color):
    """As insightface feeds it, without anything of this package."""
    file = tmp_path / "model.onnx"
    result = runs.export(runs.Export(model=run, out=file, color=color))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert told["color"] == color == result.summary["color"]
    assert (told["scaling"], told["image_size"]) == ("(x - 127.5) / 127.5", "24")
    assert told["weights_sha256"] == file_sha256(run / "model.safetensors")
    images = faces(3) if color == "rgb" else faces(3)[..., ::-1]
    pixels = (images.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
    raw = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    expected = open_recognizer(run)(faces(3))
    np.testing.assert_allclose(unit(raw), unit(expected), rtol=0, atol=TOLERANCE)
    assert find_input_range(file, session.get_inputs()[0].name) == "signed"
    assert OnnxRecognizer(file).color == color


def test_weights_keep_their_published_names(run, tmp_path):
    runs.export(runs.Export(model=run, out=tmp_path / "model.onnx"))
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    stored = {array.name for array in model.graph.initializer}
    published = {k for k in export_weights(open_recognizer(run).model()) if "num_batches" not in k}
    assert published <= stored


def test_a_file_that_differs_is_not_written(run, tmp_path, monkeypatch):
    import hyperface_jax.runs.exporting as stage

    written = stage.onnx_bytes(network("insightface", seed=1))
    monkeypatch.setattr(stage, "onnx_bytes", lambda *_, **__: written)
    with pytest.raises(InputError, match=r"differ by .*; nothing was written"):
        runs.export(runs.Export(model=run, out=tmp_path / "model.onnx"))
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}", "--out", "model.pt"], "--out model.pt: must end in .onnx"),
        (["{run}", "--out", "{tmp}/other.onnx"], "was not written by export"),
        (["missing", "--out", "a.onnx"], "there is no such recognizer"),
        (["{tmp}/other.onnx", "--out", "a.onnx"], "is an ONNX file already"),
    ],
)
def test_bad_input_is_answered_in_one_line(run, tmp_path, words, message, capsys):
    (tmp_path / "other.onnx").write_bytes(b"somebody else's")
    assert main(["export", *(word.format(run=run, tmp=tmp_path) for word in words)]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_the_figures_are_printed_as_json(run, tmp_path, capsys):
    words = ["export", str(run), "--out", str(tmp_path / "m.onnx"), "--json"]
    assert main(words) == main(words) == 0
    told = json.loads("{" + capsys.readouterr().out.rpartition("\n{")[2])
    assert told["onnx_sha256"] == file_sha256(tmp_path / "m.onnx")
    assert told["max_difference"] <= TOLERANCE


def test_a_missing_library_names_the_extra(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"needs onnx; pip install '\.\[onnx\]' in a checkout"):
        runs.export(runs.Export(model=run, out=tmp_path / "model.onnx"))
