import numpy as np
import pytest
from sklearn.preprocessing import normalize

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation import (
    Templates,
    identify,
    pair_scores,
    separation,
    template_embeddings,
    templates,
    verify_templates,
)

DIM = 8


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def naive_templates(embeddings, template_ids, media_ids):
    ids, rows = sorted(set(template_ids)), []
    for template in ids:
        of_template = template_ids == template
        media = sorted(set(media_ids[of_template]))
        means = [embeddings[of_template & (media_ids == medium)].mean(axis=0) for medium in media]
        rows.append(np.sum(means, axis=0))
    return ids, normalize(rows)


def make_templates(rng, num=30):
    return Templates(100 + np.arange(num) * 3, normalize(rng.normal(size=(num, DIM))))


def test_templates_are_sums_of_the_means_of_media(rng):
    embeddings = rng.normal(size=(200, DIM))
    template_ids, media_ids = rng.integers(5, 25, 200), rng.integers(0, 6, 200)
    found = template_embeddings(embeddings, template_ids, media_ids)
    ids, expected = naive_templates(embeddings, template_ids, media_ids)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_allclose(found.embeddings, expected, rtol=0, atol=1e-12)


def test_a_long_video_counts_as_much_as_a_photograph():
    photo, frame = np.eye(2)
    found = template_embeddings([photo, *[frame] * 9], np.zeros(10), [0, *[1] * 9])
    np.testing.assert_allclose(found.embeddings, [[0.5**0.5, 0.5**0.5]])


def test_the_same_medium_in_two_templates_is_two_media():
    found = template_embeddings(np.eye(2), ["b", "a"], [7, 7])
    np.testing.assert_array_equal(found.ids, ["a", "b"])
    np.testing.assert_array_equal(found.embeddings, [[0, 1], [1, 0]])


@pytest.mark.parametrize("chunk_entries", [1, 3 * DIM, 2**24])
def test_pairs_of_templates_are_scored_by_their_cosines(rng, monkeypatch, chunk_entries):
    monkeypatch.setattr(templates, "_CHUNK_ENTRIES", chunk_entries)
    known = make_templates(rng)
    first, second = rng.integers(0, 30, (2, 50))
    found = pair_scores(known, known.ids[first], known.ids[second])
    cosines = known.embeddings @ known.embeddings.T
    np.testing.assert_allclose(found, cosines[first, second], rtol=0, atol=1e-12)


def test_verification_of_templates_is_that_of_their_scores(rng):
    known = make_templates(rng)
    first, second = known.ids[rng.integers(0, 30, (2, 300))]
    is_same = rng.random(300) < 0.3
    found = verify_templates(known, first, second, is_same)
    expected = separation(pair_scores(known, first, second), is_same)
    assert found.tar_at_far == expected.tar_at_far
    assert found.tar_at_far[1e-2] is not None


def naive_identification(probes, own, gallery, people, rank, rate):
    scores = normalize(probes) @ normalize(gallery).T
    mated = [
        (row, row[people == person][0])
        for row, person in zip(scores, own, strict=True)
        if person in people
    ]
    others = [row.max() for row, person in zip(scores, own, strict=True) if person not in people]
    limit = sorted(others, reverse=True)[int(rate * len(others))]
    at_rank = np.mean([np.sum(row > mate) < rank for row, mate in mated])
    return at_rank, np.mean([mate == row.max() and mate > limit for row, mate in mated])


@pytest.mark.parametrize("chunk_entries", [1, 100, 2**24])
def test_identification_equals_loops(rng, monkeypatch, chunk_entries):
    monkeypatch.setattr(templates, "_CHUNK_ENTRIES", chunk_entries)
    persons = rng.normal(size=(40, DIM))
    people = rng.permutation(40)[:25]
    own = rng.integers(0, 40, 160)
    probes = persons[own] + rng.normal(size=(160, DIM))
    found = identify(probes, own, persons[people], people)
    for rank in (1, 5, 10):
        at_rank, tpir = naive_identification(probes, own, persons[people], people, rank, 0.1)
        assert found.rank_rates[rank] == pytest.approx(at_rank, abs=1e-12)
        assert found.tpir_at_fpir[0.1] == pytest.approx(tpir, abs=1e-12)
    assert 0 < tpir < found.rank_rates[1] < found.rank_rates[5] < 1
    assert found.num_mated == np.isin(own, people).sum()
    assert found.num_mated + found.num_unmated == 160
    assert found.tpir_at_fpir[1e-3] is None


def test_a_draw_with_another_person_is_no_hit():
    found = identify(np.eye(2)[:1], [0], np.eye(2)[[0, 0]], [0, 1])
    assert (found.rank_rates[1], found.rank_rates[5]) == (0, 1)
    assert set(found.tpir_at_fpir.values()) == {None}


X, IDS = np.eye(3), np.arange(3)
KNOWN = Templates(IDS, X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: template_embeddings(X, IDS[:2], IDS), "template_ids"),
        (lambda: template_embeddings(X, IDS, IDS[:2]), "media_ids"),
        (lambda: template_embeddings(X[0], IDS, IDS), "embeddings: has shape"),
        (lambda: template_embeddings(X[:0], IDS[:0], IDS[:0]), "embeddings: has shape"),
        (lambda: template_embeddings(0 * X, IDS, IDS), "templates: row 0 is zero"),
        (lambda: pair_scores(KNOWN, [0, 5, -1], [0, 1, 2]), "first_ids: 2 ids have no template"),
        (lambda: pair_scores(KNOWN, [0], [0, 1]), "first_ids and second_ids: 1 and 2"),
        (lambda: identify(X, IDS[:2], X, IDS), "probe_subjects"),
        (lambda: identify(X, IDS, X, IDS[:2]), "gallery_subjects"),
        (lambda: identify(X, IDS, X[:, :2] + 1, IDS), "dims 3 and 2 differ"),
        (lambda: identify(X, IDS, X, [0, 0, 1]), "a person is there twice"),
        (lambda: identify(X, IDS + 9, X, IDS), "no probe has its person"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
