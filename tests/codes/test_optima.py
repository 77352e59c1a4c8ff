"""Proven optima, built and checked over all pairs in float64, and kissing configurations."""

import itertools

import numpy as np
import pytest

from hyperface_jax import bounds, codes
from hyperface_jax.codes.catalogue import catalogue
from hyperface_jax.codes.graphs import graph_codes
from hyperface_jax.codes.kissing import (
    derived_codes,
    kissing_configurations,
    leech_section,
    quadruples,
)
from hyperface_jax.codes.quaternary import hexacode_words, hill_words, quaternary_codes
from hyperface_jax.codes.solids import in_contact, solids
from hyperface_jax.optima import KISSING_BOUNDS, OPTIMAL_CODES

BUILT = (
    *solids(),
    *graph_codes(),
    *kissing_configurations(),
    *derived_codes(),
    *quaternary_codes(),
)


def _closest(rows):
    """Return the max cosine of two rows, by blocks."""
    found = -1.0
    for start in range(0, len(rows), 2000):
        scores = rows[start : start + 2000] @ rows[start:].T
        np.fill_diagonal(scores, -1)
        found = max(found, float(scores.max()))
    return found


@pytest.mark.parametrize(
    "code", [code for code in BUILT if code.num_points < 30_000], ids=lambda code: code.name
)
def test_a_code_meets_its_cosine_over_all_pairs(code):
    rows = np.asarray(code.block(0, code.num_points))
    assert rows.shape == (code.num_points, code.dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert _closest(rows) == pytest.approx(code.max_cosine, abs=1e-6)
    assert codes.best_known(code.num_points, code.dim).max_cosine <= code.max_cosine


@pytest.mark.parametrize(
    "code", [code for code in BUILT if code.num_points > 30_000], ids=lambda code: code.name
)
def test_a_large_section_of_the_leech_lattice_meets_its_cosine_at_a_few_points(code):
    """All pairs would take a minute; distinct vectors of the Leech lattice have at most 1/2."""
    rows = np.asarray(code.block(0, code.num_points))
    assert rows.shape == (code.num_points, code.dim)
    assert len(np.unique(rows.round(3), axis=0)) == code.num_points
    scores = np.sort(rows[:: code.num_points // 20] @ rows.T, axis=1)
    np.testing.assert_allclose(scores[:, -1], 1, atol=1e-6)
    np.testing.assert_allclose(scores[:, -2], code.max_cosine, atol=1e-6)


@pytest.mark.parametrize("size", [10, 13, 14])
def test_pointsin_contact_meet_the_proven_value_in_float64(size):
    rows = in_contact(size)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-15)
    assert _closest(rows) == pytest.approx(bounds.tightest(size, 3).value, abs=1e-15)


@pytest.mark.parametrize("entry", OPTIMAL_CODES, ids=lambda entry: f"{entry[0]}-{entry[1]}")
def test_every_proven_optimum_is_in_the_catalogue(entry):
    code = codes.best_known(entry.num_points, entry.dim)
    assert code.max_cosine == pytest.approx(entry.value, abs=1e-15)


def test_no_code_of_the_catalogue_beats_a_bound():
    assert len(catalogue()) > 300
    for code in catalogue():
        if code.num_points > 1:
            assert code.max_cosine >= bounds.tightest(code.num_points, code.dim).value - 1e-12, code


@pytest.mark.parametrize("dim", KISSING_BOUNDS)
def test_no_kissing_configuration_has_more_points_than_are_allowed(dim):
    found = [code for code in catalogue() if code.dim <= dim and code.max_cosine <= 1 / 2]
    assert max(code.num_points for code in found) <= KISSING_BOUNDS[dim][0]


@pytest.mark.parametrize("dim", [9, 10, 11, 12, 13, 14])
def test_two_quadruples_have_at_most_two_coordinates_in_common(dim):
    sets = [frozenset(quadruple) for quadruple in quadruples(dim)]
    assert max(len(a & b) for a, b in itertools.combinations(sets, 2)) == 2


@pytest.mark.parametrize(("dim", "size"), [(21, 27720), (20, 17400), (19, 10668)])
def test_sections_of_the_leech_lattice_have_the_sizes_of_conway_and_sloane(dim, size):
    assert leech_section(dim).shape == (size, dim)


@pytest.mark.parametrize(
    ("words", "weights"), [(hexacode_words, {4: 45, 6: 18}), (hill_words, {56: 2808, 64: 1287})]
)
def test_quaternary_codes_have_two_weights(words, weights):
    rows = words()
    assert len(np.unique(rows, axis=0)) == len(rows)
    found, counts = np.unique((rows != 0).sum(axis=1), return_counts=True)
    assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == {0: 1, **weights}
