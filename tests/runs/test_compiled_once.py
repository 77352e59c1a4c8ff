"""Stages of one process: what they have in common is compiled once."""

import logging
import re

import jax
import numpy as np
import pytest

from hyperface_jax.evaluation import nearest_pairs
from hyperface_jax.recognition.backbones import BackboneConfig
from hyperface_jax.recognition.recipes import Recipe
from hyperface_jax.recognition.train import Trainer
from hyperface_jax.synthesis.fidelity import FaceEmbeddings, fidelity
from hyperface_jax.toyfaces.population import image_nuisance, sample_identities, split_key


def _leakage(rng, num):
    del num
    rows = rng.normal(size=(608, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    nearest_pairs(rows[:8], rows[8:], num_pairs=1)


def _fidelity(rng, num):
    del num
    rows = rng.normal(size=(600, 4)).astype(np.float32)
    fidelity(rows, [FaceEmbeddings(rows, np.arange(600))])


def _toy_faces(rng, num):
    del rng
    sample_identities(split_key(0, "test"), num)
    image_nuisance(split_key(0, "test"), np.arange(num), np.arange(num), preset="easy")


def _start(rng, num):
    del rng, num
    shape = BackboneConfig((1, 1), (8, 16), image_size=16, embedding_dim=24, dropout=0.0)
    Trainer(shape, Recipe(), num_classes=3, steps_per_epoch=2).init(jax.random.key(0))


@pytest.mark.parametrize("work", [_leakage, _fidelity, _toy_faces, _start])
def test_what_stages_have_in_common_is_compiled_once(work, caplog):
    work(np.random.default_rng(0), 3)
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        work(np.random.default_rng(1), 5)
    names = re.findall(r"Finished XLA compilation of jit\((\w+)\)", caplog.text)
    assert set(names) <= {"stage"}  # Brings an array to the device.
