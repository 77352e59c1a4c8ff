import itertools

import numpy as np
import pytest

from hyperface_jax.codes.catalogue import catalogue
from hyperface_jax.packing.contact_pairs import unit_rows
from hyperface_jax.packing.holes import deep_holes, fillable
from hyperface_jax.packing.near_codes import fitted


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_holes_of_a_cross_polytope_are_the_vertices_of_the_cube(rng):
    code = np.concatenate([np.eye(4), -np.eye(4)])
    holes = deep_holes(code, rng)
    cube = np.array(list(itertools.product((0.5, -0.5), repeat=4)))
    np.testing.assert_allclose(holes.cosines, 0.5, atol=5e-3)
    assert len(holes.points) == 16
    np.testing.assert_allclose((holes.points @ cube.T).max(axis=1), 1.0, atol=1e-4)


def test_the_deepest_holes_come_first_and_are_different(rng):
    code = unit_rows(rng.normal(size=(40, 5)))
    holes = deep_holes(code, rng)
    assert np.all(np.diff(holes.cosines) >= 0)
    np.testing.assert_allclose((holes.points @ code.T).max(axis=1), holes.cosines, atol=1e-5)
    near = holes.points @ holes.points.T
    assert (near - 2 * np.eye(len(near))).max() <= 0.999


@pytest.mark.parametrize("count", [3, 100])
def test_the_largest_set_of_holes_is_found_unless_fewer_are_enough(rng, count):
    cube = np.array(list(itertools.product((0.5, -0.5), repeat=4)))
    chosen = cube[fillable(cube, 0.1, count, rng)]
    assert len(chosen) == min(count, 8)  # half of the cube: the words of even or of odd weight
    assert (chosen @ chosen.T - 2 * np.eye(len(chosen))).max() <= 0.1


def test_a_code_is_filled_up_to_a_larger_one(rng):
    (code,) = [c for c in catalogue() if (c.num_points, c.dim) == (320, 15)]
    cosines = []
    for _ in range(8):
        x = fitted(code, 416, rng)
        assert x.shape == (416, 15)
        cosines.append((x @ x.T - 2 * np.eye(416)).max())
    assert min(cosines) < (2 / 15) ** 0.5 + 5e-3  # where one by one in random places, above 0.45
