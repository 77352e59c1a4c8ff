"""The search against all cosines at once."""

import jax
import numpy as np
import pytest

from hyperface_jax import meshes
from hyperface_jax.errors import InputError
from hyperface_jax.evaluation import impostor_threshold, nearest_pairs, target_match
from hyperface_jax.evaluation.neighbors import MOST_PAIRS
from hyperface_jax.pairwise import Sweep, streamed

D = 7


def unit(num_rows, seed):
    x = np.random.default_rng(seed).normal(size=(num_rows, D))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=["one device", "three devices"])
def sweep(request, monkeypatch):
    monkeypatch.setattr(streamed, "PASSING_ROWS", 64)
    monkeypatch.setattr(streamed, "HELD_ROWS", 96)
    monkeypatch.setattr(streamed, "SYMMETRIC_ROWS", 80)
    is_sharded = request.param == "three devices"
    return Sweep(meshes.make_mesh(jax.devices()[:3])) if is_sharded else Sweep()


def brute_force(x, y=None):
    scores = x.astype(np.float64) @ (x if y is None else y).astype(np.float64).T
    if y is None:
        np.fill_diagonal(scores, -np.inf)
    return scores


def best_pairs(scores, num_pairs, is_within):
    rows, columns = np.indices(scores.shape)
    kept = columns > rows if is_within else np.full(scores.shape, True)
    order = np.argsort(-scores[kept], kind="stable")[:num_pairs]
    return scores[kept][order], rows[kept][order], columns[kept][order]


@pytest.mark.parametrize(
    ("sweep", "num_pairs"),
    [("one device", 1), ("one device", MOST_PAIRS), ("three devices", 40)],
    indirect=["sweep"],
)
@pytest.mark.parametrize("num_columns", [None, 211])
def test_the_search_is_exact(sweep, num_columns, num_pairs):
    x = unit(150, 0)
    y = None if num_columns is None else unit(num_columns, 1)
    scores = brute_force(x, y)
    found = nearest_pairs(x, y, num_pairs=num_pairs, sweep=sweep)
    np.testing.assert_array_equal(found.nearest, scores.argmax(1))
    np.testing.assert_allclose(found.cosine, scores.max(1), atol=1e-6)
    cosine, row, column = best_pairs(scores, num_pairs, y is None)
    np.testing.assert_allclose(found.pairs.cosine, cosine, atol=1e-6)
    np.testing.assert_array_equal(found.pairs.row, row)
    np.testing.assert_array_equal(found.pairs.column, column)


def test_many_pairs_of_one_row_and_of_few_rows():
    """The most similar pairs may all lie in one row, and there may be fewer than asked for."""
    y = unit(50, 0)
    x = np.concatenate([y[:1], -y[:1]])
    found = nearest_pairs(x, np.concatenate([y[:1]] * 60 + [y[1:]]), num_pairs=60)
    np.testing.assert_array_equal(found.pairs.row, np.zeros(60))
    np.testing.assert_array_equal(found.pairs.column, np.arange(60))
    np.testing.assert_array_equal(found.pairs.cosine, np.ones(60))
    within = nearest_pairs(y[:4], num_pairs=100).pairs
    assert sorted(zip(within.row.tolist(), within.column.tolist(), strict=True)) == [
        (i, j) for i in range(4) for j in range(i + 1, 4)
    ]


def test_duplicates_within_a_set_are_the_first_pairs():
    x = unit(90, 0)
    x[70], x[80] = x[3], x[20]
    pairs = nearest_pairs(x, num_pairs=3).pairs
    assert list(zip(pairs.row, pairs.column, strict=True))[:2] == [(3, 70), (20, 80)]
    np.testing.assert_allclose(pairs.cosine[:2], 1, atol=1e-12)
    assert pairs.cosine[2] < 0.99


def test_rates_count_rows_above_each_threshold():
    x, y = unit(150, 0), unit(211, 1)
    best = brute_force(x, y).max(1)
    limit = float(np.median(best))
    summary = nearest_pairs(x, y, num_pairs=5).summary([limit, 2.0])
    assert [row["num"] for row in summary["above"]] == [75, 0]
    assert [row["share"] for row in summary["above"]] == [0.5, 0.0]
    assert summary["max_cosine"] == pytest.approx(best.max(), abs=1e-6)
    assert sum(summary["histogram"]["counts"]) == 150
    assert summary["pairs"][0]["row"] == best.argmax()


def test_progress_tells_the_rows_and_the_largest_cosine_so_far():
    x, y, seen = unit(150, 0), unit(211, 1), []
    nearest_pairs(x, y, progress=lambda done, figure: seen.append((done, figure)))
    assert seen[-1] == (150, f"max cosine {brute_force(x, y).max():.4f}")


def test_ranks_of_own_targets(sweep):
    rng = np.random.default_rng(0)
    targets = unit(120, 0)
    own = rng.integers(0, 120, 300)
    x = targets[own] + rng.normal(size=(300, D)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    scores = brute_force(x, targets)
    mine = scores[np.arange(300), own]
    found = target_match(x, targets, own, sweep=sweep)
    np.testing.assert_allclose(found.cosine, mine, atol=1e-6)
    np.testing.assert_array_equal(found.rank, 1 + (scores > mine[:, None] + 1e-6).sum(1))
    summary = found.summary([0.5])
    assert 0 < summary["rank_1"] < summary["rank_10"] < 1
    assert summary["max_rank"] == found.rank.max()


def test_a_target_like_the_own_one_does_not_count_as_better():
    targets = np.concatenate([unit(5, 0)] * 2)
    np.testing.assert_array_equal(target_match(targets, targets, np.arange(10)).rank, np.ones(10))


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ((np.eye(3), np.eye(4)), r"\(3, 3\) and \(4, 4\)"),
        ((np.eye(3)[:1],), "too few"),
        ((np.eye(3), np.eye(3)[:0]), "too few"),
    ],
)
def test_what_cannot_be_searched_is_named(arguments, culprit):
    with pytest.raises(InputError, match=culprit):
        nearest_pairs(*arguments)


def test_a_bad_number_of_pairs_and_bad_targets_are_named():
    with pytest.raises(InputError, match="num_pairs: 0"):
        nearest_pairs(np.eye(3), num_pairs=0)
    with pytest.raises(InputError, match="rows 0 to 3 of 3 targets"):
        target_match(np.eye(3), np.eye(3), np.array([0, 3, 1]))
    with pytest.raises(InputError, match="own: int64"):
        target_match(np.eye(3), np.eye(3), np.array([0, 1]))


def test_the_threshold_is_passed_at_its_rate():
    rows = np.random.default_rng(0).normal(size=(300, D))
    limit = impostor_threshold(rows, far=1e-3)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scores = (rows @ rows.T)[np.triu_indices(300, 1)]
    assert np.mean(scores > limit) == pytest.approx(1e-3, rel=0.05)
    with pytest.raises(InputError, match="too few"):
        impostor_threshold(np.eye(4), far=1e-3)
