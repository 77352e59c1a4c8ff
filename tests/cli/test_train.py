"""``hyperface train`` as a user runs it: it learns, stops and goes on, and says what is wrong."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax.cli.main import main
from hyperface_jax.io.torch_files import read_state_dict
from hyperface_jax.recognition.backbones import BACKBONES, BackboneConfig
from hyperface_jax.recognition.data import Loader

_PATH = Path(__file__).parent.parent / "recognition" / "toy_faces.py"
_SPEC = importlib.util.spec_from_file_location("toy_faces", _PATH)
toy_faces = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(toy_faces)

SMALL = ["--backbone", "iresnet_toy", "--image-size", 16, "--batch-size", 8, "--epochs", 2]
SMALL += ["--learning-rate", 0.01, "--log-every", 1]


def run(*words):
    return main([str(word) for word in words])


def train(data, out, *words):
    return run("train", "--data", data, "--out", out, "--devices", 1, *words)


def history(out):
    lines = (out / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def summary(out):
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(autouse=True, scope="module")
def with_the_toy_backbone():
    with pytest.MonkeyPatch.context() as patch:
        for name, config in toy_faces.BACKBONE.items():
            patch.setitem(BACKBONES, name, config)
        yield


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return toy_faces.write_folder(tmp_path_factory.mktemp("faces") / "data", range(6), 6)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return toy_faces.write_pairs(tmp_path_factory.mktemp("pairs") / "held", range(500, 540), 60)


@pytest.fixture(scope="module")
def finished(faces, pairs, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert train(faces, out, *SMALL, "--validate", pairs) == 0
    return out


def test_a_run_leaves_a_model_figures_and_curves(finished):
    for name in ("model.safetensors", "model.json", "training.png", "report.html", "config.json"):
        assert (finished / name).stat().st_size > 0
    assert any((finished / "tensorboard").iterdir())
    found = summary(finished)
    assert (found["num_classes"], found["num_images"], found["steps"]) == (6, 36, 8)
    rows = [row for row in history(finished) if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert rows[-1]["loss"] == pytest.approx(found["loss"])
    assert np.isfinite([row["images_per_second"] for row in rows]).all()


def test_evaluate_finds_what_validation_found(finished, pairs, tmp_path):
    words = ["--model", finished, "--benchmark", pairs, "--devices", 1]
    assert run("evaluate", *words, "--out", tmp_path / "figures") == 0
    result = json.loads((tmp_path / "figures" / "evaluation.json").read_text())
    (found,) = result["benchmarks"].values()
    (expected,) = summary(finished)["accuracy"].values()
    assert found["accuracy"] == pytest.approx(expected, abs=1e-9)


def test_a_finished_run_is_left_alone(finished, faces, pairs, capsys):
    before = (finished / "model.safetensors").read_bytes()
    assert train(faces, finished, *SMALL, "--validate", pairs) == 0
    assert "already finished" in capsys.readouterr().out
    assert (finished / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("stop_at", [3, 4, 7], ids=["inside", "epoch-end", "late"])
def test_a_stopped_run_goes_on_bit_for_bit(finished, faces, pairs, tmp_path, monkeypatch, stop_at):
    drawn = Loader.__next__

    def stopping(self):
        if self.get_state()["step"] == stop_at - 1:
            signal.raise_signal(signal.SIGTERM)
        return drawn(self)

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(Loader, "__next__", stopping)
        assert train(faces, out, *SMALL, "--validate", pairs) == 130
    assert not (out / "summary.json").exists()
    assert train(faces, out, *SMALL, "--validate", pairs) == 0
    ours, theirs = (read_state_dict(run / "model.safetensors") for run in (out, finished))
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    varying = "images_per_second"
    assert [
        {name: value for name, value in row.items() if name != varying} for row in history(out)
    ] == [
        {name: value for name, value in row.items() if name != varying} for row in history(finished)
    ]


def test_the_best_epoch_is_kept_only_if_asked(finished, faces, pairs, tmp_path):
    out = tmp_path / "chosen"
    assert train(faces, out, *SMALL, "--validate", pairs, "--choose-by-validation") == 0
    found = summary(out)
    assert found["best_epoch"] in (1, 2)
    same = (out / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    assert same == (found["best_epoch"] == 2)


def test_a_loss_that_is_not_finite_stops_with_a_diagnosis(faces, tmp_path, capsys):
    assert train(faces, tmp_path / "out", *SMALL, "--learning-rate", 1e30) == 2
    error = capsys.readouterr().err
    assert "not finite at step" in error
    assert "--learning-rate" in error
    assert not (tmp_path / "out" / "summary.json").exists()


def test_bad_images_are_counted_and_named(faces, tmp_path, capsys):
    data = tmp_path / "data"
    for path in faces.rglob("*.png"):
        copy = data / path.relative_to(faces)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (data / "0002" / "1.png").write_bytes(b"no image")
    assert train(data, tmp_path / "out", *SMALL) == 0
    (skipped,) = summary(tmp_path / "out")["skipped_images"]
    assert "0002/1.png" in skipped
    assert "could not be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backbone", "resnet9000"], "iresnet50"),
        (["--batch-size", 104], "batch_size"),
        (["--choose-by-validation"], "--validate"),
        (["--epochs", 0], "--epochs"),
        (["--margin", "nan"], "margin"),
        (["--devices", 1000], "--devices"),
        (["--validate", "missing.bin"], "missing.bin"),
        (["--validate", "a/lfw.bin", "b/lfw.bin"], "--validate: two are called lfw"),
        (["--log-every", 0], "--log-every"),
    ],
)
def test_bad_settings_are_named_before_anything_runs(faces, tmp_path, capsys, words, message):
    assert run("train", "--data", faces, "--out", tmp_path / "out", *SMALL, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_data_that_cannot_train_is_named(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert train(tmp_path / "empty", tmp_path / "out", *SMALL) == 2
    assert "empty" in capsys.readouterr().err
    one = toy_faces.write_folder(tmp_path / "one", [1], 20)
    assert train(one, tmp_path / "out", *SMALL) == 2
    assert "identity" in capsys.readouterr().err


@pytest.mark.every_core
def test_two_processes_train_as_one(faces, tmp_path):
    """Without dropout, which depends on the place in the batch."""
    alone, out = tmp_path / "alone", tmp_path / "two"
    settings = [*SMALL, "--variant", "insightface", "--epochs", 1]
    assert train(faces, alone, *settings) == 0
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    words = ["train", "--data", faces, "--out", out, *settings]
    command = [sys.executable, str(_PATH), *map(str, words)]
    jobs = []
    for number in range(2):
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "2",
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(number),
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        jobs.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    outputs = [job.communicate(timeout=400) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], outputs
    first, expected = (history(run)[0]["loss"] for run in (out, alone))
    assert first == pytest.approx(expected, rel=1e-4)
    assert summary(out)["num_devices"] == 4


@pytest.mark.long_running
def test_a_network_from_scratch_tells_new_identities_apart(tmp_path, monkeypatch):
    """40 drawn identities in training; 60 others, never seen, in the pairs."""
    monkeypatch.setitem(BACKBONES, "iresnet_toy", BackboneConfig((1, 1), (8, 16)))
    data = toy_faces.write_folder(tmp_path / "data", range(40), 10)
    pairs = toy_faces.write_pairs(tmp_path / "held", range(1000, 1060), 120)
    words = ["--backbone", "iresnet_toy", "--image-size", 32, "--embedding-dim", 128]
    words += ["--epochs", 6, "--batch-size", 48, "--learning-rate", 0.05, "--no-augment"]
    assert train(data, tmp_path / "out", *words, "--validate", pairs) == 0
    (accuracy,) = summary(tmp_path / "out")["accuracy"].values()
    assert accuracy > 0.8


def test_known_attributes_are_learnt_beside_the_margin(faces, tmp_path, capsys):
    known = tmp_path / "known.csv"
    folders = sorted(path.name for path in faces.iterdir())
    lines = [f"{name},{i},{i % 2}" for i, name in enumerate(folders)]
    known.write_text("\n".join(["identity,size,parity", *lines]) + "\n")
    words = [*SMALL, "--attributes", known, "--attribute-weight", 2, "--embedding-dim", 32]
    assert train(faces, tmp_path / "run", *words) == 0
    rows = [row for row in history(tmp_path / "run") if "loss" in row]
    assert all(0 < row["attribute_error"] < 10 for row in rows)
    described = json.loads((tmp_path / "run" / "model.json").read_text())
    assert described["embedding_dim"] == 32
    assert train(faces, tmp_path / "run", *words) == 0
    assert "nothing changed" in capsys.readouterr().out
    known.write_text(known.read_text().replace(",0,0", ",5,0"))
    assert train(faces, tmp_path / "run", *words) == 2
    assert "attributes_sha256" in capsys.readouterr().err
    assert train(faces, tmp_path / "new", *SMALL, "--attribute-weight", 2) == 2
    assert "--attribute-weight needs --attributes" in capsys.readouterr().err
