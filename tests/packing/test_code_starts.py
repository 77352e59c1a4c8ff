"""Starts from spherical codes: what they keep, and what gradient steps add."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import codes
from hyperface_jax.packing import (
    PackingProblem,
    annealed,
    from_code,
    from_points,
    refining_annealing,
)
from hyperface_jax.packing.initializers import initial_points
from hyperface_jax.pairwise import max_cosine, sweep


def _max_cosine(x):
    return float(jnp.max(sweep(x, reduction=max_cosine())))


def test_a_rotated_code_keeps_its_cosine_and_goes_by_the_seed(key):
    code = codes.best_known(500, 40)
    x = from_code(code)(key, 500, 40)
    assert x.shape == (500, 40)
    np.testing.assert_allclose(jnp.linalg.norm(x, axis=1), 1, atol=1e-6)
    assert _max_cosine(x) == pytest.approx(code.max_cosine, abs=1e-6)
    assert jnp.array_equal(x, from_code(code)(key, 500, 40))
    assert jnp.max(jnp.abs(x - from_code(code)(jax.random.key(1), 500, 40))) > 0.1


def test_a_code_is_the_same_on_any_mesh(key, mesh):
    code = codes.best_known(203, 16)
    start = from_code(code)
    alone = initial_points(start, key, 203, 16, size=240)
    shared = initial_points(start, key, 203, 16, size=240, mesh=mesh)
    np.testing.assert_allclose(shared, alone, atol=1e-6)


def test_blocks_of_rows_come_in_order(key, monkeypatch):
    code = codes.best_known(100, 12)
    whole = from_code(code)(key, 100, 12)
    monkeypatch.setattr("hyperface_jax.packing.initializers._ROWS_AT_ONCE", 30)
    np.testing.assert_allclose(from_code(code)(key, 100, 12), whole, atol=1e-6)


@pytest.mark.parametrize("shape", [(101, 12), (100, 11)])
def test_too_small_a_code_is_refused(key, shape):
    code = codes.subset(codes.simplex(12), 10)
    with pytest.raises(ValueError, match="10 points in 12 dimensions"):
        from_code(code)(key, *shape)


def _refined(start, num_points, dim, steps, key):
    problem, solver = annealed(
        PackingProblem(num_points=num_points, dim=dim),
        num_iterations=steps,
        initializer=start,
        choose_annealing=refining_annealing,
    )
    return solver(problem, solver.init_state(problem, key)).max_cosine


def test_room_around_a_code_is_used(key):
    """Two Kerdock codes in orthogonal subspaces: neither they nor a uniform start come near this."""
    code = codes.refinable(1000, 128)
    assert (
        _refined(from_code(code), 1000, 128, 200, key)
        < 0.9 * codes.best_known(1000, 128).max_cosine
    )


def test_a_code_that_fills_its_space_gets_no_worse(key):
    code = codes.kerdock(4).with_basis()
    assert _refined(from_code(code), 288, 16, 60, key) <= 0.25 + 1e-6


def test_words_that_share_symbols_get_further_apart_than_the_code(key):
    """They have a mean, and all move away from it; the words of a whole code have none."""
    code = codes.shortened(codes.quadratic(3, 3), 1)
    words = np.asarray(code.block(0, code.num_points))
    for position in (0, 9):
        _, symbol = np.unique(words[:, 2 * position].round(4), return_inverse=True)
        words = words[symbol < 2]
    num_points, dim = words.shape
    assert num_points == code.num_points * 4 // 9
    assert _max_cosine(jnp.asarray(words)) == pytest.approx(code.max_cosine, abs=1e-6)
    assert (
        _refined(from_points(jnp.asarray(words)), num_points, dim, 300, key) < 0.9 * code.max_cosine
    )


def test_a_refinable_code_is_as_good_as_the_best():
    for num_points, dim in [(2, 2), (9, 4), (100, 16), (2000, 128), (5000, 256)]:
        code, best = codes.refinable(num_points, dim), codes.best_known(num_points, dim)
        assert (code.num_points, code.dim) == (num_points, dim)
        assert code.max_cosine == pytest.approx(best.max_cosine, abs=1e-9)
    assert codes.refinable(2000, 128).name == "2 x Kerdock, d = 64, shortened 2 times"
