"""The search for small codes: groups, orbits, their polish, and what it finds."""

import pickle

import numpy as np
import pytest

from hyperface_jax.codes import best_known
from hyperface_jax.codes.catalogue import catalogue
from hyperface_jax.errors import InputError
from hyperface_jax.packing.batches import Batches
from hyperface_jax.packing.changes import relaxed
from hyperface_jax.packing.contact_pairs import unit_rows
from hyperface_jax.packing.groups import FAMILIES, Symmetries, generated, random_group
from hyperface_jax.packing.interior_point import polish
from hyperface_jax.packing.islands import search
from hyperface_jax.packing.near_codes import fitted, near_codes
from hyperface_jax.packing.orbits import (
    composed,
    no_symmetry,
    orbit_types,
    orbits_of,
    polish_orbits,
)
from hyperface_jax.packing.searching import Found, Search, measured
from hyperface_jax.packing.trials import (
    Trial,
    annealed,
    bucket_of,
    most_representatives,
    plain,
    screened,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _nearest(points, others):
    return (points @ others.T).max(axis=1)


@pytest.mark.parametrize("dim", [2, 3, 6, 8, 13])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_random_group_is_a_group_of_orthogonal_matrices(rng, family, dim):
    for _ in range(3):
        group = random_group(rng, dim, 100, family)
        assert 2 <= len(group) <= 100
        np.testing.assert_allclose(group[0], np.eye(dim), atol=1e-12)
        products = group[rng.integers(len(group), size=5)] @ group[-1]
        np.testing.assert_allclose(
            products @ products.transpose(0, 2, 1), [np.eye(dim)] * 5, atol=1e-9
        )
        apart = np.abs(products[:, None] - group[None]).max(axis=(2, 3))
        assert apart.min(axis=1).max() < 1e-9


def test_a_group_that_is_too_large_is_refused():
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    found = generated([turn], 4)
    assert found is not None
    assert len(found) == 4
    assert generated([turn], 3) is None


def _drawn(rng, num_points, dim):
    while True:
        group = random_group(rng, dim, 2 * num_points, str(rng.choice(list(FAMILIES))))
        placed = composed(orbit_types(group, rng), num_points, rng)
        if placed and len(placed[1]) < num_points:
            return group, *placed


@pytest.mark.parametrize(("num_points", "dim"), [(24, 3), (50, 4), (59, 13)])
def test_orbits_have_as_many_points_as_asked_and_are_closed_under_the_group(rng, num_points, dim):
    for _ in range(10):
        group, orbits, x = _drawn(rng, num_points, dim)
        points = orbits.points(x)
        assert points.shape == (num_points, dim)
        np.testing.assert_allclose(points[orbits.first], x, atol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-9)
        for g in group[rng.integers(len(group), size=3)]:
            assert _nearest(points @ g.T, points).min() > 1 - 1e-9


def test_polished_orbits_keep_their_symmetry_and_are_measured_over_all_pairs(rng):
    for _ in range(6):
        group, orbits, x = _drawn(rng, 24, 4)
        if measured(orbits.points(x)) > 0.999:
            continue
        polished, cosine = polish_orbits(x, orbits)
        points = orbits.points(polished)
        assert cosine <= measured(orbits.points(x)) + 1e-12
        assert cosine == pytest.approx(measured(points), abs=1e-12)
        assert _nearest(points @ group[-1].T, points).min() > 1 - 1e-9


@pytest.mark.parametrize(("num_points", "dim"), [(24, 3), (50, 6)])
def test_orbits_are_found_again_in_the_points(rng, num_points, dim):
    for _ in range(5):
        group, orbits, x = _drawn(rng, num_points, dim)
        points = orbits.points(x)
        if measured(points) > 1 - 1e-9:
            with pytest.raises(ValueError, match="two are equal"):
                orbits_of(points, group)
            continue
        found = orbits_of(points, group)
        np.testing.assert_allclose(found.points(points[found.first]), points, atol=1e-9)
        np.testing.assert_allclose(
            found.projected(points[found.first]), points[found.first], atol=1e-9
        )
        assert found.num_representatives == orbits.num_representatives
        assert len(orbits_of(points, group[:1]).first) == num_points
    with pytest.raises(ValueError, match="not closed"):
        orbits_of(
            unit_rows(rng.normal(size=(num_points, dim))), np.stack([np.eye(dim), -np.eye(dim)])
        )


def test_good_groups_are_remembered(rng):
    known = Symmetries(30, 4)
    drawn = []
    while len(drawn) < 20:
        symmetry = known.draw(rng)
        if not any(symmetry.is_same(other) for other in drawn):
            drawn.append(symmetry)
    for place, symmetry in enumerate(drawn):
        known.note(symmetry, 0.5 + 0.01 * place)
    assert known.best == drawn[:12]
    known.note(drawn[15], 0.1)
    assert known.best[0] is drawn[15]
    known.note(pickle.loads(pickle.dumps(drawn[15])), 0.05)  # The same group, from another process.
    assert known.best[0] is drawn[15]
    assert known.best[0].best == 0.05
    assert len(known.best) == 12
    again = [known.one_of_the_best(rng) for _ in range(200)]
    assert sum(symmetry is drawn[15] for symmetry in again) > 50
    assert set(map(id, again)) <= set(map(id, known.best))
    assert len(set(map(id, again))) > 4


def test_a_batch_of_a_good_group_has_its_symmetry(rng):
    batches = Batches(24, 4, [])
    first = batches.draw("groups", [], rng)
    assert len({trial.symmetry.family for trial in first.trials}) > 3
    batches.note("groups", [first.trials[0]._replace(max_cosine=0.7)], 1.0)
    again = batches.draw("good groups", [], rng)
    assert len(again.trials) == 2 * len(again.heat)
    assert all(trial.symmetry is first.trials[0].symmetry for trial in again.trials)
    assert len({trial.x.tobytes() for trial in again.trials}) == len(again.trials)


def test_a_packing_gives_up_its_symmetry_by_steps(rng):
    running = Search(24, 4, from_codes=False)
    running._spent["groups"] = -1.0
    running.advance()
    trial = running._symmetric.best[0]
    assert trial.symmetry is not None
    counts = set()
    for _ in range(30):
        less = relaxed(trial, rng)
        np.testing.assert_allclose(np.sort(less.points, 0), np.sort(trial.points, 0), atol=1e-9)
        assert (less.symmetry is None) == (len(less.x) == 24)
        counts.add(len(less.x))
    assert {24, len(trial.x)} < counts or len(trial.symmetry.group) == 2


def test_a_start_near_a_code_has_as_many_points_as_asked(rng):
    codes = near_codes(300, 16)
    assert codes[0] is best_known(300, 16)
    assert {code.num_points > 300 for code in codes} == {True, False}
    assert all(90 <= code.num_points <= 450 for code in codes[1:])
    assert {code.name for code in codes[1:]} <= {code.name for code in catalogue()}
    for code in codes:
        x = fitted(code, 300, rng)
        assert x.shape == (300, 16)
        assert measured(x) < 1 - 1e-3
        if code.num_points >= 300:
            assert measured(x) <= code.max_cosine + 1e-6


def test_points_are_taken_away_from_the_whole_of_the_best_construction(rng):
    code = near_codes(590, 11)[0]
    assert code.num_points == 604
    first, other = (fitted(code, 590, rng) for _ in range(2))
    assert first.shape == (590, 11)
    assert _nearest(first, other).min() < 0.9


def test_constructions_worse_than_the_best_packing_are_left_out():
    codes = near_codes(306, 9)
    batches = Batches(306, 9, codes)
    batches.leave_out(0.5)
    assert batches.codes == [code for code in codes if code.max_cosine <= 0.5] != []
    batches.leave_out(0.01)
    assert batches.codes == []


def test_a_search_is_never_worse_than_the_best_construction():
    found = search(306, 9, seconds=0.01)
    assert found.max_cosine <= 0.5 + 1e-6
    assert search(306, 9, seconds=0.01, from_codes=False).max_cosine > 0.5 + 1e-3


def test_constructions_that_end_far_behind_get_less_time():
    running = Search(14, 3, from_codes=False)
    running.found.max_cosine = 0.5
    bad, good = (plain(np.eye(3), cosine) for cosine in (0.6, 0.5))
    running._note("codes", [bad] * 299, 1.0)
    assert not running._codes_are_behind
    running._note("codes", [bad], 1.0)
    assert running._codes_are_behind
    running._note("codes", [good], 1.0)
    assert not running._codes_are_behind


def _kinds(running, count):
    kinds = []
    for _ in range(count):
        kinds.append(running._next_kind())
        running._spent[kinds[-1]] += 1.0
    return kinds


def test_packings_without_symmetry_get_more_time_where_no_better_one_with_it_is_found(rng):
    symmetric = Batches(24, 4, []).draw("groups", [], rng).trials[0]
    running = Search(24, 4, from_codes=False)
    running._take(symmetric._replace(max_cosine=0.5), "groups")
    running._take(plain(np.eye(4), 0.6), "restarts")
    before = _kinds(running, 200).count("plain changes")
    running._note("groups", [symmetric] * 600, 1.0)
    assert not running._symmetric.is_stuck
    running._note("groups", [symmetric], 1.0)
    assert running._symmetric.is_stuck
    assert _kinds(running, 200).count("plain changes") > 1.5 * before
    running._take(symmetric._replace(max_cosine=0.4), "groups")
    assert not running._symmetric.is_stuck


def test_promising_starts_end_lower_than_the_others():
    batch = Batches(24, 4, []).draw("groups", [], np.random.default_rng(1))
    count = len(batch.heat)
    assert len(batch.trials) == 8 * count
    chosen = screened(batch.trials, count)
    assert len(chosen) == count
    is_chosen = [any(trial is other for other in chosen) for trial in batch.trials]
    assert sum(is_chosen) == count
    others = [trial for trial, is_in in zip(batch.trials, is_chosen, strict=True) if not is_in]

    def reached(trials):
        return [t.max_cosine for t in annealed(trials[:count], np.ones(count))]

    assert min(reached(chosen)) <= min(reached(others)) + 1e-3
    assert np.median(reached(chosen)) < np.median(reached(others)) - 0.02


@pytest.mark.parametrize("num_points", [2, 16, 21, 50, 243, 656])
def test_numbers_of_representatives_are_rounded_up_to_a_few(num_points):
    sizes = [bucket_of(count, num_points) for count in range(1, num_points + 1)]
    assert all(count <= size <= num_points for count, size in enumerate(sizes, 1))
    assert sizes == sorted(sizes)
    assert len(set(sizes)) <= 7
    few = [(count, size) for count, size in enumerate(sizes, 1) if 20 < count < num_points / 2]
    assert all(size <= 2 * count for count, size in few)
    assert sizes[most_representatives(num_points) - 1] <= max(20, 0.6 * num_points)


def test_a_search_leaves_the_threads_of_blas_as_they_were():
    from threadpoolctl import threadpool_info

    def threads():
        return {one["filepath"]: one["num_threads"] for one in threadpool_info()}

    running = Search(14, 3, from_codes=False)
    running.advance()
    before = threads()
    running.advance()
    assert threads() == before


def test_without_symmetry_it_is_the_polish_of_all_points(rng):
    x = polish(unit_rows(rng.normal(size=(14, 4))), max_iterations=20).x
    plain = no_symmetry(14, 4)
    assert polish_orbits(x, plain)[1] == pytest.approx(polish(x).max_cosine, abs=1e-9)


def test_symmetry_finds_the_roots_of_d5():
    """Independent restarts hardly ever find them."""
    running = Search(40, 5, from_codes=False)
    while running.found.max_cosine > 0.5 + 1e-9 and running.found.num_batches < 20:
        running._spent["groups"] = -1.0
        running.advance()
    assert running.found.max_cosine == pytest.approx(0.5, abs=1e-9)
    assert running.found.origin.startswith("groups")
    assert measured(running.found.x) == running.found.max_cosine


def test_a_search_goes_on_from_what_it_found_and_never_gets_worse():
    first = search(40, 5, seconds=0.01, from_codes=False)
    assert first.x is not None
    known = Found(first.x, first.max_cosine, num_batches=first.num_batches)
    going_on = Search(40, 5, found=known, from_codes=False)
    for kind in ("changes", "restarts", "changes"):
        before = going_on.found.max_cosine
        going_on._spent[kind] = -1.0
        going_on.advance()
        going_on._spent[kind] = 100.0
        assert going_on.found.max_cosine <= before
    assert going_on.found.num_batches == first.num_batches + 3
    assert 0.5 - 1e-9 < going_on.found.max_cosine < 0.52


def test_a_search_ends_at_its_target_and_at_a_proven_bound():
    icosahedron = 5**-0.5
    running = Search(12, 3, from_codes=False)
    assert running.is_short_of(1.0)
    while running.is_short_of(100.0):
        running.advance()
    assert running.is_done
    assert running.found.max_cosine == pytest.approx(icosahedron, abs=1e-12)
    easy, hard = (Search(12, 3, target=target, from_codes=False) for target in (0.9, 0.1))
    for search_for in (easy, hard):
        search_for.found.x, search_for.found.max_cosine = running.found.x, 0.6
    assert not easy.is_short_of(1.0)
    assert hard.is_short_of(1.0)
    hard.found.max_cosine = icosahedron  # Whatever the target, nothing is below.
    assert not hard.is_short_of(1.0)


def test_points_that_are_put_back_leave_the_others_alone(rng):
    from hyperface_jax.packing.changes import _put_back

    x = unit_rows(rng.normal(size=(20, 5)))
    changed = _put_back(Trial(x, no_symmetry(20, 5), 1.0), rng)
    moved = np.any(changed != x, axis=1)
    assert 1 <= moved.sum() <= 3


@pytest.mark.parametrize(
    ("size", "message"), [((1, 3), "at least 2"), ((3, 1), "at least 2"), ((5000, 20), "at most")]
)
def test_sizes_that_cannot_be_searched_are_refused(size, message):
    with pytest.raises(InputError, match=message):
        Search(*size)
