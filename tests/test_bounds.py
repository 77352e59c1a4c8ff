import json
import math
from itertools import pairwise
from pathlib import Path

import pytest

from hyperface_jax.bounds import Bound, boroczky, fejes_toth, levenshtein, rankin, tightest
from hyperface_jax.optima import OPTIMAL_CODES, PROVEN, proven

CODES = Path(__file__).parents[2] / "shared/data/spherical_codes.json"

SHARP = [
    (3, 12, 5**-0.5),
    (5, 16, 1 / 5),
    (6, 27, 1 / 4),
    (7, 56, 1 / 3),
    (8, 240, 1 / 2),
    (21, 162, 1 / 7),
    (22, 100, 1 / 11),
    (22, 275, 1 / 6),
    (22, 891, 1 / 4),
    (23, 552, 1 / 5),
    (23, 4600, 1 / 3),
    (24, 196560, 1 / 2),
    (52, 325, 1 / 16),
    (1221, 15984, 1 / 121),
]


@pytest.mark.parametrize(("dim", "num_points", "cosine"), SHARP)
def test_sharp_codes_meet_levenshtein_with_equality(dim, num_points, cosine):
    assert levenshtein(num_points, dim) == pytest.approx(cosine, abs=1e-13)


def test_600_cell_is_optimal_but_not_levenshtein_sharp():
    cosine = (1 + 5**0.5) / 4
    assert cosine - 2e-3 < levenshtein(120, 4) < cosine - 1e-3
    assert boroczky(120) == pytest.approx(cosine, abs=1e-15)
    assert tightest(120, 4) == Bound(boroczky(120), "Boroczky")


def test_boroczky_is_met_by_the_cross_polytope_and_rises():
    assert boroczky(8) == 0
    values = [boroczky(n) for n in (9, 10, 24, 25, 120, 1000, 10**6, 10**9)]
    assert values == sorted(set(values))
    # Three-dimensional balls have at most the density of a regular tetrahedron, 0.7797 (Rogers 1958).
    n = 10**9
    radius = math.acos(boroczky(n)) / 2
    density = n * 4 / 3 * math.pi * radius**3 / (2 * math.pi**2)
    assert density == pytest.approx(math.sqrt(18) * (math.acos(1 / 3) - math.pi / 3), abs=1e-5)


TABLE = {  # rows of shared/facts/packing.md: n -> (d = 512, 256, 128)
    1_000: (-0.00005, 0.00732, 0.0366),
    2_000: (0.00369, 0.0201, 0.0579),
    5_000: (0.0136, 0.0396, 0.0752),
    10_000: (0.0238, 0.0500, 0.0827),
    30_000: (0.0360, 0.0581, 0.0984),
    50_000: (0.0391, 0.0610, 0.1103),
    100_000: (0.0416, 0.0659, 0.1262),
    262_144: (0.0441, 0.0790, 0.1408),
    524_288: (0.0476, 0.0896, 0.1480),
    1_000_000: (0.0530, 0.0971, 0.1558),
    4_000_000: (0.0666, 0.1058, 0.1818),
    16_000_000: (0.0736, 0.1178, 0.1981),
    134_000_000: (0.0823, 0.1392, 0.2290),
}


@pytest.mark.parametrize("num_points", TABLE)
def test_table_of_levenshtein_bounds(num_points):
    values = [levenshtein(num_points, dim) for dim in (512, 256, 128)]
    assert values == pytest.approx(TABLE[num_points], abs=6e-5)


HIGH_PRECISION = [  # (d, n, s): the Gegenbauer form of L_m solved to 50 digits with mpmath
    (3, 13, 0.48937256668736785),
    (3, 1000000, 0.99999265902366061),
    (4, 121, 0.80831693901915534),
    (8, 239, 0.49955163709799939),
    (8, 241, 0.50059393818817455),
    (24, 1000000, 0.56249390965010029),
    (128, 33024, 0.10049767729245691),
    (512, 1000000, 0.052962222098470654),
    (4096, 8193, 5.9619196688883633e-8),
    (4096, 1000000000, 0.024577332466169509),
]


@pytest.mark.parametrize(("dim", "num_points", "cosine"), HIGH_PRECISION)
def test_levenshtein_against_multiprecision(dim, num_points, cosine):
    assert levenshtein(num_points, dim) == pytest.approx(cosine, abs=5e-16)


@pytest.mark.parametrize("dim", [3, 4, 8, 64, 512, 4096])
def test_levenshtein_increases_with_n_across_orders(dim):
    sizes = sorted(
        {round(2 * dim * 1.3**k) + 1 for k in range(50)} | {2 * dim + 1, dim * (dim + 3) // 2}
    )
    sizes = [n for n in sizes if n < 2e9]
    values = [levenshtein(n, dim) for n in sizes]
    assert all(low < high for low, high in pairwise(values))
    assert values[0] > 0
    assert values[-1] < 1


@pytest.mark.parametrize(
    ("dim", "size"), [(3, 9), (3, 16), (8, 44), (24, 324), (4, 40), (4, 50), (512, 131_840)]
)
def test_levenshtein_is_continuous_where_the_order_changes(dim, size):
    below, at, above = (levenshtein(n, dim) for n in (size - 1, size, size + 1))
    step = above - below
    assert 0.3 * step < at - below < 0.7 * step


def test_levenshtein_below_rankins_range_is_valid():
    assert levenshtein(4, 3) == pytest.approx(-1 / 3, abs=1e-15)
    assert levenshtein(6, 3) == pytest.approx(0, abs=1e-15)
    assert levenshtein(5, 3) <= 0


@pytest.mark.parametrize("num_points", [5, 6, 7, 100, 10_001])
def test_circle_is_the_regular_polygon(num_points):
    bound = tightest(num_points, 2)
    assert bound == Bound(math.cos(2 * math.pi / num_points), "regular polygon")


def test_fejes_toth_is_met_by_the_triangulated_solids():
    met = [fejes_toth(n) for n in (3, 4, 6, 12)]
    assert met == pytest.approx([-1 / 2, -1 / 3, 0, 5**-0.5], abs=1e-15)


def test_tightest_takes_the_largest_and_names_it():
    assert tightest(2, 7) == Bound(-1.0, "antipodal")
    assert tightest(2, 1) == Bound(-1.0, "antipodal")
    assert tightest(3, 1) == Bound(1.0, "pigeonhole")
    assert tightest(4, 512) == Bound(-1 / 3, "simplex")
    assert tightest(513, 512) == Bound(-1 / 512, "simplex")
    assert tightest(514, 512) == Bound(0.0, "Rankin orthoplex")
    assert tightest(1024, 512) == Bound(0.0, "Rankin orthoplex")
    assert tightest(1025, 512) == Bound(levenshtein(1025, 512), "Levenshtein")
    assert tightest(19, 3).name == "Levenshtein"
    assert tightest(20, 3) == Bound(fejes_toth(20), "Fejes Toth")


def test_rankin_above_twice_the_dimension_is_zero():
    assert rankin(10**9, 3) == 0


@pytest.mark.parametrize("bound", [rankin, levenshtein, tightest])
@pytest.mark.parametrize(
    ("num_points", "dim", "field"), [(1, 3, "num_points"), (-5, 3, "num_points"), (4, 0, "dim")]
)
def test_rejects_impossible_sizes(bound, num_points, dim, field):
    with pytest.raises(ValueError, match=rf"^{field} must be at least"):
        bound(num_points, dim)


def test_boroczky_rejects_fewer_points_than_the_cross_polytope():
    with pytest.raises(ValueError, match=r"^num_points must be at least 8"):
        boroczky(7)


def test_fejes_toth_rejects_a_pair():
    with pytest.raises(ValueError, match=r"^num_points must be at least 3"):
        fejes_toth(2)


@pytest.mark.skipif(not CODES.exists(), reason="shared/data/spherical_codes.json is not here")
def test_no_known_code_beats_the_bound():
    rows = json.loads(CODES.read_text())
    bounds = [tightest(row["n"], row["d"]).value for row in rows]
    assert len(bounds) > 100
    for row, bound in zip(rows, bounds, strict=True):
        assert bound <= row["max_cos"] + 1e-9, row
        assert bound >= row["lower_bound"] - 1e-12, row
        if row.get("optimal") == "proven":
            assert bound == pytest.approx(row["max_cos"], abs=1e-9), row


@pytest.mark.parametrize("entry", PROVEN, ids=lambda entry: f"{entry.num_points}-{entry.dim}")
def test_an_entry_of_the_table_is_sharper_than_the_theorems_and_named(entry):
    n, d, value, reference = entry
    special = {3: fejes_toth, 4: boroczky}.get(d, lambda _: -1)
    assert value > max(levenshtein(n, d), special(n)) + 1e-6
    bound = tightest(n, d)
    assert bound.value == value
    assert bound.name == f"{reference} ({n} points, d = {d})"


def test_an_entry_bounds_more_points_and_fewer_dimensions_but_not_the_others():
    reference = "Cohn, de Laat and Leijenhorst 2024 (56 points, d = 20)"
    assert tightest(60, 20) == Bound(1 / 15, reference)
    assert tightest(56, 19) == Bound(1 / 15, reference)
    assert tightest(55, 20) == Bound(1 / 21, reference.replace("56", "50").replace("= 20", "= 21"))
    assert tightest(56, 22).name == "Levenshtein"
    assert proven(49, 20) is None


def test_the_decimals_of_the_table_solve_their_equations():
    values = {(entry.num_points, entry.dim): entry.value for entry in OPTIMAL_CODES}
    seven, ten, snub = values[7, 3], values[10, 3], values[24, 3]
    assert 3 * seven**3 - 9 * seven**2 - 3 * seven + 1 == pytest.approx(0, abs=1e-14)
    assert 7 * ten**3 - 4 * ten**2 - 2 * ten + 1 == pytest.approx(0, abs=1e-14)
    assert math.degrees(math.acos(values[13, 3])) == pytest.approx(57.13670, abs=1e-5)
    assert math.acos(values[14, 3]) == pytest.approx(0.971634742886224, abs=2e-15)
    # Four triangles and a square meet in a vertex of the snub cube; their angles fill the circle.
    triangle = math.acos(snub / (1 + snub))
    square = 2 * math.atan(1 / math.sqrt(snub))
    assert 4 * triangle + square == pytest.approx(2 * math.pi, abs=1e-14)


@pytest.mark.parametrize("dim", [3, 4, 5, 9, 16, 20, 21, 23, 64, 256])
def test_the_tightest_bound_is_monotone_in_n_and_d(dim):
    near = [entry.num_points for entry in PROVEN if entry.dim in (dim, dim + 1)]
    sizes = sorted({2 * dim + 1, 4 * dim, dim * dim, *near, *(n - 1 for n in near), 200_000})
    values = [tightest(n, dim).value for n in sizes]
    assert all(low <= high + 1e-12 for low, high in pairwise(values))
    for n, value in zip(sizes, values, strict=True):
        assert tightest(n, dim + 1).value <= value + 1e-12
