"""Starts from spherical codes: what they keep, and what gradient steps add."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import codes
from hyperface_jax.packing import (
    Annealed,
    PackingProblem,
    max_cosine,
    refining_annealing,
    solve,
    starts,
)


def _rows(code, key, num_points, dim, **where):
    problem = PackingProblem(num_points=num_points, dim=dim)
    return starts.points(starts.checked(code, problem), problem, key, jitter=0, **where)


def test_a_rotated_code_keeps_its_cosine_and_goes_by_the_seed(key):
    code = codes.best_known(500, 40)
    x = _rows(code, key, 500, 40)
    assert x.shape == (500, 40)
    np.testing.assert_allclose(jnp.linalg.norm(x, axis=1), 1, atol=1e-6)
    assert float(max_cosine(x)) == pytest.approx(code.max_cosine, abs=1e-6)
    assert jnp.array_equal(x, _rows(code, key, 500, 40))
    assert jnp.max(jnp.abs(x - _rows(code, jax.random.key(1), 500, 40))) > 0.1


def test_a_code_is_the_same_on_any_mesh(key, mesh):
    code = codes.best_known(203, 16)
    alone = _rows(code, key, 203, 16, size=240)
    shared = _rows(code, key, 203, 16, size=240, mesh=mesh)
    np.testing.assert_allclose(shared, alone, atol=1e-6)


def test_blocks_of_rows_come_in_order(key, monkeypatch):
    code = codes.best_known(100, 12)
    whole = _rows(code, key, 100, 12)
    monkeypatch.setattr("hyperface_jax.packing.starts._ROWS_AT_ONCE", 30)
    jax.clear_caches()
    np.testing.assert_allclose(_rows(code, key, 100, 12), whole, atol=1e-6)


@pytest.mark.parametrize("shape", [(101, 12), (100, 11)])
def test_too_small_a_code_is_refused(key, shape):
    code = codes.subset(codes.simplex(12), 10)
    with pytest.raises(ValueError, match="10 points in 12 dimensions"):
        _rows(code, key, *shape)


def _refined(start, num_points, dim, steps, key):
    problem = PackingProblem(num_points=num_points, dim=dim)
    method = Annealed(num_steps=steps, annealing=refining_annealing)
    return solve(problem, key, method=method, start=start).max_cosine


def test_room_around_a_code_is_used(key):
    """Two Kerdock codes in orthogonal subspaces: neither they nor a uniform start come near this."""
    code = codes.refinable(1000, 128)
    assert _refined(code, 1000, 128, 200, key) < 0.9 * codes.best_known(1000, 128).max_cosine


def test_a_code_start_refines_by_itself(key):
    code = codes.refinable(200, 64)
    problem = PackingProblem(num_points=200, dim=64)
    by_itself = solve(problem, key, start=code, num_steps=30)
    method = Annealed(annealing=refining_annealing)
    told = solve(problem, key, method=method, start=code, num_steps=30)
    np.testing.assert_array_equal(by_itself.x, told.x)


def test_a_code_that_fills_its_space_gets_no_worse(key):
    code = codes.kerdock(4).with_basis()
    assert _refined(code, 288, 16, 60, key) <= 0.25 + 1e-6


def test_words_that_share_symbols_get_further_apart_than_the_code(key):
    """They have a mean, and all move away from it; the words of a whole code have none."""
    code = codes.shortened(codes.quadratic(3, 3), 1)
    words = np.asarray(code.block(0, code.num_points))
    for position in (0, 9):
        _, symbol = np.unique(words[:, 2 * position].round(4), return_inverse=True)
        words = words[symbol < 2]
    num_points, dim = words.shape
    assert num_points == code.num_points * 4 // 9
    assert float(max_cosine(words)) == pytest.approx(code.max_cosine, abs=1e-6)
    assert _refined(words, num_points, dim, 300, key) < 0.9 * code.max_cosine


def test_a_refinable_code_is_as_good_as_the_best():
    for num_points, dim in [(2, 2), (9, 4), (100, 16), (2000, 128), (5000, 256)]:
        code, best = codes.refinable(num_points, dim), codes.best_known(num_points, dim)
        assert (code.num_points, code.dim) == (num_points, dim)
        assert code.max_cosine == pytest.approx(best.max_cosine, abs=1e-9)
    assert codes.refinable(2000, 128).name == "2 x Kerdock, d = 64, shortened 2 times"
