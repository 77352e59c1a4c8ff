"""Laws that every energy obeys, and each one's own formula."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import sphere
from hyperface_jax.packing import (
    Annealing,
    ClosestPair,
    Hinge,
    MeanRowMax,
    PairEnergy,
    Riesz,
    SoftMax,
    as_objective,
)


def _scores(x):
    s = x @ x.T
    return jnp.where(jnp.eye(len(x), dtype=bool), -jnp.inf, s)


def _mean_pairs(phi):
    def value(x):
        n = len(x)
        off = ~np.eye(n, dtype=bool)
        return phi((x @ x.T)[off]).mean()

    return value


DENSE = {
    SoftMax(30.0): lambda x: jax.nn.logsumexp(30.0 * _scores(x)) / 30.0,
    Riesz(2.0): _mean_pairs(lambda s: 1 / (2 - 2 * s)),
    Hinge(0.1): _mean_pairs(lambda s: jnp.maximum(s - 0.1, 0) ** 2),
    MeanRowMax(): lambda x: jnp.mean(jnp.max(_scores(x), axis=1)),
    ClosestPair(): lambda x: jnp.max(_scores(x)),
}
ENERGIES = list(DENSE)
names = {"ids": lambda e: type(e).__name__}


@pytest.fixture
def x(key):
    return sphere.sample_uniform(key, 60, 5)


@pytest.mark.parametrize("energy", ENERGIES, **names)
def test_value_and_force_match_autodiff_of_the_formula(x, energy):
    evaluation = energy.evaluate(x)
    value, gradient = jax.value_and_grad(DENSE[energy])(x)
    np.testing.assert_allclose(evaluation.value, value, rtol=1e-5)
    # A row-max formula gives a tie's subgradient to one of two equal scores: compare on the pair.
    np.testing.assert_allclose(evaluation.force, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("energy", ENERGIES, **names)
def test_row_max_is_exact(x, energy):
    np.testing.assert_allclose(
        energy.evaluate(x).row_max, jnp.max(_scores(x), axis=1), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("energy", ENERGIES, **names)
def test_invariance_under_rotation_and_permutation(key, x, energy):
    rotation = jnp.linalg.qr(jax.random.normal(key, (5, 5)))[0]
    order = jax.random.permutation(key, 60)
    before, after = energy.evaluate(x), energy.evaluate((x @ rotation)[order])
    np.testing.assert_allclose(before.value, after.value, rtol=2e-5)
    np.testing.assert_allclose((before.force @ rotation)[order], after.force, rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize("energy", ENERGIES, **names)
def test_frozen_points_count_like_free_ones(x, energy):
    whole = energy.evaluate(x, shift=0.9)
    part = energy.evaluate(x[:40], frozen=x[40:], shift=0.9)
    np.testing.assert_allclose(part.row_max, whole.row_max[:40], rtol=1e-6, atol=1e-7)
    if isinstance(energy, PairEnergy):
        # Pairs of two frozen points are left out, so forces agree up to one common factor.
        factor = jnp.linalg.norm(whole.force[:40]) / jnp.linalg.norm(part.force)
        np.testing.assert_allclose(part.force * factor, whole.force[:40], rtol=1e-3, atol=1e-6)


def test_soft_max_brackets_the_max_cosine(x):
    for beta in (1.0, 100.0, 1e4, 1e6):
        evaluation = SoftMax(beta).evaluate(x)
        assert evaluation.max_cosine - 1e-6 <= evaluation.value
        assert evaluation.value <= evaluation.max_cosine + jnp.log(60 * 59) / beta + 1e-6


def test_soft_max_with_a_stale_shift_stays_finite(x):
    for shift in (-1.0, 1.0):
        evaluation = SoftMax(4000.0).evaluate(x, shift=shift)
        assert jnp.all(jnp.isfinite(evaluation.force))


def test_annealing_runs_from_start_to_end_and_stays():
    annealing = Annealing(start=10.0, end=1000.0, num_steps=101)
    np.testing.assert_allclose(annealing(0), 10, rtol=1e-6)
    np.testing.assert_allclose(annealing(100), 1000, rtol=1e-5)
    np.testing.assert_allclose(annealing(500), 1000, rtol=1e-5)
    assert annealing(50) < 100, "hotter for longer than a geometric schedule"


@pytest.mark.parametrize("energy", ENERGIES, **names)
def test_objective_gradient_costs_no_backward_sweep(energy):
    """Forward and gradient together hold as many matrix products as forward alone."""
    objective = as_objective(energy)
    x = jnp.ones((600, 4))

    def products(f):
        return str(jax.make_jaxpr(f)(x)).count("dot_general")

    assert products(jax.value_and_grad(objective)) == products(objective)


def test_objective_differentiates_through_normalization(key):
    """Inside someone's own loss: raw parameters, normalized on the way."""
    raw = jax.random.normal(key, (30, 4)) * 3

    def loss(raw):
        return as_objective(SoftMax(20.0))(sphere.normalize(raw)) * 2

    gradient = jax.grad(loss)(raw)
    dense = jax.grad(lambda r: 2 * DENSE_SOFT(sphere.normalize(r)))(raw)
    np.testing.assert_allclose(gradient, dense, rtol=1e-3, atol=1e-6)


def DENSE_SOFT(x):
    return jax.nn.logsumexp(20.0 * _scores(x)) / 20.0


def test_a_custom_energy_is_one_method(x):
    @dataclass(frozen=True)
    class Quartic(PairEnergy):
        def pair(self, scores, *, step, shift):
            finite = jnp.where(jnp.isfinite(scores), scores, 0.0)
            return finite**4, 4 * finite**3

    value, gradient = jax.value_and_grad(_mean_pairs(lambda s: s**4))(x)
    evaluation = Quartic().evaluate(x)
    np.testing.assert_allclose(evaluation.value, value, rtol=1e-5)
    np.testing.assert_allclose(evaluation.force, gradient, rtol=1e-4, atol=1e-7)
