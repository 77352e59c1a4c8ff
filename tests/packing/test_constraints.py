import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import sphere
from hyperface_jax.packing import PackingProblem, solve
from hyperface_jax.packing.constraints import gallery_pull, keep_out_push, repair_keep_out
from hyperface_jax.packing.figures import count_violations, measure


@pytest.fixture
def sets(key):
    x_key, y_key = jax.random.split(key)
    return sphere.sample_uniform(x_key, 50, 4), sphere.sample_uniform(y_key, 700, 4)


def test_gallery_pull_is_the_mean_distance_to_the_nearest_row(sets):
    x, gallery = sets

    def dense(x):
        return jnp.mean(1 - jnp.max(x @ gallery.T, axis=1))

    pull = gallery_pull(x, gallery)
    value, gradient = jax.value_and_grad(dense)(x)
    np.testing.assert_allclose(pull.value, value, rtol=1e-5)
    np.testing.assert_allclose(pull.force, gradient, atol=1e-6)
    np.testing.assert_allclose(pull.cosine, jnp.max(x @ gallery.T, axis=1), rtol=1e-6)


def test_keep_out_push_is_zero_away_from_the_set_and_a_gradient_near_it(sets):
    x, keep_out = sets
    assert keep_out_push(x, keep_out, 0.9999999).force.shape == x.shape
    far = keep_out_push(x, -x[:1] * 0 + jnp.array([[1.0, 0, 0, 0]]), 0.999999)
    near = keep_out_push(x, keep_out, 0.5)
    assert jnp.max(jnp.abs(far.force)) == 0
    finite = 1e-3
    direction = sphere.sample_uniform(jax.random.key(7), 50, 4)
    ahead = keep_out_push(x + finite * direction, keep_out, 0.5).value
    behind = keep_out_push(x - finite * direction, keep_out, 0.5).value
    slope = jnp.sum(near.force * direction)
    np.testing.assert_allclose((ahead - behind) / (2 * finite), slope, rtol=2e-2)


def test_repair_moves_only_violating_rows_and_clears_them(key):
    keep_out = sphere.sample_uniform(key, 20, 16)
    others = sphere.sample_uniform(jax.random.key(1), 200, 16)
    x = jnp.concatenate([sphere.normalize(keep_out + 0.1), keep_out, others])
    fixed = repair_keep_out(x, keep_out, 0.6)
    before, after = jnp.max(x @ keep_out.T, axis=1), jnp.max(fixed @ keep_out.T, axis=1)
    assert jnp.sum(before > 0.6) >= 40
    assert jnp.max(after) <= 0.6
    np.testing.assert_array_equal(fixed[before <= 0.6], x[before <= 0.6])
    np.testing.assert_allclose(jnp.linalg.norm(fixed, axis=1), 1, atol=1e-6)


def test_an_infeasible_keep_out_set_ends_with_violations_counted():
    """Both poles of a circle with caps of 100 degrees leave no room."""
    keep_out = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    problem = PackingProblem(num_points=3, dim=2, keep_out=keep_out, keep_out_cosine=-0.17)
    x = repair_keep_out(sphere.sample_uniform(jax.random.key(1), 3, 2), keep_out, -0.17)
    assert count_violations(problem, measure(problem, x)) == 3
    assert solve(problem, jax.random.key(0), num_steps=5).violations == 3


def test_a_packing_avoids_its_keep_out_set(key):
    keep_out = sphere.sample_uniform(key, 40, 8)
    problem = PackingProblem(num_points=60, dim=8, keep_out=keep_out, keep_out_cosine=0.7)
    free = solve(PackingProblem(num_points=60, dim=8), key, num_steps=150)
    kept = solve(problem, key, num_steps=150)
    assert count_violations(problem, measure(problem, free.x)) > 0, "else the test shows nothing"
    assert count_violations(problem, measure(problem, kept.x)) == kept.violations == 0
    assert kept.keep_out_cosine <= 0.7


def test_alpha_trades_separation_for_nearness(key):
    gallery = sphere.normalize(
        sphere.sample_uniform(key, 500, 8) + 2 * jnp.array([[1.0] + [0.0] * 7])
    )
    runs = [
        solve(PackingProblem(num_points=80, dim=8, gallery=gallery, alpha=a), key, num_steps=200)
        for a in (0.0, 1.0, 10.0)
    ]
    separation = [run.max_cosine for run in runs]
    nearness = [float(jnp.mean(jnp.max(run.x @ gallery.T, axis=1))) for run in runs]
    assert separation == sorted(separation)
    assert nearness == sorted(nearness)
    assert nearness[-1] > nearness[0] + 0.05


def test_problem_names_the_field_it_refuses():
    ok = {"num_points": 5, "dim": 3}
    for bad, name in [
        ({"num_points": 1}, "num_points"),
        ({"alpha": -1.0}, "alpha"),
        ({"keep_out": jnp.ones((2, 3))}, "keep_out_cosine"),
        ({"keep_out": jnp.ones((2, 3)), "keep_out_cosine": 1.5}, "keep_out_cosine"),
        ({"gallery": jnp.ones((2, 4))}, "gallery"),
        ({"frozen": jnp.ones(3)}, "frozen"),
    ]:
        with pytest.raises(ValueError, match=name):
            PackingProblem(**{**ok, **bad})


def test_problem_is_a_pytree_of_its_arrays():
    problem = PackingProblem(num_points=5, dim=3, frozen=jnp.eye(3)[:2])
    assert len(jax.tree.leaves(problem)) == 2, "alpha and the frozen rows"
    twice = jax.tree.map(lambda a: a * 2, problem)
    assert (twice.frozen[0, 0], twice.alpha, twice.dim) == (2, 1.0, 3)
