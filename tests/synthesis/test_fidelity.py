import jax
import numpy as np
import pytest

from hyperface_jax.sphere import sample_uniform
from hyperface_jax.synthesis.fidelity import FaceEmbeddings, fidelity

TARGETS = np.asarray(sample_uniform(jax.random.key(0), 30, 16))


def _nearest(x):
    cosines = x @ x.T
    np.fill_diagonal(cosines, -1)
    return cosines.max(1)


def _unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _parts(noise):
    identities = np.random.default_rng(0).permutation(np.repeat(np.arange(30), 4))
    rng = np.random.default_rng(1)
    faces = _unit(TARGETS[identities] + noise * rng.normal(size=(120, 16))).astype(np.float32)
    return [FaceEmbeddings(faces[i : i + 37], identities[i : i + 37]) for i in range(0, 120, 37)]


def test_faces_at_their_targets_keep_the_separation():
    found = fidelity(TARGETS, _parts(0))
    assert found.num_measured == 30
    assert found.target_cosine == pytest.approx(1, abs=1e-5)
    assert found.within_cosine == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found.nearest_before, _nearest(TARGETS), atol=1e-5)
    np.testing.assert_allclose(found.nearest_after, found.nearest_before, atol=1e-5)


def test_figures_are_those_of_the_mean_faces():
    parts = _parts(0.3)
    found = fidelity(TARGETS, parts)
    faces = np.concatenate([p.embeddings for p in parts])
    identities = np.concatenate([p.identities for p in parts])
    means = _unit(np.stack([faces[identities == i].sum(0) for i in range(30)]))
    assert found.target_cosine == pytest.approx(np.mean(np.sum(means * TARGETS, 1)), abs=1e-5)
    assert found.within_cosine == pytest.approx(
        np.mean(np.sum(means[identities] * faces, 1)), abs=1e-5
    )
    np.testing.assert_allclose(found.nearest_after, _nearest(means), atol=1e-5)
    assert found.summary()["nearest_after_max"] == pytest.approx(_nearest(means).max(), abs=1e-5)


def test_identities_without_a_face_are_left_out():
    kept = [FaceEmbeddings(TARGETS[:7], np.arange(7))]
    found = fidelity(TARGETS, kept)
    assert found.num_measured == 7
    np.testing.assert_allclose(found.nearest_before, _nearest(TARGETS[:7]), atol=1e-5)
    assert fidelity(TARGETS, [FaceEmbeddings(TARGETS[:1], np.arange(1))]) is None
