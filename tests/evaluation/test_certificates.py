"""Certified pairs of identities: no image of the one comes near an image of the other."""

import itertools

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation import certificates as module
from hyperface_jax.evaluation import diversity
from hyperface_jax.evaluation.certificates import certify

C, N, D = 12, 5, 6


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(4)
    centers = unit(rng.standard_normal((C, D)))
    rows = unit(centers[:, None] + 0.15 * rng.standard_normal((C, N, D))).reshape(-1, D)
    order = rng.permutation(len(rows))
    return rows[order], np.array([f"id{i:02}" for i in np.repeat(np.arange(C), N)])[order]


@pytest.fixture(scope="module")
def classes(faces):
    return diversity(*faces).classes


def plainly(rows, labels, threshold):
    """Return the margin of each pair of identities, one pair at a time."""
    own = {label: rows[labels == label].astype(np.float64) for label in np.unique(labels)}
    centers = {k: v.sum(0) / np.linalg.norm(v.sum(0)) for k, v in own.items()}
    radii = {k: np.arccos(np.min(v @ centers[k])) for k, v in own.items()}
    return {
        (a, b): np.arccos(centers[a] @ centers[b]) - radii[a] - radii[b] - np.arccos(threshold)
        for a, b in itertools.combinations(sorted(own), 2)
    }, radii


@pytest.mark.parametrize("block", [1, 40, 1 << 24])
@pytest.mark.parametrize("threshold", [0.3, 0.8])
def test_margins_are_those_of_the_theorem(faces, classes, threshold, block, monkeypatch):
    monkeypatch.setattr(module, "_ENTRIES", block)
    monkeypatch.setattr(module, "_BLOCK", 7)
    found = certify(*faces, classes, threshold=threshold, num_worst=8)
    expected, radii = plainly(*faces, threshold)
    np.testing.assert_allclose(found.radii, list(radii.values()), atol=1e-6)
    assert found.num_certified == sum(margin >= 0 for margin in expected.values())
    assert 0 < found.num_certified < found.num_pairs == len(expected)
    worst = sorted(expected, key=expected.__getitem__)[:8]
    assert [tuple(pair) for pair in found.labels[found.worst].tolist()] == worst
    np.testing.assert_allclose(found.margins, [expected[pair] for pair in worst], atol=1e-6)


def test_no_images_of_a_certified_pair_pass_the_threshold(faces, classes):
    rows, labels = faces
    threshold = 0.6
    found = certify(rows, labels, classes, threshold=threshold, num_worst=C * C)
    pairs = found.labels[found.worst[found.margins >= 0]]
    assert len(pairs) == found.num_certified
    for one, other in pairs:
        assert (rows[labels == one] @ rows[labels == other].T).max() <= threshold + 1e-6


def test_the_summary_is_in_degrees(faces, classes):
    told = certify(*faces, classes, threshold=0.5, num_worst=3).summary()
    assert told["radius_degrees"]["min"] < told["radius_degrees"]["max"] < 90
    assert len(told["worst"]) == 3
    assert told["num_pairs"] == C * (C - 1) // 2


def test_bad_input_is_refused(faces, classes):
    rows, labels = faces
    with pytest.raises(InputError, match=r"`threshold=1\.5`: must be a cosine"):
        certify(rows, labels, classes, threshold=1.5)
    with pytest.raises(InputError, match="labels: stranger is no identity"):
        certify(rows, np.full(len(rows), "stranger"), classes, threshold=0.5)
