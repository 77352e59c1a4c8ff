import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation import impostor_threshold, leakage


def test_the_nearest_real_person_of_each_is_found():
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(70, 9)), rng.normal(size=(11, 9))
    synthetic[4] = 5 * real[23]
    found = leakage(synthetic, real, threshold=0.8)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (synthetic, real)]
    scores = unit[0] @ unit[1].T
    np.testing.assert_array_equal(found.nearest, scores.argmax(1))
    np.testing.assert_allclose(found.cosine, scores.max(1), atol=1e-6)
    summary = found.summary()
    assert summary["num_above"] == (scores.max(1) > 0.8).sum() >= 1
    assert summary["max_cosine"] == pytest.approx(1, abs=1e-6)


def test_the_threshold_is_passed_at_its_rate():
    rows = np.random.default_rng(0).normal(size=(300, 8))
    limit = impostor_threshold(rows, far=1e-3)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores = (unit @ unit.T)[np.triu_indices(300, 1)]
    assert np.mean(scores > limit) == pytest.approx(1e-3, rel=0.05)


def test_what_cannot_be_measured_is_named():
    with pytest.raises(InputError, match="too few"):
        impostor_threshold(np.eye(4), far=1e-3)
    with pytest.raises(InputError, match=r"\(3, 3\) and \(2, 4\)"):
        leakage(np.eye(3), np.eye(4)[:2], threshold=0.5)
    with pytest.raises(InputError, match="not empty"):
        leakage(np.eye(3), np.eye(3)[:0], threshold=0.5)
