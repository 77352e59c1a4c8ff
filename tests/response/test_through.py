"""Packing through a response: gradients, the trust region, and what it gains."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from hyperface_jax import sphere
from hyperface_jax.errors import InputError
from hyperface_jax.packing.energies import row_max
from hyperface_jax.response import Weights, fit_response, pack_through, probes_of
from hyperface_jax.response.through import within

DIM, NUM = 16, 24


@pytest.fixture(scope="module")
def world():
    """A generator that draws only within four dimensions, and probes of it."""
    key = jax.random.key(0)
    basis = jnp.linalg.qr(jax.random.normal(key, (DIM, 4)))[0]

    def draw(x):
        return sphere.normalize(x @ basis @ basis.T + 0.05 * x)

    x = sphere.sample_uniform(jax.random.key(1), 400, DIM)
    return draw, probes_of(x, draw(x), np.arange(400))


@pytest.fixture(scope="module")
def model(world):
    return fit_response(world[1], jax.random.key(2), width=64, num_steps=600)


def test_the_response_is_learned(world, model):
    draw, _ = world
    x = sphere.sample_uniform(jax.random.key(3), 200, DIM)
    predicted, truth = sphere.normalize(model(x).mean), draw(x)
    error = jnp.mean(jnp.arccos(jnp.clip(sphere.inner(predicted, truth), -1, 1)))
    assert error < 0.5 * jnp.mean(jnp.arccos(jnp.clip(sphere.inner(x, truth), -1, 1)))


def test_the_members_disagree_more_where_nothing_was_measured(world):
    draw, _ = world
    x = sphere.normalize(sphere.sample_uniform(jax.random.key(4), 200, DIM) + 2 * jnp.eye(DIM)[:1])
    local = fit_response(
        probes_of(x, draw(x), np.arange(200)), jax.random.key(5), width=32, num_steps=300
    )
    assert jnp.mean(local(-x).doubt) > 2 * jnp.mean(local(x).doubt)


def test_the_prediction_has_the_right_gradient(model):
    x = sphere.sample_uniform(jax.random.key(6), 3, DIM)
    check_grads(lambda x: model(x).mean, (x,), order=1, modes=["rev"], atol=0.02, rtol=0.02)


def test_the_objective_falls_and_faces_spread(world, model):
    draw, _ = world
    start = sphere.normalize(
        sphere.sample_uniform(jax.random.key(7), NUM, DIM) + 2 * jnp.eye(DIM)[:1]
    )
    found = pack_through(model, start, radius=1.0, num_steps=150)
    before = jnp.mean(row_max(draw(start)))
    assert jnp.mean(row_max(draw(found.conditions))) < before - 0.05
    np.testing.assert_allclose(jnp.linalg.norm(found.conditions, axis=1), 1, atol=1e-5)
    assert found.history.shape == (150,)


def test_no_condition_leaves_its_trust_region(model):
    start = sphere.sample_uniform(jax.random.key(8), NUM, DIM)
    found = pack_through(model, start, radius=0.1, num_steps=50)
    assert jnp.max(found.moved) <= 0.1 + 1e-3
    assert jnp.mean(found.moved) > 0.05


def test_within_moves_only_what_is_outside():
    center = jnp.eye(4)[:1].repeat(2, 0)
    x = sphere.normalize(jnp.array([[1.0, 0.1, 0, 0], [1.0, 1.0, 0, 0]]))
    moved = within(x, center, 0.3)
    np.testing.assert_array_equal(moved[0], x[0])
    np.testing.assert_allclose(moved[1], [np.cos(0.3), np.sin(0.3), 0, 0], atol=1e-6)


def test_the_offset_is_added_to_the_prediction(model):
    start = sphere.sample_uniform(jax.random.key(9), NUM, DIM)
    wanted = sphere.sample_uniform(jax.random.key(10), NUM, DIM)
    offset = 100 * wanted
    found = pack_through(model, start, offset=offset, num_steps=1)
    np.testing.assert_allclose(sphere.inner(found.faces, wanted), 1, atol=1e-3)


@pytest.mark.parametrize("scale", [1, 25])
def test_centers_of_another_type_or_length_pack_alike(model, scale):
    start = sphere.sample_uniform(jax.random.key(13), NUM, DIM)
    given = (scale * np.asarray(start)).astype(np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Raw rows are normalized with a note.
        found = pack_through(model, given, num_steps=5)
    assert found.conditions.dtype == jnp.float32
    expected = pack_through(model, start, num_steps=5)
    np.testing.assert_allclose(found.nearest, expected.nearest, atol=0.02)


def test_a_gallery_pulls(model):
    start = sphere.sample_uniform(jax.random.key(11), NUM, DIM)
    gallery = sphere.sample_uniform(jax.random.key(12), 40, DIM)
    weak, strong = (
        pack_through(
            model, start, gallery=gallery, weights=Weights(alpha=alpha), radius=1.0, num_steps=60
        )
        for alpha in (0.0, 50.0)
    )

    def near(found):
        return jnp.mean(jnp.max(found.conditions @ gallery.T, axis=1))

    assert near(strong) > near(weak) + 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"radius": 0.0}, "radius=0.0"), ({"num_steps": 0}, "num_steps=0")],
)
def test_bad_numbers_are_refused(model, settings, message):
    with pytest.raises(InputError, match=message):
        pack_through(model, sphere.sample_uniform(jax.random.key(0), 4, DIM), **settings)


def test_bad_sizes_are_refused(world):
    with pytest.raises(InputError, match="num_members=0"):
        fit_response(world[1], jax.random.key(0), num_members=0)
