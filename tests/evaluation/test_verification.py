import math

import numpy as np
import pytest
from scipy.interpolate import BSpline, interp1d
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.metrics import auc, roc_curve
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation import det_points, flip_fused, separation, verify, verify_scores
from hyperface_jax.evaluation.verification import FARS
from hyperface_jax.io.files import atomic_write_json, read_json

THRESHOLDS = np.arange(0, 4, 0.01)
FINE_THRESHOLDS = np.arange(0, 4, 0.001)


def make_pairs(num_pairs, dim=16, noise=1.2, seed=0):
    """Embeddings of any length; about half of the pairs show one person."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(num_pairs, dim))
    is_same = rng.random(num_pairs) < 0.5
    second = np.where(is_same[:, None], first, rng.normal(size=first.shape))
    return first, second + noise * rng.normal(size=first.shape), is_same


def make_scores(num_pairs=1000, seed=0, decimals=None):
    rng = np.random.default_rng(seed)
    is_same = rng.random(num_pairs) < 0.5
    scores = np.tanh(0.6 * rng.normal(size=num_pairs) + 0.8 * is_same)
    return (scores if decimals is None else np.round(scores, decimals)), is_same


def distances_of(first, second):
    return np.sum((normalize(first) - normalize(second)) ** 2, axis=1)


def folds_of(num_pairs, num_folds):
    return KFold(num_folds, shuffle=False).split(np.arange(num_pairs))


def naive_accuracies(distances, is_same, num_folds, thresholds=THRESHOLDS):
    """The protocol in loops: the first threshold that is best on the rest decides on a fold."""
    accuracies, chosen = [], []
    for rest, fold in folds_of(len(distances), num_folds):
        right = [np.mean((distances[rest] < limit) == is_same[rest]) for limit in thresholds]
        chosen.append(thresholds[np.argmax(right)])
        accuracies.append(np.mean((distances[fold] < chosen[-1]) == is_same[fold]))
    return np.array(accuracies), np.array(chosen)


def by_interp1d(far, thresholds, rate):
    return interp1d(far, thresholds, kind="linear")(rate)


def by_spline(far, thresholds, rate):
    """What ``kind="slinear"`` does, without its check in newer SciPy that no rate occurs twice."""
    return BSpline(np.r_[far[0], far, far[-1]], thresholds, 1)(rate)


def naive_tar_at_far(distances, is_same, rate, num_folds, interpolate):
    tars, fars = [], []
    for rest, fold in folds_of(len(distances), num_folds):
        impostor = distances[rest][~is_same[rest]]
        far = np.array([np.mean(impostor < limit) for limit in FINE_THRESHOLDS])
        reached = far.max() >= rate
        limit = interpolate(far, FINE_THRESHOLDS, rate) if reached else 0.0
        accepted = distances[fold] < limit
        tars.append(accepted[is_same[fold]].mean())
        fars.append(accepted[~is_same[fold]].mean())
    return np.mean(tars), np.std(tars), np.mean(fars)


@pytest.mark.parametrize(("num_pairs", "num_folds"), [(600, 10), (607, 10), (61, 10), (123, 4)])
def test_accuracies_and_thresholds_are_those_of_the_published_protocol(num_pairs, num_folds):
    first, second, is_same = make_pairs(num_pairs)
    found = verify(first, second, is_same, num_folds=num_folds)
    accuracies, thresholds = naive_accuracies(distances_of(first, second), is_same, num_folds)
    assert 0.6 < accuracies.mean() < 0.99
    np.testing.assert_allclose(found.fold_accuracies, accuracies, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.fold_thresholds, 1 - thresholds / 2, rtol=0, atol=1e-12)
    assert found.accuracy == pytest.approx(accuracies.mean(), abs=1e-12)
    assert found.accuracy_std == pytest.approx(accuracies.std(), abs=1e-12)


@pytest.mark.parametrize("interpolate", [by_interp1d, by_spline])
@pytest.mark.parametrize("num_pairs", [600, 607])
def test_cross_validated_rates_are_those_of_the_published_protocol(num_pairs, interpolate):
    first, second, is_same = make_pairs(num_pairs)
    found = verify(first, second, is_same).fold_tar_at_far
    distances = distances_of(first, second)
    for rate in (1e-1, 1e-2):
        expected = naive_tar_at_far(distances, is_same, rate, 10, interpolate)
        np.testing.assert_allclose(found[rate], expected, rtol=0, atol=1e-12)


def test_scores_on_the_grid_of_thresholds_are_rejected_as_published():
    """Distances that are thresholds themselves: a pair is accepted below its threshold only."""
    rng = np.random.default_rng(0)
    is_same = rng.random(500) < 0.5
    distances = THRESHOLDS[rng.integers(80, 200, 500) + 60 * ~is_same]
    found = verify_scores(-distances, is_same, score_range=(-4, 0))
    accuracies, thresholds = naive_accuracies(distances, is_same, 10)
    np.testing.assert_array_equal(found.fold_accuracies, accuracies)
    np.testing.assert_array_equal(found.fold_thresholds, -thresholds)
    expected = naive_tar_at_far(distances, is_same, 0.1, 10, by_interp1d)
    np.testing.assert_allclose(found.fold_tar_at_far[0.1], expected, rtol=0, atol=1e-12)


def test_a_rate_that_no_threshold_reaches_accepts_nothing_as_published():
    """Nearly all impostors are opposite points, at distance 4, beyond the last threshold."""
    rng = np.random.default_rng(0)
    is_same = np.arange(200) % 2 == 0
    distances = np.where(is_same, rng.uniform(0, 2, 200), 4.0)
    distances[1::40] = 1.0
    found = verify_scores(-distances, is_same, score_range=(-4, 0)).fold_tar_at_far
    expected = naive_tar_at_far(distances, is_same, 0.1, 10, by_interp1d)
    np.testing.assert_array_equal(found[0.1], expected)
    assert found[0.1].tar == 0


def test_cosines_give_the_figures_of_the_distances():
    first, second, is_same = make_pairs(400)
    cosines = np.sum(normalize(first) * normalize(second), axis=1)
    by_score, by_pair = verify_scores(cosines, is_same), verify(first, second, is_same)
    np.testing.assert_allclose(by_score.fold_accuracies, by_pair.fold_accuracies)
    np.testing.assert_allclose(by_score.fold_thresholds, by_pair.fold_thresholds, atol=1e-12)
    assert by_score.separation.auc == pytest.approx(by_pair.separation.auc, abs=1e-12)
    np.testing.assert_allclose(by_score.fold_tar_at_far[1e-2], by_pair.fold_tar_at_far[1e-2])


def test_the_length_of_an_embedding_does_not_matter():
    first, second, is_same = make_pairs(200)
    scale = np.random.default_rng(1).uniform(0.1, 10, (200, 1))
    scaled = verify(scale * first, second / scale, is_same)
    np.testing.assert_array_equal(
        scaled.fold_accuracies, verify(first, second, is_same).fold_accuracies
    )


@pytest.mark.parametrize("decimals", [None, 1], ids=["distinct", "ties"])
def test_roc_and_its_area_are_those_of_scikit_learn(decimals):
    scores, is_same = make_scores(decimals=decimals)
    found = separation(scores, is_same)
    far, tar, thresholds = roc_curve(is_same, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.roc.far, far, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.roc.tar, tar, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.roc.threshold, thresholds)
    assert found.auc == pytest.approx(auc(far, tar), abs=1e-12)


@pytest.mark.parametrize("decimals", [None, 1], ids=["distinct", "ties"])
def test_rates_and_equal_error_rate_lie_on_the_roc(decimals):
    scores, is_same = make_scores(decimals=decimals)
    found = separation(scores, is_same)
    far, tar, _ = roc_curve(is_same, scores, drop_intermediate=False)
    for rate in (1e-1, 1e-2):
        assert found.tar_at_far[rate] == pytest.approx(tar[far <= rate].max(), abs=1e-12)
    # A vertical step of the curve is tilted by less than the tolerance, to make it a function.
    line = interp1d(far + 1e-13 * np.arange(len(far)), tar)
    eer = brentq(lambda x: 1 - x - line(x), 0, 1, xtol=1e-14)
    assert found.eer == pytest.approx(eer, abs=1e-9)


def test_separations_of_means_follow_their_definitions():
    scores, is_same = make_scores()
    found = separation(scores, is_same)
    genuine, impostor = scores[is_same], scores[~is_same]
    gap, variances = genuine.mean() - impostor.mean(), genuine.var() + impostor.var()
    assert found.d_prime == pytest.approx(gap / math.sqrt(variances / 2), abs=1e-12)
    assert found.fisher_ratio == pytest.approx(gap**2 / variances, abs=1e-12)
    np.testing.assert_array_equal(found.genuine, genuine)
    assert separation(-scores, is_same).d_prime == pytest.approx(-found.d_prime, abs=1e-12)


def test_gaussian_scores_give_a_straight_detection_error_curve():
    rng = np.random.default_rng(0)
    is_same = np.arange(40_000) % 2 == 0
    det = det_points(separation(rng.normal(size=40_000) + 2 * is_same, is_same).roc)
    central = np.abs(det.far + 1) < 0.5
    np.testing.assert_allclose(det.frr[central], -2 - det.far[central], atol=0.05)
    assert np.all(np.isfinite(det))


def test_gaussian_scores_give_the_figures_of_theory():
    rng = np.random.default_rng(0)
    is_same = np.arange(40_000) % 2 == 0
    found = separation(rng.normal(size=40_000) + 2 * is_same, is_same)
    assert found.eer == pytest.approx(norm.cdf(-1), abs=0.005)
    assert found.auc == pytest.approx(norm.cdf(math.sqrt(2)), abs=0.005)
    assert found.d_prime == pytest.approx(2, abs=0.05)


def test_rates_that_too_few_impostors_were_scored_for_are_not_given():
    scores, is_same = make_scores(400)
    found = verify_scores(scores, is_same)
    resolved = {rate: rate * np.sum(~is_same) >= 1 for rate in FARS}
    assert set(resolved.values()) == {True, False}
    for rate, known in resolved.items():
        assert (found.separation.tar_at_far[rate] is not None) == known
        assert (found.fold_tar_at_far[rate] is not None) == known


def test_a_rate_counts_whole_impostors():
    impostor = np.arange(1000)
    genuine = np.array([990.5, 998.5, 999.5, 1000.5])
    scores = np.concatenate([genuine, impostor])
    found = separation(scores, np.arange(1004) < 4).tar_at_far
    assert (found[1e-2], found[1e-3], found[1e-4]) == (1.0, 0.75, None)


def test_perfect_scores_have_no_error():
    is_same = np.arange(100) % 2 == 0
    found = verify_scores(np.where(is_same, 0.8, 0.1), is_same)
    assert (found.accuracy, found.accuracy_std) == (1, 0)
    assert (found.separation.eer, found.separation.auc) == (0, 1)
    assert found.separation.d_prime == math.inf
    assert found.separation.tar_at_far[1e-1] == 1
    assert found.fold_tar_at_far[1e-1].tar == 1


def test_equal_scores_tell_nothing():
    is_same = np.arange(100) % 2 == 0
    found = verify_scores(np.full(100, 0.1), is_same)
    assert found.accuracy == 0.5
    assert (found.separation.eer, found.separation.auc) == (0.5, 0.5)
    assert (found.separation.d_prime, found.separation.fisher_ratio) == (0, 0)
    assert found.separation.tar_at_far[1e-1] == 0


def test_a_fold_without_genuine_pairs_has_no_part_in_the_rates():
    scores, is_same = make_scores(200)
    scores = np.append(scores, np.full(50, -0.9))
    is_same = np.append(is_same, np.zeros(50, bool))
    found = verify_scores(scores, is_same, num_folds=5).fold_tar_at_far[1e-1]
    assert 0 < found.tar < 1
    assert np.isfinite(found).all()


def test_fused_embeddings_are_unit_rows_along_the_raw_sums():
    rng = np.random.default_rng(0)
    raw, flipped = rng.normal(size=(2, 5, 8)).astype(np.float32)
    expected = normalize(raw.astype(np.float64) + flipped)
    np.testing.assert_allclose(flip_fused(raw, flipped), expected, rtol=0, atol=1e-15)


X, SAME = np.eye(6, 4) + 0.5, np.arange(6) % 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: verify(X, X, SAME, num_folds=1), "num_folds: 1 folds of 6 pairs"),
        (lambda: verify(X, X, SAME, num_folds=7), "num_folds: 7 folds of 6 pairs"),
        (lambda: verify(X, X, np.ones(6)), "is_same: no impostor pairs"),
        (lambda: verify(X, X, np.zeros(6)), "is_same: no genuine pairs"),
        (lambda: verify(X, X, SAME[:5]), "is_same"),
        (lambda: verify(X, X, 2 * SAME), "is_same: holds other values"),
        (lambda: verify(X, X[:, :3], SAME), "first and second: shapes"),
        (lambda: verify(X[0], X, SAME), "first: has shape"),
        (lambda: verify(X * np.nan, X, SAME), "first: row 0 is not finite"),
        (lambda: verify(X, 0 * X, SAME), "second: row 0 is zero"),
        (lambda: verify_scores([0.1, math.nan], [0, 1]), "scores: pair 1 is nan"),
        (lambda: verify_scores([0.1, 0.2], [0, 1], score_range=(1, 1)), "score_range"),
        (lambda: verify_scores([0.1, 3.2], [0, 1]), "score_range: scores lie outside"),
        (lambda: verify_scores(np.ones(4), [0, 0, 1, 1], num_folds=2), "fold 0 holds all impostor"),
        (lambda: separation([], []), "no genuine pairs"),
        (lambda: flip_fused(X, -X), "row 0 is zero"),
        (lambda: flip_fused(X, X[:3]), "raw and raw_flipped: shapes"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_summary_goes_through_json_unchanged(tmp_path):
    result = verify_scores(*make_scores())
    plain = result.summary()
    atomic_write_json(tmp_path / "result.json", plain)
    assert read_json(tmp_path / "result.json") == plain
    assert plain["accuracy"] == result.accuracy
    assert plain["tar_at_far"]["1e-02"] == result.separation.tar_at_far[1e-2]
    assert plain["tar_at_far"]["1e-06"] is None
    assert plain["fold_tar_at_far"]["1e-01"]["tar"] == result.fold_tar_at_far[1e-1].tar
    assert sum(plain["histogram"]["genuine"]) == plain["num_genuine"]
    assert sum(plain["histogram"]["impostor"]) == plain["num_impostor"]


def test_a_summary_without_folds_has_no_accuracy():
    result = verify_scores(*make_scores())
    plain, without = result.summary(), result.separation.summary()
    assert set(plain) - set(without) == {
        "accuracy",
        "accuracy_std",
        "fold_accuracies",
        "fold_thresholds",
        "fold_tar_at_far",
    }


def test_a_thinned_curve_holds_points_of_the_whole_one():
    result = verify_scores(*make_scores())
    plain = result.summary()["roc"]
    whole = set(zip(result.separation.roc.far, result.separation.roc.tar, strict=True))
    points = list(zip(plain["far"], plain["tar"], strict=True))
    assert set(points) < whole
    assert len(points) <= 400
    assert points[-1] == (1, 1)
    at_ten_percent = [tar for far, tar in points if far <= 0.1][-1]
    assert at_ten_percent == pytest.approx(result.separation.tar_at_far[1e-1], abs=0.01)
