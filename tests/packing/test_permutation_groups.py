"""Permutation groups of few elements, and the constituents of what they do to tuples."""

import numpy as np
import pytest

from hyperface_jax.packing import permutation_groups
from hyperface_jax.packing.permutation_groups import sums_of_constituents

_ORDERS = [
    24,
    120,
    720,
    60,
    360,
    2520,
    120,
    336,
    168,
    660,
    1092,
    1344,
    432,
    20,
    42,
    168,
    48,
    24,
    120,
    336,
]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _group(draw, rng, count=3):
    generators = [draw(rng) for _ in range(count)]
    return generators, permutation_groups._generated(generators, 3000)


@pytest.mark.parametrize(("number", "order"), list(enumerate(_ORDERS)))
def test_known_groups_have_their_orders(rng, number, order):
    draw = permutation_groups._known_groups()[number]
    orders = {len(_group(draw, rng)[1]) for _ in range(8)}
    assert max(orders) == order
    assert all(order % size == 0 for size in orders)


def test_a_group_that_is_too_large_is_refused(rng):
    draw = permutation_groups._letters(6)
    assert permutation_groups._generated([draw(rng) for _ in range(4)], 100) is None


@pytest.mark.parametrize("number", range(len(_ORDERS)))
def test_constituents_are_irreducible_representations(rng, number):
    generators, elements = _group(permutation_groups._known_groups()[number], rng)
    product = generators[0][generators[1]]
    shown = [*elements, *generators[:2], product]
    parts: list[np.ndarray] = []
    while not parts:
        parts = permutation_groups._constituents(elements, shown, rng)
    for part in parts:
        one = np.eye(part.shape[1])
        np.testing.assert_allclose(part @ part.transpose(0, 2, 1), [one] * len(part), atol=1e-9)
        np.testing.assert_allclose(part[-3] @ part[-2], part[-1], atol=1e-9)
        characters = np.trace(part[: len(elements)], axis1=1, axis2=2)
        # 1, 2 or 4 for a real irreducible representation of real, complex or quaternionic type.
        assert round((characters**2).mean(), 6) in {1, 2, 4}


def test_five_letters_have_their_constituents(rng):
    draw = permutation_groups._letters(5)
    found = set()
    for _ in range(60):
        generators, elements = _group(draw, rng)
        if len(elements) == 120:
            parts = permutation_groups._constituents(elements, generators, rng)
            found |= {part.shape[1] for part in parts}
    assert found == {1, 4, 5, 6}


@pytest.mark.parametrize("dim", [2, 5, 13])
def test_sums_fill_the_dimension(rng, dim):
    drawn = [sums_of_constituents(rng, dim, 500) for _ in range(40)]
    assert sum(bool(generators) for generators in drawn) > 10
    for generators in drawn:
        for matrix in generators:
            assert matrix.shape == (dim, dim)
            np.testing.assert_allclose(matrix @ matrix.T, np.eye(dim), atol=1e-9)
