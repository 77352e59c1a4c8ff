"""Theorem 1 of HyperFace on a case small enough to enumerate."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import sphere
from hyperface_jax.packing import Hinge, Riesz, SoftMax
from hyperface_jax.packing.blocks import evaluate_blocks

N, B = 6, 3


def _mean_over_all_partitions(x, statistic):
    """Average a statistic of the block force over all splits of six points into two threes."""
    results = []
    for block in itertools.combinations(range(N), B):
        rest = [i for i in range(N) if i not in block]
        results.append(statistic([list(block), rest]))
    return np.mean(results, axis=0)


@pytest.mark.parametrize("energy", [Riesz(2.0), Hinge(-0.5)], ids=["riesz", "hinge"])
def test_block_forces_are_unbiased_for_pair_sums(key, energy):
    x = sphere.sample_uniform(key, N, 3)

    def block_force(blocks):
        force = np.zeros((N, 3))
        for block in blocks:
            sums = energy.sums(x[jnp.array(block)], step=0, shift=None, sweep=_sweep())
            force[block] = np.asarray(sums.force) * (N - 1) / (B - 1)
        return force * 2 / (N * (N - 1))

    expected = energy.evaluate(x).force
    np.testing.assert_allclose(
        _mean_over_all_partitions(x, block_force), expected, rtol=1e-4, atol=1e-6
    )


def test_the_closest_pair_is_not_a_pair_sum(key):
    """The mean over partitions of the blocks' max cosine differs from the max cosine."""
    x = sphere.sample_uniform(key, N, 3)
    scores = np.asarray(x @ x.T) - 3 * np.eye(N)

    def block_max(blocks):
        return max(scores[np.ix_(b, b)].max() for b in blocks)

    assert _mean_over_all_partitions(x, block_max) < scores.max() - 0.01


@pytest.mark.parametrize("energy", [Riesz(2.0), SoftMax(5.0)], ids=["riesz", "soft_max"])
def test_estimates_converge_to_the_full_energy(key, energy):
    x = sphere.sample_uniform(key, 120, 4)
    frozen = sphere.sample_uniform(jax.random.key(3), 40, 4)
    full = energy.evaluate(x, frozen=frozen, shift=0.9)
    keys = jax.random.split(key, 400)
    estimate = jax.jit(lambda k: evaluate_blocks(energy, x, k, 60, frozen=frozen, shift=0.9).force)
    mean = np.mean([estimate(k) for k in keys], axis=0)
    error = np.linalg.norm(mean - full.force) / np.linalg.norm(full.force)
    one = np.linalg.norm(estimate(keys[0]) - full.force) / np.linalg.norm(full.force)
    assert error < 0.12
    assert error < one / 5, "averaging must remove the noise"


def test_one_block_of_all_points_is_the_full_energy(key):
    x = sphere.sample_uniform(key, 50, 4)
    block = evaluate_blocks(SoftMax(20.0), x, key, 50, shift=0.9)
    full = SoftMax(20.0).evaluate(x, shift=0.9)
    np.testing.assert_allclose(block.value, full.value, rtol=1e-5)
    np.testing.assert_allclose(block.force, full.force, rtol=1e-3, atol=1e-6)


def _sweep():
    from hyperface_jax.pairwise import Sweep

    return Sweep()
