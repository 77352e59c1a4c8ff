"""Every construction against its stated max cosine, exactly, and against the lower bounds."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import bounds, codes
from hyperface_jax.codes.catalogue import catalogue
from hyperface_jax.codes.distances import linear_max_cosine
from hyperface_jax.codes.polytopes import polytopes
from hyperface_jax.codes.searched import hill_cap, quinary_125
from hyperface_jax.codes.verification import measured_max_cosine

LINEAR = {
    "gold-3": codes.gold(3),
    "gold-7": codes.gold(7),
    "gold-9": codes.gold(9),
    "gold-5-2": codes.gold(5, 2),
    "kerdock-4": codes.kerdock(4),
    "kerdock-6": codes.kerdock(6),
    "kerdock-8": codes.kerdock(8),
    "kerdock-10": codes.kerdock(10),
    "dg-6-2": codes.delsarte_goethals(6, 2),
    "dg-4-1": codes.delsarte_goethals(4, 1),
    "quadratic-3-3": codes.quadratic(3, 3),
    "quadratic-5-3": codes.quadratic(5, 3),
    "quadratic-7-1": codes.quadratic(7, 1),
    "bch-5-7": codes.extended_bch(5, 7),
    "bch-4-5": codes.extended_bch(4, 5),
    "quinary": quinary_125(),
}


def _rows(code):
    """Return all points; compiled as a whole, as operation by operation takes five times as long."""
    index = jnp.arange(code.num_points, dtype=jnp.int32)
    return np.asarray(jax.jit(code.rows)(index))


def _closest(rows):
    """Return the max cosine of two rows."""
    starts = range(0, len(rows), 2000)
    return max(_closest_to(rows[i : i + 2000], rows[i:]) for i in starts)


def _closest_to(block, rest):
    scores = block @ rest.T
    np.fill_diagonal(scores, -1)
    return scores.max()


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_code_meets_its_cosine_over_all_words(name):
    code = LINEAR[name]
    assert linear_max_cosine(code) == pytest.approx(code.max_cosine, abs=1e-12)


def test_the_facts_of_the_large_codes():
    gold = codes.gold(9).with_basis()
    assert (gold.num_points, gold.dim, gold.max_cosine) == (525_312, 512, 1 / 16)
    quadratic = codes.quadratic(5, 3).spherical()
    assert (quadratic.num_points, quadratic.dim) == (78_125, 500)
    assert quadratic.max_cosine == pytest.approx(1 / 20)
    for m in (6, 8, 10):
        kerdock = codes.kerdock(m).with_basis()
        assert (kerdock.num_points, kerdock.max_cosine) == (4**m + 2 ** (m + 1), 2 ** (-m / 2))


SMALL = {
    "simplex": lambda: codes.simplex(7),
    "cross-polytope": lambda: codes.cross_polytope(5),
    "polygon": lambda: codes.polygon(7),
    "gold-5": lambda: codes.gold(5).with_basis(),
    "kerdock-6": lambda: codes.kerdock(6).with_basis(),
    "dg-4-1": lambda: codes.delsarte_goethals(4, 1).spherical(),
    "quadratic-3-3": lambda: codes.quadratic(3, 3).spherical(),
    "gold-5, shortened 3": lambda: codes.shortened(codes.gold(5), 3),
    "gold-5, shortened 6": lambda: codes.shortened(codes.gold(5), 6),
    "kerdock-6, shortened 1": lambda: codes.shortened(codes.kerdock(6), 1),
    "kerdock-6, shortened 3": lambda: codes.shortened(codes.kerdock(6), 3),
    "quadratic-3-3, 2 and 2 symbols": lambda: codes.restricted(codes.quadratic(3, 3), (2, 2)),
    "quadratic-3-3, shortened 1, 2 symbols": lambda: codes.restricted(
        codes.quadratic(3, 3), (1, 2)
    ),
    "quadratic-5-1, 4 and 3 symbols": lambda: codes.restricted(codes.quadratic(5, 1), (4, 3)),
    "quadratic-3-3 and vertices": lambda: codes.with_vertices(codes.quadratic(3, 3)),
    "quadratic-3-3, 2 symbols, vertices": lambda: codes.with_vertices(
        codes.quadratic(3, 3), (1, 2)
    ),
    "quadratic-5-1, 4 and 3 symbols, vertices": lambda: codes.with_vertices(
        codes.quadratic(5, 1), (4, 3)
    ),
    "quadratic-3-3, shortened 2": lambda: codes.shortened(codes.quadratic(3, 3), 2),
    "kerdock-6, punctured 3": lambda: codes.punctured(codes.kerdock(6), 3).spherical(),
    "Hill cap": hill_cap,
    **{f"CGS {q}": lambda q=q: codes.cameron_goethals_seidel(q) for q in (2, 3, 4, 5)},
    "CGS 4, derived": lambda: codes.derived_quadrangle(4),
    "two E8 and three axes": lambda: codes.direct_sum(
        [*[codes.sharp_configuration("E8 roots")] * 2, codes.cross_polytope(3)], 20
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_code_meets_its_cosine_over_all_pairs(name):
    code = SMALL[name]()
    rows = _rows(code)
    assert rows.shape == (code.num_points, code.dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert _closest(rows) == pytest.approx(code.max_cosine, abs=1e-6)
    assert code.max_cosine >= bounds.tightest(code.num_points, code.dim).value - 1e-9


@pytest.mark.parametrize("code", polytopes(), ids=lambda code: code.name)
def test_a_polytope_is_what_it_says_and_the_best_of_its_size(code):
    assert codes.verify(code).max_cosine == pytest.approx(code.max_cosine, abs=1e-6)
    assert codes.best_known(code.num_points, code.dim).max_cosine == code.max_cosine


@pytest.mark.parametrize("name", codes.SHARP)
def test_a_sharp_configuration_meets_levenshteins_bound(name):
    code = codes.sharp_configuration(name)
    assert (code.num_points, code.dim, code.max_cosine) == codes.SHARP[name]
    assert code.max_cosine == pytest.approx(bounds.levenshtein(code.num_points, code.dim), abs=1e-9)
    if code.num_points < 10_000:
        assert measured_max_cosine(code) == pytest.approx(code.max_cosine, abs=1e-6)


def test_the_leech_lattice_meets_its_cosine_at_a_point_and_is_closed_under_reflections():
    """All pairs would take a minute: its vectors have integer products, and one point sees all kinds."""
    rows = np.asarray(codes.sharp_configuration("Leech lattice").block(0, 196_560), np.float64)
    integers = np.rint(rows * 32**0.5).astype(np.int64)
    np.testing.assert_allclose(integers / 32**0.5, rows, atol=1e-6)
    assert len(np.unique(integers, axis=0)) == 196_560
    for i in (0, 1500, 196_000):
        products, counts = np.unique(integers @ integers[i], return_counts=True)
        assert dict(zip(products.tolist(), counts.tolist(), strict=True)) == {
            -32: 1,
            -16: 4600,
            -8: 47_104,
            0: 93_150,
            8: 47_104,
            16: 4600,
            32: 1,
        }


@pytest.mark.parametrize("q", [2, 3, 4, 5, 7])
def test_cameron_goethals_seidel_codes_meet_levenshteins_bound(q):
    code = codes.cameron_goethals_seidel(q)
    assert code.max_cosine == pytest.approx(bounds.levenshtein(code.num_points, code.dim), abs=1e-9)


def test_rows_are_lazy_and_the_same_in_any_range():
    code = codes.gold(9, 2).spherical()
    assert code.num_points == 2**28
    last = code.block(2**28 - 5, 2**28)
    traced = jax.jit(code.rows)(jnp.arange(2**28 - 5, 2**28, dtype=jnp.int32))
    np.testing.assert_array_equal(last, traced)
    np.testing.assert_allclose(jnp.linalg.norm(last, axis=1), 1, atol=1e-6)
    with pytest.raises(IndexError, match="rows 5 to"):
        code.block(5, 2**28 + 1)


TABLE = {
    512: "0 .0154 .0390 .0411 .0500 .0500 .0556 .0600 .0625 .1111 .1146 .1181 .1233",
    256: ".0357 .0438 .0514 .0551 .0588 .0625 .1040 .1076 .1111 .1146 .1216 .2320 .2411",
    128: ".0820 .0968 .1111 .1181 .1250 .2131 .2195 .2258 .2320 .2381 .2500 .2846 .3016",
}
SIZES = (
    1000,
    2000,
    5000,
    10_000,
    30_000,
    50_000,
    100_000,
    2**18,
    2**19,
    2**20,
    2**22,
    2**24,
    2**27,
)


@pytest.mark.parametrize(
    ("num_points", "dim", "known"),
    [(n, d, float(c)) for d, row in TABLE.items() for n, c in zip(SIZES, row.split(), strict=True)],
)
def test_best_known_is_as_good_as_the_table(num_points, dim, known):
    code = codes.best_known(num_points, dim)
    assert (code.num_points, code.dim) == (num_points, dim)
    assert code.max_cosine < known + 5e-5
    assert code.max_cosine >= bounds.tightest(num_points, dim).value - 1e-9


@pytest.mark.parametrize(
    ("num_points", "dim"),
    [(5, 9), (9, 9), (18, 9), (60, 9), (250, 9), (700, 40), (1100, 80), (3000, 250), (2000, 256)],
)
def test_best_known_keeps_its_word(num_points, dim):
    code = codes.best_known(num_points, dim)
    rows = _rows(code)
    assert rows.shape == (num_points, dim)
    assert _closest(rows) <= code.max_cosine + 1e-6
    assert code.max_cosine >= bounds.tightest(num_points, dim).value - 1e-9


def test_best_known_never_beats_a_bound_and_gets_no_worse_with_more_room():
    for dim in (3, 8, 24, 50, 100, 130, 300):
        found = []
        for num_points in sorted({2, dim, 2 * dim, 5 * dim, dim * dim}):
            code = codes.best_known(num_points, dim)
            assert code.max_cosine >= bounds.tightest(num_points, dim).value - 1e-9
            assert codes.best_known(num_points, dim + 1).max_cosine <= code.max_cosine + 1e-12
            found.append(code.max_cosine)
        assert found == sorted(found)


def test_the_catalogue_keeps_its_word():
    built = [code for code in catalogue() if code.dim <= 66 and 2 <= code.num_points <= 2100]
    assert len(built) > 100
    for code in built[::6]:
        rows = _rows(code)
        assert rows.shape == (code.num_points, code.dim), code.name
        assert _closest(rows) <= code.max_cosine + 1e-6, code.name
        assert code.max_cosine >= bounds.tightest(code.num_points, code.dim).value - 1e-9, code.name


def test_few_symbols_and_vertices_make_a_better_code_of_fewer_points():
    """10,000 points in 512 dimensions: 15,625 at 0.04234 by shortening alone."""
    quadratic = codes.quadratic(5, 3)
    restricted = codes.restricted(quadratic, (1, 4, 4))
    assert (restricted.num_points, restricted.dim) == (10_000, 494)
    assert restricted.max_cosine == pytest.approx(5.125 / 123.875)
    fewer = codes.with_vertices(quadratic, (1, 3))
    assert (fewer.num_points, fewer.dim) == (9375 + 123 * 5 + 3, 494)
    code = codes.best_known(10_000, 512)
    assert code.max_cosine == fewer.max_cosine == pytest.approx(61 / 1486)
    assert _closest(_rows(code)) == pytest.approx(code.max_cosine, abs=1e-6)


@pytest.mark.parametrize(
    ("code", "allowed", "num_points"),
    [
        (codes.quadratic(3, 3), (), 3**7 + 27 * 3),
        (codes.quadratic(3, 3), (1, 2), 2 * 3**5 + 25 * 3),
        (codes.quadratic(5, 1), (4, 3), 4 * 3 * 5 + 3 * 5 + 4 + 3),
        (codes.quadratic(5, 1), (1, 1), 5),
    ],
)
def test_opposite_vertices_are_added_where_they_are_far_enough(code, allowed, num_points):
    found = codes.with_vertices(code, allowed)
    assert found.num_points == num_points
    assert found.max_cosine == codes.restricted(code, allowed).max_cosine


def test_symbols_of_another_shape_have_no_opposite_vertices():
    """Kerdock's words over Z4, with digits of four values: points of the plane, not a tetrahedron."""
    code = codes.kerdock(4)
    whole = replace(code, radix=(4,) * 4, num_characters=0, make=lambda: code.generator[-6:-2])
    with pytest.raises(ValueError, match="vertices of a simplex"):
        codes.with_vertices(whole)


def test_a_sum_of_words_vertices_and_axes_is_found():
    """Neither the words nor the words and opposite vertices are as many as the points asked for."""
    code = codes.best_known(348, 48)
    assert code.max_cosine < 0.1634
    assert _closest(_rows(code)) == pytest.approx(code.max_cosine, abs=1e-6)


def test_opposite_vertices_are_left_out_where_words_come_too_near():
    """Of two symbols the second is the opposite of the first."""
    code = codes.with_vertices(codes.quadratic(5, 3), (2,))
    assert code.num_points == 2 * 5**6 + 124 * 5
    assert code.max_cosine == codes.restricted(codes.quadratic(5, 3), (2,)).max_cosine


@pytest.mark.parametrize(
    ("code", "cosine", "method"),
    [
        (codes.best_known(500_000, 512), 1 / 16, "words"),
        (codes.kerdock(8).with_basis(), 1 / 16, "words"),
        (codes.shortened(codes.kerdock(8), 2), 14 / 254, "words"),
        (codes.restricted(codes.quadratic(5, 3), (1, 4, 4)), 5.125 / 123.875, "words"),
        (codes.best_known(10_000, 512), 61 / 1486, "pairs"),
        (hill_cap(), 1 / 28, "words"),
        (codes.sharp_configuration("McLaughlin"), 1 / 6, "pairs"),
        (codes.padded(codes.sharp_configuration("McLaughlin"), 30), 1 / 6, "pairs"),
        (
            codes.direct_sum([codes.gold(5).spherical(), codes.gold(3).spherical()], 40),
            0.5,
            "words",
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_code_is_verified_by_its_words_or_its_pairs(code, cosine, method):
    found = codes.verify(code)
    assert found.method == method
    assert abs(found.max_cosine - code.max_cosine) <= found.error
    assert found.max_cosine == pytest.approx(cosine, abs=found.error)


def test_opposite_vertices_nearer_than_the_words_are_found_by_the_check():
    """The words of a punctured code may be further apart than is stated."""
    code = codes.with_vertices(codes.punctured(codes.quadratic(5, 1), 2), (1, 1))
    assert codes.verify(code).max_cosine == pytest.approx(0.25, abs=1e-9)
    assert measured_max_cosine(code) == pytest.approx(0.25, abs=1e-6)


def test_a_code_that_states_too_little_is_found_out():
    """Punctured words of a generator with a broken row: more than the stated cosine."""
    code = codes.gold(5)
    broken = replace(code, make=lambda: np.where(code.generator, 1, 0) * (np.arange(32) > 3))
    assert codes.verify(broken.spherical()).max_cosine > code.max_cosine + 0.05


def test_what_is_too_large_to_verify_is_refused():
    with pytest.raises(ValueError, match="at most"):
        codes.verify(codes.delsarte_goethals(12, 1).spherical())
    table = codes.SphericalCode(10**6, 512, 0.5, "unknown", "", lambda index: index)
    with pytest.raises(ValueError, match="all pairs"):
        codes.verify(table)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: codes.best_known(1, 5), "num_points=1"),
        (lambda: codes.best_known(5, 1), "dim=1"),
        (lambda: codes.polygon(2), "num_points=2"),
        (lambda: codes.gold(4), "m=4"),
        (lambda: codes.kerdock(5), "m=5"),
        (lambda: codes.quadratic(9, 3), "p=9"),
        (lambda: codes.shortened(codes.gold(5), 7), "count=7"),
        (lambda: codes.cameron_goethals_seidel(6), "q=6"),
        (lambda: codes.restricted(codes.quadratic(5, 3), (5,)), "allowed="),
        (lambda: codes.restricted(codes.kerdock(6), (2,)), "allowed="),
        (lambda: codes.quadratic(5, 3).with_basis(), "coordinates"),
        (lambda: codes.with_vertices(codes.kerdock(6)), "vertices of a simplex"),
        (lambda: codes.sharp_configuration("E9"), "E8 roots"),
    ],
)
def test_what_does_not_exist_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
