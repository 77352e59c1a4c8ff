import jax
import numpy as np
import pytest
from scipy import integrate, stats

from hyperface_jax.errors import InputError
from hyperface_jax.sphere import sample_uniform
from hyperface_jax.synthesis.conditions import Variation, draw

DIM, NOISE = 37, (4, 3, 3)
KEY = jax.random.key(7)
MIXED = Variation(beta=0.02, min_cosine=0.7, cap_share=0.5)


def _images(num_ids=5, samples=30, dim=DIM):
    x = np.asarray(sample_uniform(jax.random.key(0), num_ids, dim))
    identities = np.repeat(np.arange(num_ids), samples)
    return x[identities], identities, np.tile(np.arange(samples), num_ids)


def _draw(x, identities, samples, variation=MIXED, **settings):
    return draw(KEY, x, identities, samples, variation=variation, noise_shape=NOISE, **settings)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 150])
def test_the_batch_size_changes_no_bit(batch_size):
    images = _images()
    whole = _draw(*images)
    rows = [slice(i, i + batch_size) for i in range(0, len(images[0]), batch_size)]
    parts = [_draw(*(column[row] for column in images)) for row in rows]
    for together, column in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(together, np.concatenate(column))


def test_the_order_changes_no_bit():
    images = _images()
    order = np.random.default_rng(0).permutation(len(images[0]))
    shuffled = _draw(*(column[order] for column in images))
    for straight, mixed in zip(_draw(*images), shuffled, strict=True):
        np.testing.assert_array_equal(straight[order], mixed)


def test_images_and_attempts_have_draws_of_their_own():
    images = _images(num_ids=3, samples=4)
    first, second = _draw(*images), _draw(*images, attempts=1)
    noise = np.concatenate([first.noise, second.noise]).reshape(24, -1)
    assert len(np.unique(noise, axis=0)) == 24
    assert np.abs(np.corrcoef(noise) - np.eye(24)).max() < 0.7
    assert not np.any(first.conditions == second.conditions)


def test_noise_is_standard_normal():
    noise = _draw(*_images(samples=200)).noise
    assert noise.shape == (1000, *NOISE)
    assert stats.kstest(noise.ravel()[::7], "norm").pvalue > 1e-3


def test_gaussian_is_the_papers_formula():
    images = _images(samples=400, dim=64)
    beta = 0.05
    draws = _draw(*images, variation=Variation(beta=beta))
    np.testing.assert_allclose(np.linalg.norm(draws.conditions, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(draws.cosines, np.sum(draws.conditions * images[0], 1), atol=1e-6)
    # Undoing the normalization by the component along x, which is 1 + beta v, leaves beta v across x.
    tangent = np.tan(np.arccos(draws.cosines.astype(float)))
    assert np.mean(tangent) == pytest.approx(beta * np.sqrt(63), rel=0.03)


def test_no_variation_returns_the_embedding():
    images = _images()
    for variation in (Variation(beta=0), Variation(min_cosine=1, cap_share=1)):
        draws = _draw(*images, variation=variation)
        np.testing.assert_allclose(draws.conditions, images[0], atol=2e-7)


@pytest.mark.parametrize(("dim", "least"), [(3, 0.2), (8, 0.5), (64, 0.9), (512, 0.05)])
def test_the_cap_is_covered_uniformly(dim, least):
    images = _images(num_ids=2, samples=1000, dim=dim)
    draws = _draw(*images, variation=Variation(min_cosine=least, cap_share=1))
    assert draws.cosines.min() >= least - 1e-6
    rim = np.arccos(least)

    def area(angle):
        return integrate.quad(lambda a: (np.sin(a) / np.sin(rim)) ** (dim - 2), 0, angle)[0]

    angles = np.arccos(np.clip(draws.cosines[::4].astype(float), -1, 1))
    shares = np.array([area(angle) for angle in angles]) / area(rim)
    assert stats.kstest(shares, "uniform").pvalue > 1e-3
    across = draws.conditions[:1000] - draws.cosines[:1000, None] * images[0][:1000]
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    assert np.linalg.norm(across.mean(0)) < 0.1


def test_the_mixture_has_the_share_asked_for():
    variation = Variation(beta=0.001, min_cosine=0.5, cap_share=0.3)
    draws = _draw(*_images(samples=400, dim=128), variation=variation)
    assert np.mean(draws.cosines < 0.9) == pytest.approx(0.3, abs=0.05)


def test_no_images_give_no_draws():
    draws = _draw(np.zeros((0, DIM), np.float32), np.zeros(0, int), np.zeros(0, int))
    assert [part.shape for part in draws] == [(0, DIM), (0,), (0, *NOISE)]


@pytest.mark.parametrize(
    "bad",
    [
        {"beta": -1},
        {"beta": float("nan")},
        {"min_cosine": 0},
        {"min_cosine": 1.1},
        {"cap_share": 2},
    ],
)
def test_bad_variations_are_refused_by_name(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        Variation(**bad)


def test_unequal_lengths_are_refused():
    with pytest.raises(InputError, match="3, 2 and 3 rows"):
        _draw(np.ones((3, DIM), np.float32), np.arange(2), np.arange(3))
