"""The stage that embeds, as a function of settings."""

import runpy
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from hyperface_jax import runs
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.images import TEMPLATE, encode
from hyperface_jax.io.torch_files import write_state_dict
from hyperface_jax.recognition.backbones import BackboneConfig, IResNet
from hyperface_jax.recognition.weights import export_weights

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

TINY_ONNX = Path(__file__).parents[1] / "faces" / "tiny_onnx.py"
tiny = types.SimpleNamespace(**runpy.run_path(str(TINY_ONNX)))
SIZE = 32
NAMES = [f"{person}/{i}.png" for person in ("ann", "bob") for i in range(2)]
PICTURES = np.random.default_rng(0).integers(0, 256, (len(NAMES), SIZE, SIZE, 3), dtype=np.uint8)


class Told:
    """A watch that remembers."""

    def __init__(self):
        self.said, self.warned = [], []
        self.watch = runs.Watch(say=self.said.append, warn=self.warned.append)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def config(tmp_path):
    for name, picture in zip(NAMES, PICTURES, strict=True):
        (tmp_path / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "faces" / name).write_bytes(encode(picture))
    return runs.Embed(
        images=tmp_path / "faces",
        recognizer=tiny.write(tmp_path / "tiny.onnx"),
        out=tmp_path / "new" / "gallery.npz",
        batch_size=3,
    )


def unit(raw):
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


@pytest.mark.parametrize(("flip", "color"), [(False, None), (True, "bgr")])
def test_a_gallery_and_its_figures(config, told, flip, color, capfd):
    result = runs.embed(replace(config, flip=flip, color=color), watch=told.watch)
    raw = tiny.reference(PICTURES, color or "rgb")
    if flip:
        raw = raw + tiny.reference(PICTURES[:, :, ::-1], color)
    with np.load(config.out) as gallery:
        np.testing.assert_allclose(gallery["embeddings"], unit(raw), atol=1e-5)
        assert gallery["names"].tolist() == NAMES
        assert str(gallery["color"]) == (color or "rgb")
    assert result.path == config.out
    assert result.summary["num_embeddings"] == len(NAMES)
    assert result.summary["dim"] == tiny.DIM
    assert result.summary["num_skipped"] == result.summary["num_unaligned"] == len(NAMES) - 4
    assert result.summary["recognizer_sha256"] == file_sha256(config.recognizer)
    assert result.summary["images_per_second"] > 0
    assert result.text.startswith("4 embeddings of dimension 6, 0 files skipped, ")
    assert result.text.endswith(f"images/s: {config.out}")
    assert (told.said, told.warned) == ([], [])
    assert capfd.readouterr().out == ""


def test_what_is_skipped_is_told_and_listed_until_it_is_mended(config, told):
    (config.images / NAMES[0]).write_bytes(b"junk")
    (config.images / "list.txt").write_text("no image")
    assert runs.embed(config, watch=told.watch).summary["num_skipped"] == 2
    assert "1 files are not read: 1 are no image" in told.warned[0]
    assert told.warned[-1].startswith("2 files were skipped: see ")
    listed = config.out.with_suffix(".skipped.txt")
    assert [line.split("\t")[0] for line in listed.read_text().splitlines()] == [
        NAMES[0],
        "list.txt",
    ]
    (config.images / NAMES[0]).write_bytes(encode(PICTURES[0]))
    (config.images / "list.txt").unlink()
    assert runs.embed(config).summary["num_embeddings"] == len(NAMES)
    assert not listed.exists()


def test_images_that_are_not_aligned_are_told_once_unless_there_are_landmarks(config, told):
    for name in NAMES:
        (config.images / name).write_bytes(encode(np.full((120, 130, 3), 9, np.uint8)))
    assert runs.embed(config, watch=told.watch).summary["num_unaligned"] == len(NAMES)
    (warning,) = told.warned
    assert "give `detect` or `landmarks`" in warning
    points = config.images.with_name("points.npz")
    np.savez(points, names=NAMES, landmarks=np.stack([TEMPLATE + 4] * len(NAMES)))
    runs.embed(replace(config, landmarks=points), watch=told.watch)
    assert told.warned == [warning]


def test_progress_counts_images(config):
    class Counted(list):
        def __call__(self, title, unit, total, done=0):
            self.append((title, unit, total))
            return self

        def __enter__(self):
            return lambda done, figure="": self.append(done)

        def __exit__(self, *error):
            pass

    counted = Counted()
    runs.embed(config, watch=runs.Watch(progress=counted))
    assert counted == [("embedding", "images", 4), 3, 4]


def test_weights_beside_the_network_are_said(config, told):
    model = IResNet(
        BackboneConfig((1,), (4,), "adaface", image_size=SIZE, embedding_dim=6), rngs=nnx.Rngs(0)
    )
    path = config.recognizer.with_name("both.safetensors")
    heads = {f"head.{i}": np.ones((6, 9), np.float32) for i in range(5)}
    write_state_dict(path, export_weights(model) | heads)
    result = runs.embed(replace(config, recognizer=path, devices=2), watch=told.watch)
    assert result.summary["color"] == "bgr"
    assert told.said == [
        f"{path}: 5 weights beside the network stay unused, as of a classifier: head.0, head.1, "
        "head.2, head.3, ..."
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 0}, "`batch_size=0`: must be at least 1"),
        ({"devices": 99}, "`devices=99`: must be between 1 and 8"),
        ({"devices": 1}, "`devices=1` does not go with an .onnx as `recognizer`"),
        ({"out": Path("gallery.npy")}, r"`out=gallery\.npy`: must end in \.npz"),
        ({"out": Path("taken.npz")}, r"`out=taken\.npz`: is there and was not written by embed"),
        ({"images": Path("nowhere")}, "nowhere"),
        ({"recognizer": Path("nowhere.pt")}, "no such recognizer"),
        ({"landmarks": Path("taken.npz")}, "not an .npz with 'names' and 'landmarks'"),
    ],
)
def test_bad_input_is_named_and_writes_nothing(config, changed, message, monkeypatch):
    monkeypatch.chdir(config.images.parent)
    np.savez("taken.npz", weights=np.ones(3))
    before = set(config.images.parent.rglob("*"))
    with pytest.raises(runs.InputError, match=message):
        runs.embed(replace(config, **changed))
    assert set(config.images.parent.rglob("*")) == before
