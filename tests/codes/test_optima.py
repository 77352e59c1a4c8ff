"""Proven optima, built and checked over all pairs in float64, and kissing configurations."""

import itertools

import numpy as np
import pytest

from hyperface_jax import bounds, codes
from hyperface_jax.codes.catalogue import catalogue
from hyperface_jax.codes.derived import derived_codes
from hyperface_jax.codes.graphs import graph_codes
from hyperface_jax.codes.kissing import kissing_configurations, leech_section, quadruples
from hyperface_jax.codes.labelled import even_cosets, labelled_codes
from hyperface_jax.codes.quaternary import hexacode_words, hill_words, quaternary_codes
from hyperface_jax.codes.solids import in_contact, solids
from hyperface_jax.codes.unions import (
    e7_frames,
    forty_five_lines,
    forty_lines,
    julin_words,
    layered_quadruples,
    lines_of_psu,
    pairs_in_frames,
    tetracode_and_octahedron,
    union_codes,
)
from hyperface_jax.optima import KISSING_BOUNDS, OPTIMAL_CODES

BUILT = (
    *solids(),
    *graph_codes(),
    *kissing_configurations(),
    *derived_codes(),
    *quaternary_codes(),
    *union_codes(),
    *labelled_codes(),
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


@pytest.mark.parametrize("dim", [9, 10, 12])
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


UNIONS = {
    lines_of_psu: (510, 10),
    tetracode_and_octahedron: (604, 11),
    layered_quadruples: (1154, 13),
    pairs_in_frames: (1932, 14),
}


@pytest.mark.parametrize("make", UNIONS, ids=lambda make: make.__name__)
def test_a_union_is_a_kissing_configuration_in_float64(make):
    rows = make()
    assert rows.shape == UNIONS[make]
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-14)
    assert _closest(rows) == pytest.approx(1 / 2, abs=1e-14)
    np.testing.assert_allclose(np.sort(rows, axis=0), np.sort(-rows, axis=0), atol=1e-14)


@pytest.mark.parametrize(
    ("num_points", "dim", "size"),
    [(510, 10, 510), (592, 11, 604), (604, 11, 604), (1154, 13, 1154), (1932, 14, 1932)],
)
def test_the_best_kissing_configurations_are_found(num_points, dim, size):
    code = codes.best_known(num_points, dim)
    assert code.max_cosine == 1 / 2
    assert codes.best_known(size, dim).max_cosine == 1 / 2
    assert codes.best_known(size + 1, dim).max_cosine > 1 / 2


@pytest.mark.parametrize(
    ("num_points", "dim", "cosine"),
    [
        (82, 9, 1 / 3),
        (51, 10, 1 / 4),
        (108, 10, 1 / 3),
        (40, 11, 11 / 51),
        (192, 11, 7 / 15),
        (80, 12, 2 / 7),
        (168, 12, 1 / 3),
        (448, 13, 7 / 15),
        (70, 14, 1 / 6),
        (112, 14, 3 / 10),
        (320, 15, 1 / 3),
        (604, 16, 4 / 9),
    ],
)
def test_derived_and_labelled_codes_are_the_best_of_their_sizes(num_points, dim, cosine):
    code = codes.best_known(num_points, dim)
    assert code.max_cosine == pytest.approx(cosine, abs=1e-12)
    assert codes.verify(code).max_cosine == pytest.approx(cosine, abs=1e-6)


def test_the_lines_of_psu_have_the_stated_inner_products():
    forty, forty_five = forty_lines(), forty_five_lines()
    for left, right, squares in (
        (forty, forty, {1, 1 / 3, 1 / 9}),
        (forty_five, forty_five, {1, 0, 1 / 4}),
        (forty, forty_five, {0, 1 / 3}),
    ):
        found = np.unique((np.abs(left.conj() @ right.T) ** 2).round(12))
        np.testing.assert_allclose(found, sorted(squares), atol=1e-12)


def test_the_roots_of_e7_split_into_nine_frames():
    frames = np.array(e7_frames())
    assert frames.shape == (9, 14, 7)
    for frame in frames:
        assert set(np.unique(frame @ frame.T)) == {-1, 0, 1}
    roots = frames.reshape(-1, 7)
    assert len(np.unique(roots, axis=0)) == 126
    assert set(np.unique(roots @ roots.T)) == {-1, -1 / 2, 0, 1 / 2, 1}


def test_julins_words_have_the_distance_4():
    words = julin_words()
    assert words.shape == (144, 12)
    distances = (words[:, None] != words[None]).sum(axis=2)
    assert distances[~np.eye(144, dtype=bool)].min() == 4


@pytest.mark.parametrize(("length", "within", "between"), [(7, -1 / 7, 3 / 7), (8, 0, 1 / 2)])
def test_cosets_of_even_words_have_the_stated_cosines(length, within, between):
    cosets = even_cosets(length)
    assert [len(coset) for coset in cosets] == [2 ** (length - 4)] * 8
    for left, right in itertools.combinations_with_replacement(cosets, 2):
        same = left is right
        found = _closest(left) if same else (left @ right.T).max()
        assert found == pytest.approx(within if same else between, abs=1e-12)
