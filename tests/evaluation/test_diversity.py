"""Diversity against plain NumPy, and on sets whose figures are known."""

import sys

import numpy as np
import pytest
from scipy.stats import entropy

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation import diversity, separation, vendi_score

module = sys.modules[diversity.__module__]
D = 12


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def faces(num_ids=30, spread=0.25, seed=0):
    """Make images of identities of several sizes, in random order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(num_ids), rng.integers(1, 9, num_ids)))
    centers = unit(rng.normal(size=(num_ids, D)))
    return unit(centers[labels] + spread * rng.normal(size=(len(labels), D))), labels


def all_scores(x, labels):
    rows, columns = np.triu_indices(len(x), 1)
    scores = (x.astype(np.float64) @ x.astype(np.float64).T)[rows, columns]
    return scores, labels[rows] == labels[columns]


@pytest.mark.parametrize("block", [16, 8192])
def test_all_figures_of_a_small_set(block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    x, labels = faces()
    found = diversity(x, labels)
    scores, is_same = all_scores(x, labels)
    expected = separation(scores, is_same)
    assert found.pairs.eer == pytest.approx(expected.eer, abs=1e-6)
    assert found.pairs.fisher_ratio == pytest.approx(expected.fisher_ratio, rel=1e-4)
    np.testing.assert_allclose(np.sort(found.pairs.genuine), np.sort(scores[is_same]), atol=1e-6)
    assert (found.num_genuine, found.num_impostor) == (is_same.sum(), (~is_same).sum())
    assert found.genuine_mean == pytest.approx(scores[is_same].mean(), abs=1e-6)
    assert found.impostor_mean == pytest.approx(scores[~is_same].mean(), abs=1e-6)
    sums = np.stack([x[labels == i].sum(0) for i in range(30)])
    lengths = np.linalg.norm(sums, axis=1)
    np.testing.assert_allclose(found.classes.resultant, lengths / np.bincount(labels), rtol=1e-5)
    centers = sums / lengths[:, None]
    between = centers @ centers.T - 2 * np.eye(30)
    np.testing.assert_allclose(found.classes.nearest_cosine, between.max(1), atol=1e-6)
    spectrum = np.linalg.eigvalsh(x.astype(np.float64) @ x.T / len(x)).clip(0)
    assert found.vendi_images == pytest.approx(np.exp(entropy(spectrum)), rel=1e-4)
    spectrum = np.linalg.eigvalsh(centers @ centers.T / 30).clip(0)
    assert found.vendi_identities == pytest.approx(np.exp(entropy(spectrum)), rel=1e-4)


def test_vendi_score_counts_distinct_directions():
    x = np.repeat(np.eye(6), 3, axis=0)
    assert vendi_score(x @ x.T / 18) == pytest.approx(6)
    assert vendi_score(x.T @ x / 18) == pytest.approx(6)
    assert vendi_score(np.ones((5, 5)) / 5) == pytest.approx(1)


def test_coverage_is_the_share_of_the_gallery_near_a_center():
    x, labels = faces()
    gallery = unit(np.random.default_rng(1).normal(size=(200, D)))
    found = diversity(x, labels, gallery=gallery)
    best = (gallery @ found.classes.centers.T).max(1)
    np.testing.assert_allclose(found.gallery_cosine, best, atol=1e-6)
    limit = float(np.median(best))
    covered = found.summary([limit])["gallery"]["above"][0]
    assert (covered["num"], covered["share"]) == (100, 0.5)
    assert diversity(x, labels).summary([0.5])["gallery"] is None


def test_summary_counts_images_and_leaves_single_ones_out_of_the_resultant():
    x = unit(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    summary = diversity(x, np.array(["b", "b", "a"])).summary([0.5])
    sizes = {"min": 1, "median": 1.5, "mean": 1.5, "max": 2, "num_single": 1}
    assert summary["images_per_identity"] == sizes
    assert summary["resultant"]["mean"] == pytest.approx(2**-0.5)
    assert summary["genuine_mean"] == pytest.approx(0, abs=1e-7)


def test_large_sets_score_a_part_of_the_pairs_and_say_so(monkeypatch):
    x, labels = faces(num_ids=60)
    whole = diversity(x, labels)
    monkeypatch.setattr(module, "IMPOSTOR_ROWS", 80)
    monkeypatch.setattr(module, "MOST_GENUINE", 300)
    part = diversity(x, labels, seed=3)
    assert len(part.pairs.impostor) <= 80 * 79 // 2 < len(whole.pairs.impostor)
    assert 0 < len(part.pairs.genuine) <= 300 < len(whole.pairs.genuine)
    for name in ("num_genuine", "num_impostor", "genuine_mean", "impostor_mean"):
        assert getattr(part, name) == getattr(whole, name)
    assert part.pairs.impostor.mean() == pytest.approx(whole.impostor_mean, abs=0.05)
    again = diversity(x, labels, seed=3)
    np.testing.assert_array_equal(part.pairs.impostor, again.pairs.impostor)


def test_progress_ends_at_about_twice_the_rows():
    x, labels = faces()
    seen = []
    diversity(x, labels, progress=seen.append)
    single = np.sum(np.bincount(labels) == 1)
    assert seen == sorted(seen)
    assert seen[-1] == 2 * len(x) - single


@pytest.mark.parametrize(
    ("labels", "culprit"),
    [
        (np.zeros(4, int), "identities: 1"),
        (np.arange(4), "images of each at most: 1"),
        (np.arange(3), "give one each"),
        (np.array([0, 1, 1, 0]), "identity 1 cancel out"),
    ],
)
def test_what_cannot_be_described_is_named(labels, culprit):
    x = np.eye(4, dtype=np.float32)
    x[2] = -x[1]
    with pytest.raises(InputError, match=culprit):
        diversity(x, labels)
