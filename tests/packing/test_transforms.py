"""One table of optimizers, one set of laws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperface_jax import sphere
from hyperface_jax.packing import (
    AnnealedStep,
    Annealing,
    SoftMax,
    add_dispersion,
    as_objective,
    on_sphere,
    retract_updates,
    riemannian_adam,
)

OPTIMIZERS = {
    "riemannian_adam": riemannian_adam(0.02),
    "riemannian_adam_b2": riemannian_adam(0.02, b2=0.9),
    "annealed_step": riemannian_adam(AnnealedStep(Annealing(10.0, 100.0, 100))),
    "sgd": on_sphere(optax.sgd(0.3, momentum=0.9)),
    "adam": on_sphere(optax.adam(0.02)),
    "paper": optax.chain(optax.adam(0.02), retract_updates()),
}
OBJECTIVE = as_objective(SoftMax(20.0))


def _run(optimizer, x, steps=60):
    def step(carry, _):
        x, state = carry
        value, gradient = jax.value_and_grad(OBJECTIVE)(x)
        updates, state = optimizer.update(gradient, state, x)
        return (optax.apply_updates(x, updates), state), value

    (x, state), values = jax.lax.scan(step, (x, optimizer.init(x)), length=steps)
    return x, state, values


@pytest.fixture
def x(key):
    return sphere.sample_uniform(key, 40, 6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_stays_on_the_sphere_and_lowers_the_energy(x, name):
    moved, _, values = _run(OPTIMIZERS[name], x)
    np.testing.assert_allclose(jnp.linalg.norm(moved, axis=1), 1, atol=1e-6)
    assert values[-1] < values[0] - 0.05


@pytest.mark.parametrize("name", ["riemannian_adam", "riemannian_adam_b2", "sgd"])
def test_commutes_with_rotations(key, x, name):
    rotation = jnp.linalg.qr(jax.random.normal(key, (6, 6)))[0]
    straight, _, _ = _run(OPTIMIZERS[name], x, steps=5)
    turned, _, _ = _run(OPTIMIZERS[name], x @ rotation, steps=5)
    np.testing.assert_allclose(straight @ rotation, turned, atol=2e-4)


def test_adam_per_coordinate_does_not_commute_with_rotations(key, x):
    """The reason for one second moment a point."""
    rotation = jnp.linalg.qr(jax.random.normal(key, (6, 6)))[0]
    straight, _, _ = _run(OPTIMIZERS["adam"], x, steps=5)
    turned, _, _ = _run(OPTIMIZERS["adam"], x @ rotation, steps=5)
    assert jnp.max(jnp.abs(straight @ rotation - turned)) > 1e-3


def test_first_step_has_the_length_of_the_learning_rate(x):
    optimizer = riemannian_adam(0.05)
    gradient = jax.grad(OBJECTIVE)(x) * 1e-6
    updates, _ = optimizer.update(gradient, optimizer.init(x), x)
    angles = sphere.distance(x, x + updates)
    np.testing.assert_allclose(jnp.tan(angles), 0.05, rtol=1e-3)


def test_compiles_once(x):
    optimizer, traces = riemannian_adam(0.02), []

    @jax.jit
    def step(x, state):
        traces.append(1)
        updates, state = optimizer.update(jax.grad(OBJECTIVE)(x), state, x)
        return optax.apply_updates(x, updates), state

    state = optimizer.init(x)
    for _ in range(3):
        x, state = step(x, state)
    assert len(traces) == 1


def test_works_on_parts_of_a_model(key, x):
    """Prototypes on the sphere beside ordinary weights, by optax.partition."""
    params = {"prototypes": x, "weight": jnp.ones((6, 6))}
    labels = {"prototypes": "sphere", "weight": "free"}
    optimizer = optax.partition(
        {
            "sphere": optax.chain(add_dispersion(1.0), riemannian_adam(0.02)),
            "free": optax.sgd(0.1),
        },
        labels,
    )
    state = optimizer.init(params)
    zero = jax.tree.map(jnp.zeros_like, params)
    start = OBJECTIVE(x)
    for _ in range(30):
        updates, state = optimizer.update(zero, state, params)
        params = optax.apply_updates(params, updates)
    assert OBJECTIVE(params["prototypes"]) < start - 0.05
    np.testing.assert_allclose(jnp.linalg.norm(params["prototypes"], axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(params["weight"], 1)


def test_missing_params_are_refused(x):
    optimizer = riemannian_adam(0.02)
    with pytest.raises(ValueError, match="params=None"):
        optimizer.update(x, optimizer.init(x))
