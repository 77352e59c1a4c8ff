from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import meshes, sphere
from hyperface_jax.packing import MiniBatch, PackingProblem, row_max, solve, starts
from hyperface_jax.packing.contacts import relax_contacts
from hyperface_jax.pairwise import Sweep

N, D = 600, 16


@pytest.fixture(scope="module")
def x():
    return sphere.sample_uniform(jax.random.key(0), N, D)


@pytest.fixture(scope="module", params=[None, 77], ids=["free", "frozen"])
def frozen(request):
    return request.param and sphere.sample_uniform(jax.random.key(1), request.param, D)


@partial(jax.jit, static_argnames=("share", "num_points", "sweep"))
def relaxed_of(x, frozen=None, *, sweep=Sweep(), **settings):  # noqa: B008
    """Measure and relax, as the loop does."""
    return relax_contacts(x, row_max(x, frozen, sweep=sweep), frozen, sweep=sweep, **settings)


@pytest.fixture(scope="module")
def relaxed(x, frozen):
    return relaxed_of(x, frozen, share=0.1)


def test_the_closest_pairs_part_and_no_other_point_moves(x, frozen, relaxed):
    before = np.asarray(row_max(x, frozen))
    relaxed, nearest = relaxed
    level = np.sort(before)[-N // 10 - 1]
    assert level < before.max() - 0.05
    assert level - 1e-6 <= nearest.max() < level + 0.02
    moved = np.any(np.asarray(relaxed != x), axis=1)
    assert 0 < moved.sum() <= N // 10
    assert before[moved].min() >= level
    np.testing.assert_allclose(np.linalg.norm(relaxed, axis=1), 1, atol=1e-6)


def test_the_cosines_it_returns_are_exact(frozen, relaxed):
    relaxed, nearest = relaxed
    np.testing.assert_allclose(nearest, row_max(relaxed, frozen), atol=1e-6)


def test_any_mesh_gives_the_same_points(x, frozen, relaxed, mesh):
    expected, nearest = relaxed
    parts = [a if a is None else meshes.shard_rows(a, mesh) for a in (x, frozen)]
    found_points, found = relaxed_of(*parts, share=0.1, num_points=N, sweep=Sweep(mesh))
    np.testing.assert_allclose(found_points[:N], expected, atol=1e-5)
    np.testing.assert_allclose(found[:N], nearest, atol=1e-5)
    assert np.all(found[N:] == -np.inf)


def test_nothing_gets_worse_where_there_is_no_room():
    """The vertices of a cross-polytope, the best code of its size."""
    best = jnp.concatenate([jnp.eye(D), -jnp.eye(D)])
    relaxed, nearest = relaxed_of(best, share=0.2)
    np.testing.assert_array_equal(relaxed, best)
    assert nearest.max() == 0


@pytest.mark.parametrize("relax", [True, False])
def test_a_short_run_of_small_batches_improves_on_its_start(key, relax):
    """Three steps let a point meet a tenth of the others: by themselves they leave the max cosine."""
    problem = PackingProblem(num_points=3000, dim=64)
    method = MiniBatch(batch_size=100, num_steps=3, relax=relax)
    start = row_max(starts.points("uniform", problem, jax.random.split(key)[0], jitter=0))
    packing = solve(problem, key, method=method)
    np.testing.assert_allclose(packing.nearest, row_max(packing.x), atol=1e-6)
    assert packing.max_cosine == pytest.approx(float(jnp.max(packing.nearest)), abs=1e-6)
    assert (packing.max_cosine < jnp.max(start) - 0.05) == relax


def test_a_keep_out_set_is_not_approached(key, x):
    problem = PackingProblem(num_points=N, dim=D, keep_out=x[:50], keep_out_cosine=0.9)
    method, other = MiniBatch(batch_size=100), sphere.sample_uniform(key, N, D)
    kept, _ = method.finish(problem, other, row_max(other), Sweep())
    np.testing.assert_array_equal(kept, other)
