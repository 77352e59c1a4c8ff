import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import sphere


def _point_and_tangent(key, shape=(50, 7)):
    x_key, u_key = jax.random.split(key)
    x = sphere.normalize(jax.random.normal(x_key, shape))
    return x, sphere.project(x, jax.random.normal(u_key, shape) * 0.3)


def test_projection_is_tangent_and_idempotent(key):
    x, u = _point_and_tangent(key)
    np.testing.assert_allclose(sphere.inner(x, u), 0, atol=1e-6)
    np.testing.assert_allclose(sphere.project(x, u), u, atol=1e-6)


def test_log_inverts_exp(key):
    x, u = _point_and_tangent(key)
    np.testing.assert_allclose(sphere.log(x, sphere.exp(x, u)), u, atol=2e-6)


def test_exp_moves_by_the_length_of_the_tangent(key):
    x, u = _point_and_tangent(key)
    angle = sphere.distance(x, sphere.exp(x, u))
    np.testing.assert_allclose(angle, jnp.linalg.norm(u, axis=-1), atol=2e-6)


def test_exp_and_log_at_zero_are_finite():
    x = jnp.array([[1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(sphere.exp(x, jnp.zeros_like(x)), x)
    np.testing.assert_array_equal(sphere.log(x, x), jnp.zeros_like(x))


def test_retraction_agrees_with_exp_to_second_order(key):
    x, u = _point_and_tangent(key)
    for scale in (1e-1, 1e-2):
        error = jnp.max(jnp.abs(sphere.retract(x, scale * u) - sphere.exp(x, scale * u)))
        assert error < 2 * scale**3 + 1e-6


def test_transport_never_lengthens(key):
    x, u = _point_and_tangent(key)
    moved = sphere.transport(sphere.exp(x, u), u)
    assert jnp.all(jnp.linalg.norm(moved, axis=1) <= jnp.linalg.norm(u, axis=1) + 1e-6)


def test_distance_is_accurate_near_zero_and_pi():
    x = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    y = jnp.array([[1.0, 1e-4], [-1.0, 1e-4]])
    np.testing.assert_allclose(
        sphere.distance(x, sphere.normalize(y)), [1e-4, np.pi - 1e-4], rtol=1e-5
    )


def test_a_zero_row_normalizes_to_zero():
    assert jnp.all(sphere.normalize(jnp.zeros((2, 3))) == 0)


def test_uniform_points_are_unit_and_centered(key):
    x = sphere.sample_uniform(key, 4000, 5)
    np.testing.assert_allclose(jnp.linalg.norm(x, axis=1), 1, atol=1e-6)
    assert jnp.linalg.norm(jnp.mean(x, axis=0)) < 0.05


@pytest.mark.parametrize("dim", [1, 3, 200])
def test_rotations_are_orthogonal_and_differ(dim):
    first, second = (sphere.sample_rotation(jax.random.key(seed), dim) for seed in (0, 1))
    gram = np.asarray(first, np.float64) @ np.asarray(first, np.float64).T
    np.testing.assert_allclose(gram, np.eye(dim), atol=1e-6)
    assert dim == 1 or jnp.max(jnp.abs(first - second)) > 0.01


def test_rotations_have_no_preferred_sign():
    """QR alone would give a matrix whose diagonal is mostly of one sign."""
    drawn = jax.vmap(lambda key: sphere.sample_rotation(key, 4))(
        jax.random.split(jax.random.key(0), 400)
    )
    assert abs(float(jnp.mean(drawn[:, 0, 0]))) < 0.1
