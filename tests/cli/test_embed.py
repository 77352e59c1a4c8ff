"""``hyperface embed`` as a user runs it: a gallery from images, then a packing near it."""

import runpy
import types
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from hyperface_jax.cli.main import main
from hyperface_jax.io.embedding_sets import open_embedding_set, read_labels
from hyperface_jax.io.embeddings import file_sha256, read_embeddings
from hyperface_jax.io.images import TEMPLATE, encode
from hyperface_jax.io.torch_files import write_state_dict
from hyperface_jax.recognition.backbones import BackboneConfig, IResNet, embed
from hyperface_jax.recognition.weights import export_weights

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

TINY_ONNX = Path(__file__).parents[1] / "faces" / "tiny_onnx.py"
tiny = types.SimpleNamespace(**runpy.run_path(str(TINY_ONNX)))

SIZE = 32
NAMES = [f"{person}/{i}.png" for person in ("ann", "bob") for i in range(4)]


def run(*words):
    return main([str(word) for word in words])


def picture(seed, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def write_images(folder, size=SIZE):
    for seed, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode(picture(seed, size)))
    return folder


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "faces")


@pytest.fixture
def recognizer(tmp_path):
    return tiny.write(tmp_path / "tiny.onnx")


def unit(raw):
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


PICTURES = np.stack([picture(seed) for seed in range(len(NAMES))])


def test_an_lmdb_as_data_sets_are_shipped(tmp_path, recognizer):
    lmdb, msgpack = pytest.importorskip("lmdb"), pytest.importorskip("msgpack")
    path, out = tmp_path / "hsface10k.lmdb", tmp_path / "faces.npz"
    values = [msgpack.dumps((encode(picture(seed)), seed // 4)) for seed in range(len(NAMES))]
    keys = [f"{i}".encode() for i in range(len(values))]
    with lmdb.open(str(path), subdir=False, map_size=1 << 20) as base, base.begin(write=True) as t:
        for key, value in zip(keys, values, strict=True):
            t.put(key, value)
        t.put(b"__keys__", msgpack.dumps(keys))
        t.put(b"__len__", msgpack.dumps(len(keys)))
    assert run("embed", path, "--recognizer", recognizer, "--out", out) == 0
    np.testing.assert_allclose(
        read_embeddings(out).points, unit(tiny.reference(PICTURES)), atol=1e-5
    )
    assert read_labels(open_embedding_set(out)).tolist() == ["0"] * 4 + ["1"] * 4


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("flags", [[], ["--flip"]])
def test_a_gallery_holds_the_embeddings_in_the_order_of_the_names(
    tmp_path, images, recognizer, flags, color, capsys
):
    out = tmp_path / "deep" / "gallery.npz"
    words = ["--recognizer", recognizer, "--out", out, "--batch-size", 3, "--color", color]
    assert run("embed", images, *words, *flags) == 0
    raw = tiny.reference(PICTURES, color)
    raw = raw + len(flags) * tiny.reference(PICTURES[:, :, ::-1], color)
    with np.load(out) as gallery:
        assert gallery["names"].tolist() == NAMES
        np.testing.assert_allclose(gallery["embeddings"], unit(raw), atol=1e-5)
        np.testing.assert_allclose(gallery["norms"], np.linalg.norm(raw, axis=1), rtol=1e-4)
        assert str(gallery["recognizer_sha256"]) == file_sha256(recognizer)
        assert bool(gallery["is_flip_fused"]) == bool(flags)
    captured = capsys.readouterr()
    assert "8 embeddings of dimension 6, 0 files skipped" in captured.out
    assert "warning" not in captured.err
    assert [path.name for path in out.parent.iterdir()] == ["gallery.npz"]


def test_embed_then_pack_runs_through(tmp_path, images, recognizer):
    gallery, packed = tmp_path / "gallery.npz", tmp_path / "run"
    assert run("embed", images, "--recognizer", recognizer, "--out", gallery) == 0
    assert read_embeddings(gallery).points.shape == (8, 6)
    words = ["--num-ids", 5, "--steps", 5, "--devices", 1, "--gallery", gallery, "--out", packed]
    assert run("pack", *words) == 0
    assert np.load(packed / "embeddings.npy").shape == (5, 6)


def test_published_weights_embed_as_the_model_does(tmp_path, images):
    config = BackboneConfig((1,), (4,), "adaface", image_size=SIZE, embedding_dim=6)
    model = IResNet(config, rngs=nnx.Rngs(0))
    write_state_dict(tmp_path / "w.safetensors", export_weights(model))
    out = tmp_path / "gallery.npz"
    words = ["--recognizer", tmp_path / "w.safetensors", "--out", out, "--devices", 2]
    assert run("embed", images, *words, "--flip") == 0
    expected = embed(model, (PICTURES[..., ::-1] / np.float32(127.5) - 1), flip=True)
    np.testing.assert_allclose(np.load(out)["embeddings"], expected.unit, atol=1e-5)


def test_skipped_images_are_counted_and_listed_until_they_are_mended(
    tmp_path, images, recognizer, capsys
):
    out, listed = tmp_path / "gallery.npz", tmp_path / "gallery.skipped.txt"
    (images / "ann" / "0.png").write_bytes(b"junk")
    words = ["embed", images, "--recognizer", recognizer, "--out", out]
    assert run(*words) == 0
    captured = capsys.readouterr()
    assert "7 embeddings of dimension 6, 1 files skipped" in captured.out
    assert "gallery.skipped.txt" in captured.err
    (line,) = listed.read_text().splitlines()
    assert line.startswith("ann/0.png\tnot a whole image")
    assert np.load(out)["names"].tolist() == NAMES[1:]
    (images / "ann" / "0.png").write_bytes(encode(picture(0)))
    assert run(*words) == 0
    assert not listed.exists()
    assert np.load(out)["names"].tolist() == NAMES


def test_files_that_are_no_images_are_counted_and_listed(tmp_path, images, recognizer, capsys):
    (images / "ann" / "list.txt").write_text("no image")
    (images / "ann" / "0.png").rename(images / "ann" / "0")
    out = tmp_path / "gallery.npz"
    assert run("embed", images, "--recognizer", recognizer, "--out", out) == 0
    captured = capsys.readouterr()
    assert "8 embeddings of dimension 6, 1 files skipped" in captured.out
    assert "1 files are not read: 1 are no image" in captured.err
    listed = (tmp_path / "gallery.skipped.txt").read_text()
    assert listed.startswith("ann/list.txt\tno image")


def test_the_center_crop_warns_once_and_landmarks_silence_it(tmp_path, recognizer, capsys):
    images, out = write_images(tmp_path / "large", 120), tmp_path / "gallery.npz"
    words = ["embed", images, "--recognizer", recognizer, "--out", out, "--batch-size", 2]
    assert run(*words) == 0
    assert capsys.readouterr().err.count("8 images are not of an aligned face's") == 1
    cropped = np.load(out)["embeddings"]
    points = np.stack([TEMPLATE + 4] * len(NAMES))
    np.savez(tmp_path / "points.npz", names=NAMES, landmarks=points)
    assert run(*words, "--landmarks", tmp_path / "points.npz") == 0
    assert capsys.readouterr().err == ""
    assert np.abs(np.load(out)["embeddings"] - cropped).max() > 1e-3


def test_a_log_shows_progress(tmp_path, images, recognizer, capsys, monkeypatch):
    monkeypatch.setattr("hyperface_jax.cli._terminal._LINE_EVERY_SECONDS", 0)
    words = ["--recognizer", recognizer, "--out", tmp_path / "gallery.npz", "--batch-size", 3]
    assert run("embed", images, *words) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["3/8", "6/8", "8/8"]
    assert all("images/s" in line and line.endswith("s left") for line in lines)


def _error(capsys, *words):
    code = run("embed", *words)
    captured = capsys.readouterr()
    assert code == 2, captured
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


@pytest.mark.parametrize(
    ("changed", "culprit"),
    [
        ({"images": "nowhere"}, "nowhere"),
        ({"images": "empty"}, "empty: holds no images"),
        ({"images": "broken"}, "none of 1 images can be used; the first, a.jpg"),
        ({"images": "tiny.onnx"}, "no whole .tar"),
        ({"--recognizer": "nowhere.pt"}, "nowhere.pt"),
        ({"--recognizer": "empty"}, "model.safetensors"),
        ({"--recognizer": "words.txt"}, ".onnx"),
        ({"--recognizer": "nan.onnx"}, "nan.onnx: embeds an image as zeros or as no finite"),
        ({"--landmarks": "words.txt"}, "landmarks must be a .csv or .npz"),
        ({"--landmarks": "others.csv"}, "has no landmarks"),
        ({"--out": "gallery.npy"}, "must end in .npz"),
        ({"--out": "taken.npz"}, "not written by embed"),
        ({"--out": "others.csv/gallery.npz"}, "cannot write"),
        ({"--batch-size": 0}, "--batch-size 0"),
        ({"--devices": 0}, "--devices 0"),
        ({"--devices": 99}, "--devices 99"),
    ],
)
def test_bad_input_is_named_and_writes_nothing(
    tmp_path, images, recognizer, changed, culprit, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_text("junk")
    (tmp_path / "words.txt").write_text("words")
    (tmp_path / "others.csv").write_text("other.png,1,2,3,4,5,6,7,8,9,10\n")
    np.savez(tmp_path / "taken.npz", weights=np.ones(3))
    tiny.write(tmp_path / "nan.onnx", bias=np.full(6, np.nan, np.float32))
    settings = {"images": images, "--recognizer": recognizer, "--out": "gallery.npz"} | changed
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    first = settings.pop("images")
    words = [word for pair in settings.items() for word in pair]
    assert culprit in _error(capsys, first, *words)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
