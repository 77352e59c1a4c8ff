import json

import numpy as np

from hyperface_jax.evaluation import verify
from hyperface_jax.faces.flax_recognizer import load_recognizer
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.toyfaces import benchmark_pairs, render, split_key, to_uint8
from hyperface_jax.toyfaces.pretrained import GENERATOR, METRICS, MODELS, RECOGNIZER


def test_the_recognizer_verifies_persons_it_has_not_seen():
    model = load_recognizer(RECOGNIZER)
    pairs = benchmark_pairs(split_key(11, "test"), "easy", 512)
    views = (pairs.first, pairs.first_nuisance), (pairs.second, pairs.second_nuisance)
    first, second = (model(np.asarray(to_uint8(render(*view, size=32)))) for view in views)
    assert verify(first, second, pairs.is_same).accuracy >= 0.97


def test_the_models_tell_how_they_were_made():
    for folder in (RECOGNIZER, GENERATOR):
        metrics = json.loads((folder / METRICS).read_text())
        assert metrics["command"].startswith("python -m benchmarks.toy_models.")
        assert metrics["settings"]["seed"] == 0
    assert json.loads((RECOGNIZER / METRICS).read_text())["benchmarks"]["easy"]["accuracy"] >= 0.97
    used = json.loads((GENERATOR / METRICS).read_text())["recognizer_sha256"]
    assert used == file_sha256(RECOGNIZER / "model.safetensors")


def test_the_models_are_small():
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 8e6
