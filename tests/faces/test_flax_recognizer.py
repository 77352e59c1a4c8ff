import sys

import jax
import numpy as np
import pytest
from flax import nnx

from hyperface_jax import meshes
from hyperface_jax.errors import InputError
from hyperface_jax.faces import open_recognizer
from hyperface_jax.faces.flax_recognizer import FlaxRecognizer, load_recognizer
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.files import atomic_write_json
from hyperface_jax.io.images import normalize
from hyperface_jax.io.torch_files import write_state_dict
from hyperface_jax.recognition.backbones import BackboneConfig, IResNet
from hyperface_jax.recognition.weights import export_weights

COLORS = {"insightface": "rgb", "adaface": "bgr"}


@pytest.fixture(params=["insightface", "adaface"])
def model(request):
    config = BackboneConfig((1,), (4,), request.param, image_size=8, embedding_dim=6)
    return IResNet(config, rngs=nnx.Rngs(3))


def faces(num, size=8):
    return np.random.default_rng(0).integers(0, 256, (num, size, size, 3), dtype=np.uint8)


def direct(model, images, color):
    model.eval()
    return np.asarray(model(normalize(images, color)))


def write_run(folder, model, **settings):
    folder.mkdir()
    write_state_dict(folder / "model.safetensors", export_weights(model))
    config = model.config
    stored = {"backbone": "own", "variant": config.variant, "image_size": config.image_size}
    atomic_write_json(folder / "model.json", stored | settings)
    return folder


@pytest.mark.parametrize("num_devices", [1, 3])
def test_batches_of_any_size_give_the_raw_embeddings_of_the_model(model, num_devices):
    mesh = meshes.make_mesh(jax.devices()[:num_devices])
    recognizer = FlaxRecognizer(model, mesh=mesh)
    for images in (faces(7), faces(2), faces(12)):
        raw = recognizer(images)
        assert raw.dtype == np.float32
        expected = direct(model, images, COLORS[model.config.variant])
        np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-5)


def test_a_model_in_training_is_evaluated_and_left_in_training(model):
    model.train()
    raw = FlaxRecognizer(model)(faces(3))
    assert not model.deterministic
    np.testing.assert_allclose(
        raw, direct(model, faces(3), COLORS[model.config.variant]), rtol=1e-4, atol=1e-5
    )


def test_the_color_order_can_be_overridden(model):
    usual = FlaxRecognizer(model)
    assert usual.color == COLORS[model.config.variant]
    other = FlaxRecognizer(model, color={"rgb": "bgr", "bgr": "rgb"}[usual.color])
    np.testing.assert_allclose(other(faces(2)[..., ::-1]), usual(faces(2)), rtol=1e-4, atol=1e-5)
    assert np.abs(other(faces(2)) - usual(faces(2))).max() > 1e-3


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_weight_file_gives_the_model_that_was_exported(tmp_path, suffix):
    config = BackboneConfig((1, 1), (4, 8), "insightface", image_size=32, embedding_dim=512)
    model = IResNet(config, rngs=nnx.Rngs(0))
    path = tmp_path / f"small{suffix}"
    write_state_dict(path, export_weights(model))
    recognizer = open_recognizer(path)
    assert (recognizer.image_size, recognizer.embedding_dim) == (32, 512)
    assert recognizer.digest == file_sha256(path)
    raw, expected = recognizer(faces(2, 32)), direct(model, faces(2, 32), "rgb")
    np.testing.assert_allclose(raw, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_a_classifier_in_the_file_is_listed(tmp_path, model, capsys):
    path = tmp_path / "both.safetensors"
    head = {"head.kernel": np.ones((6, 9), np.float32)}
    write_state_dict(path, export_weights(model) | head)
    recognizer = open_recognizer(path)
    assert isinstance(recognizer, FlaxRecognizer)
    assert recognizer.unused == ("head.kernel",)
    assert capsys.readouterr() == ("", "")


def test_weights_that_tell_no_images_apart_are_refused(tmp_path, model):
    arrays = export_weights(model)
    name = {"insightface": "bn2", "adaface": "output_layer.0"}[model.config.variant]
    changed = {f"{name}.weight": np.zeros(4, np.float32), f"{name}.bias": np.ones(4, np.float32)}
    write_state_dict(tmp_path / "flat.pt", arrays | changed)
    with pytest.raises(InputError, match=r"flat\.pt: an image and its negative get the same"):
        load_recognizer(tmp_path / "flat.pt")


@pytest.mark.parametrize("size", [7, 8])
def test_a_run_tells_the_size_of_its_images(tmp_path, model, size):
    run = write_run(tmp_path / "run", model, image_size=size)
    recognizer = open_recognizer(run)
    assert recognizer.image_size == size
    assert recognizer.digest == file_sha256(run / "model.safetensors")
    assert recognizer(faces(1, size)).shape == (1, 6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_size": 112}, "image_size 112"),
        ({"image_size": None}, "image_size is None"),
        ({"variant": "other"}, "variant 'other'"),
    ],
)
def test_settings_of_another_run_are_refused(tmp_path, model, settings, words):
    run = write_run(tmp_path / "run", model, **settings)
    with pytest.raises(InputError) as caught:
        load_recognizer(run)
    assert "model.json" in str(caught.value)
    assert words in str(caught.value)


NONE = {
    "missing.pt": (lambda path: None, "no such recognizer"),
    "photo.jpg": (lambda path: path.write_text("x"), "no recognizer"),
    "text.pt": (lambda path: path.write_text("no weights"), "not a PyTorch or safetensors file"),
    "text.onnx": (lambda path: path.write_text("no model"), "no ONNX model"),
    "folder": (lambda path: path.mkdir(), "model.safetensors"),
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_recognizer_is_named(tmp_path, name):
    make, words = NONE[name]
    make(tmp_path / name)
    with pytest.raises(InputError) as caught:
        open_recognizer(tmp_path / name)
    assert name in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("w.pt", "hyperface_jax.faces.flax_recognizer", "recognition"),
        ("w.onnx", "onnxruntime", "onnx"),
    ],
)
def test_a_library_that_is_missing_names_the_extra(tmp_path, monkeypatch, name, module, extra):
    (tmp_path / name).write_text("anything")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"pip install '\.\[{extra}\]' in a checkout"):
        open_recognizer(tmp_path / name)


@pytest.fixture
def cvlface(tmp_path):
    """A folder as CVLface publishes it, of an AdaFace network that takes RGB."""
    config = BackboneConfig((1, 1), (4, 8), "adaface", image_size=32, embedding_dim=512)
    model = IResNet(config, rngs=nnx.Rngs(0))
    folder = tmp_path / "cvlface_small"
    folder.mkdir()
    wrapped = {f"model.net.{key}": value for key, value in export_weights(model).items()}
    write_state_dict(folder / "model.safetensors", wrapped)
    conf = {"input_size": [3, 32, 32], "color_space": "RGB", "output_dim": 512}
    atomic_write_json(folder / "config.json", {"architectures": ["CVLFace"], "conf": conf})
    return folder, model


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_the_color_order_of_cvlface_comes_from_its_config(cvlface, name):
    folder, model = cvlface
    recognizer = open_recognizer(folder / name)
    assert recognizer.color == "rgb"
    images = faces(2, 32)
    np.testing.assert_allclose(
        recognizer(images), direct(model, images, "rgb"), rtol=1e-4, atol=1e-5
    )


def test_a_folder_of_cvlface_with_its_pytorch_file(cvlface):
    folder, model = cvlface
    inner = folder / "pretrained_model"
    inner.mkdir()
    weights = {f"net.{key}": value for key, value in export_weights(model).items()}
    write_state_dict(inner / "model.pt", weights)
    lines = "input_size: [3, 32, 32]\ncolor_space: 'BGR'\nname: 'ir101'\noutput_dim: 512\n"
    (inner / "model.yaml").write_text(lines)
    for name in ("model.safetensors", "config.json"):
        (folder / name).unlink()
    recognizer = open_recognizer(folder)
    assert recognizer.color == "bgr"
    images = faces(2, 32)
    np.testing.assert_allclose(
        recognizer(images), direct(model, images, "bgr"), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("stated", [None, {}, {"conf": {"color_space": "YUV"}}])
def test_the_color_order_of_cvlface_is_asked_for_where_no_config_says_it(cvlface, stated):
    folder, _ = cvlface
    (folder / "config.json").unlink()
    if stated is not None:
        atomic_write_json(folder / "config.json", stated)
    with pytest.raises(InputError, match=r"CVLface.*give `color`"):
        open_recognizer(folder / "model.safetensors")
    assert open_recognizer(folder / "model.safetensors", color="bgr").color == "bgr"
