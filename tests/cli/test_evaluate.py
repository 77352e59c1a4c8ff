"""``hyperface evaluate`` as a user runs it: benchmarks in, figures out."""

import json
import pickle
import runpy
import types
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from hyperface_jax.cli.main import main
from hyperface_jax.evaluation import flip_fused, unit_rows, verify
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.files import atomic_write_json
from hyperface_jax.io.images import encode
from hyperface_jax.io.torch_files import write_state_dict
from hyperface_jax.recognition.backbones import BackboneConfig, IResNet, embed
from hyperface_jax.recognition.weights import export_weights

pytest.importorskip("matplotlib")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

TINY_ONNX = Path(__file__).parents[1] / "faces" / "tiny_onnx.py"
tiny = types.SimpleNamespace(**runpy.run_path(str(TINY_ONNX)))

SIZE, NUM_PAIRS = 32, 60


def run(*words):
    return main([str(word) for word in words])


def make_pairs(seed=0):
    """Draw pairs of images: of one face with noise, or of two faces."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(0, 255, (NUM_PAIRS, SIZE, SIZE, 3))
    is_same = np.arange(NUM_PAIRS) % 2 == 0
    other = rng.uniform(0, 255, first.shape)
    share = np.where(is_same, 0.7, 0.3)[:, None, None, None]
    second = share * first + (1 - share) * other
    return np.stack([first, second], 1).reshape(-1, SIZE, SIZE, 3).astype(np.uint8), is_same


def write_bin(path, images, is_same):
    path.write_bytes(pickle.dumps(([encode(image) for image in images], is_same.tolist())))
    return path


@pytest.fixture
def model(tmp_path):
    return tiny.write(tmp_path / "tiny.onnx")


def evaluation(out):
    return json.loads((out / "evaluation.json").read_text())


def assert_figures(found, expected):
    assert found["accuracy"] == pytest.approx(expected.accuracy, abs=1e-9)
    assert found["accuracy_std"] == pytest.approx(expected.accuracy_std, abs=1e-9)
    assert found["eer"] == pytest.approx(expected.separation.eer, abs=1e-9)
    assert found["auc"] == pytest.approx(expected.separation.auc, abs=1e-9)
    assert found["d_prime"] == pytest.approx(expected.separation.d_prime, rel=1e-4)
    rate = expected.fold_tar_at_far[1e-1]
    assert found["fold_tar_at_far"]["1e-01"]["tar"] == pytest.approx(rate.tar, abs=1e-9)


@pytest.mark.parametrize("flags", [[], ["--no-flip"]])
def test_a_bin_file_gives_the_figures_of_its_embeddings(tmp_path, model, flags, capsys):
    images, is_same = make_pairs()
    path, out = write_bin(tmp_path / "lfw.bin", images, is_same), tmp_path / "deep" / "eval"
    words = ["--model", model, "--benchmark", path, "--out", out, "--batch-size", 50]
    assert run("evaluate", *words, *flags) == 0
    raw, mirrored = tiny.reference(images), tiny.reference(images[:, :, ::-1])
    unit = unit_rows(raw, "raw") if flags else flip_fused(raw, mirrored)
    expected = verify(unit[::2], unit[1::2], is_same)
    assert 0.5 < expected.accuracy < 1
    result = evaluation(out)
    found = result["benchmarks"]["lfw"]
    assert_figures(found, expected)
    assert found["num_pairs"] == NUM_PAIRS
    assert found["file_sha256"] == file_sha256(path)
    assert result["model_sha256"] == file_sha256(model)
    assert result["is_flip_fused"] == (not flags)
    assert {"hyperface_jax", "jax", "python"} <= result["versions"].keys()
    drawn = {"scores-lfw.png", "roc.png", "det.png", "evaluation.json", "report.html"}
    assert {path.name for path in out.iterdir()} == drawn
    captured = capsys.readouterr()
    assert f"{100 * expected.accuracy:.3f} ± {100 * expected.accuracy_std:.3f}" in captured.out
    assert "warning" not in captured.err


def test_several_benchmarks_are_averaged_and_a_list_starts_from_its_root(tmp_path, model, capsys):
    images, is_same = make_pairs()
    root = tmp_path / "pictures"
    root.mkdir()
    for i, image in enumerate(images):
        (root / f"{i}.png").write_bytes(encode(image))
    lines = [f"{2 * i}.png\t{2 * i + 1}.png\t{int(same)}" for i, same in enumerate(is_same)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    files = [tmp_path / "list.txt", write_bin(tmp_path / "same.bin", images, is_same)]
    files += [write_bin(tmp_path / "other.bin", *make_pairs(1))]
    words = ["--model", model, "--out", tmp_path / "eval", "--images", root, "--benchmark", *files]
    assert run("evaluate", *words) == 0
    result = evaluation(tmp_path / "eval")
    found = result["benchmarks"]
    assert list(found) == ["list", "same", "other"]
    assert found["list"]["fold_accuracies"] == found["same"]["fold_accuracies"]
    mean = np.mean([figures["accuracy"] for figures in found.values()])
    assert result["mean"]["accuracy"] == pytest.approx(mean)
    assert f"mean accuracy {100 * mean:.3f} % over 3 benchmarks" in capsys.readouterr().out


def test_a_training_run_is_evaluated_in_its_color_order(tmp_path):
    images, is_same = make_pairs()
    config = BackboneConfig((1,), (4,), "adaface", image_size=SIZE, embedding_dim=6)
    model, folder = IResNet(config, rngs=nnx.Rngs(0)), tmp_path / "run"
    folder.mkdir()
    write_state_dict(folder / "model.safetensors", export_weights(model))
    settings = {"backbone": "tiny", "variant": "adaface", "image_size": SIZE}
    atomic_write_json(folder / "model.json", settings)
    path, out = write_bin(tmp_path / "lfw.bin", images, is_same), tmp_path / "eval"
    words = ["--model", folder, "--benchmark", path, "--out", out, "--devices", 2]
    assert run("evaluate", *words) == 0
    unit = embed(model, images[..., ::-1] / np.float32(127.5) - 1, flip=True).unit
    expected = verify(unit[::2], unit[1::2], is_same)
    assert evaluation(out)["color"] == "bgr"
    assert evaluation(out)["benchmarks"]["lfw"]["auc"] == pytest.approx(expected.separation.auc)


def test_images_of_another_size_warn(tmp_path, model, capsys):
    images, is_same = make_pairs()
    path = write_bin(
        tmp_path / "lfw.bin", np.pad(images, ((0, 0), (4, 4), (0, 0), (0, 0))), is_same
    )
    assert run("evaluate", "--model", model, "--benchmark", path, "--out", tmp_path / "eval") == 0
    assert "lfw.bin: 120 images are not of an aligned face's" in capsys.readouterr().err


def _error(capsys, *words):
    code = run("evaluate", *words)
    captured = capsys.readouterr()
    assert code == 2, captured
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def test_a_bad_image_is_named_by_its_file_and_number(tmp_path, model, capsys):
    images, is_same = make_pairs()
    encoded = [encode(image) for image in images]
    encoded[17] = b"junk"
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((encoded, is_same.tolist())))
    words = ["--model", model, "--benchmark", tmp_path / "lfw.bin", "--out", tmp_path / "eval"]
    assert "lfw.bin: image 17: not a whole image" in _error(capsys, *words)
    assert not (tmp_path / "eval" / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("changed", "culprit"),
    [
        ({"--model": "nowhere.onnx"}, "nowhere.onnx"),
        ({"--model": "words.txt"}, "no recognizer"),
        ({"--model": "taken"}, "model.safetensors"),
        ({"--benchmark": "nowhere.bin"}, "nowhere.bin"),
        ({"--benchmark": "words.txt"}, "words.txt"),
        ({"--benchmark": "impostors.bin"}, "impostors.bin: is_same: no genuine pairs"),
        ({"--out": "taken"}, "holds files of something else"),
        ({"--out": "words.txt"}, "words.txt"),
        ({"--batch-size": 0}, "--batch-size 0"),
        ({"--devices": 99}, "--devices 99"),
    ],
)
def test_bad_input_is_named(tmp_path, model, changed, culprit, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images, is_same = make_pairs()
    write_bin(tmp_path / "lfw.bin", images, is_same)
    write_bin(tmp_path / "impostors.bin", images, np.zeros_like(is_same))
    (tmp_path / "words.txt").write_text("words")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "cat.jpg").write_text("")
    settings = {"--model": model, "--benchmark": "lfw.bin", "--out": "eval"} | changed
    assert culprit in _error(capsys, *(word for pair in settings.items() for word in pair))
    assert not list(tmp_path.rglob("evaluation.json"))


def test_two_benchmarks_of_one_name_are_refused(tmp_path, model, capsys):
    files = [tmp_path / "a" / "lfw.bin", tmp_path / "b" / "lfw.bin"]
    words = ["--model", model, "--out", tmp_path / "eval", "--benchmark", *files]
    assert "two are called lfw" in _error(capsys, *words)
