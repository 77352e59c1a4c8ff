"""Known optima from random starts: annealed restarts, then the float64 polish, to 1e-9."""

import jax
import pytest

from hyperface_jax import bounds
from hyperface_jax.packing import PackingProblem, solve

GOLDEN = (1 + 5**0.5) / 2
OPTIMA = {
    "simplex": (8, 7, -1 / 7, 2),
    "orthoplex": (12, 6, 0.0, 2),
    "icosahedron": (12, 3, 5**-0.5, 2),
    "600-cell": (120, 4, GOLDEN / 2, 4),
    "27 lines": (27, 6, 1 / 4, 2),
    "28 bitangents": (56, 7, 1 / 3, 2),
    "E8 roots": (240, 8, 1 / 2, 8),
}


@pytest.mark.parametrize("name", OPTIMA)
def test_optimum_is_found_to_1e_9(name):
    num_points, dim, optimum, restarts = OPTIMA[name]
    problem = PackingProblem(num_points=num_points, dim=dim)
    key = jax.random.key(0)
    polished = solve(problem, key, num_restarts=restarts, num_steps=800, polish=True)
    assert polished.max_cosine == pytest.approx(optimum, abs=1e-9)
    assert polished.max_cosine >= bounds.tightest(num_points, dim).value - 1e-12
