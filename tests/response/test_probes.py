"""Probes: what was measured of a generator."""

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.response import pool, probes_of


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_faces_are_averaged_by_condition():
    x = np.eye(3, 4)
    faces = _unit(np.array([[1.0, 1, 0, 0], [1, -1, 0, 0], [0, 0, 1, 0]]))
    found = probes_of(x, faces, [0, 0, 2])
    np.testing.assert_array_equal(found.conditions, x[[0, 2]])
    np.testing.assert_allclose(found.means, [[0.5**0.5, 0, 0, 0], [0, 0, 1, 0]], atol=1e-6)
    np.testing.assert_array_equal(found.counts, [2, 1])
    # Two faces around the first mean, each 1 / sqrt(2) away from it; one degree of freedom.
    assert found.noise == pytest.approx(1.0)


def test_the_noise_is_that_of_a_single_face():
    rng = np.random.default_rng(0)
    centers = _unit(rng.standard_normal((300, 64)))
    own = np.repeat(np.arange(300), 4)
    faces = _unit(centers[own] + 0.05 * rng.standard_normal((1200, 64)))
    truth = np.mean(
        np.sum((faces - _unit(centers)[own] * np.mean(np.sum(faces * centers[own], 1))) ** 2, 1)
    )
    assert probes_of(centers, faces, own).noise == pytest.approx(truth, rel=0.05)


def test_pooling_keeps_all_conditions():
    x = np.eye(2)
    one = probes_of(x, x, [0, 1])
    two = pool([one, one])
    assert len(two.counts) == 4
    assert two.noise == one.noise
    with pytest.raises(InputError, match="one dimension"):
        pool([one, probes_of(np.eye(3), np.eye(3), [0, 1, 2])])


@pytest.mark.parametrize(
    ("faces", "own", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "at least one"),
        (np.eye(2), [0, 2], "between 0 and 1"),
        (np.eye(3), [0, 1, 1], "the same dimension"),
        (np.eye(2), [0], "one number for each face"),
    ],
)
def test_parts_that_do_not_fit_are_refused(faces, own, message):
    with pytest.raises(InputError, match=message):
        probes_of(np.eye(2), faces, np.asarray(own))
