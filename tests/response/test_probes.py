"""Probes: what was measured of a generator."""

import warnings

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
        (np.zeros((0, 2)), np.zeros(0, int), "embeddings has shape .* it holds no rows"),
        (np.eye(2), [0, 2], "between 0 and 1"),
        (np.eye(3), [0, 1, 1], "embeddings has shape .* give .rows, 2."),
        (np.array([[1.0, 0], [np.nan, 0]]), [0, 1], "embeddings: row 1 is not finite"),
        (np.zeros((2, 2)), [0, 1], "embeddings: row 0 is zero"),
        (np.eye(2), [0], "one number for each face"),
    ],
)
def test_parts_that_do_not_fit_are_refused(faces, own, message):
    with pytest.raises(InputError, match=message):
        probes_of(np.eye(2), faces, np.asarray(own))


@pytest.mark.parametrize("kind", ["raw", "half", "double", "list", "torch"])
def test_rows_of_any_kind_give_the_probes_of_clean_ones(kind):
    rng = np.random.default_rng(2)
    x, faces = (_unit(rng.standard_normal((n, 16))).astype(np.float32) for n in (5, 20))
    own = np.repeat(np.arange(5), 4)
    make = {
        "raw": lambda rows: 25 * rows,
        "half": lambda rows: rows.astype(np.float16),
        "double": lambda rows: rows.astype(np.float64),
        "list": lambda rows: rows.tolist(),
        "torch": lambda rows: pytest.importorskip("torch").from_numpy(rows),
    }[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Raw rows are normalized with a note.
        found = probes_of(make(x), make(faces), own)
    expected = probes_of(x, faces, own)
    np.testing.assert_allclose(found.means, expected.means, atol=1e-3)
    np.testing.assert_allclose(found.conditions, expected.conditions, atol=1e-3)
    assert found.noise == pytest.approx(expected.noise, abs=1e-3)
    assert found.means.dtype == found.conditions.dtype == np.float32
