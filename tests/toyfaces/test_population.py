import numpy as np
import pytest
from PIL import Image

from hyperface_jax.errors import InputError
from hyperface_jax.io.verification_files import read_verification_set
from hyperface_jax.recognition.sources import open_source
from hyperface_jax.toyfaces import (
    BENCHMARKS,
    ROLES,
    benchmark_pairs,
    image_counts,
    image_nuisance,
    sample_identities,
    sample_nuisance,
    split_key,
    unpack_nuisance,
    write_folder,
    write_pairs,
)
from hyperface_jax.toyfaces.population import GROUP_SHARES

KEY = split_key(0, "test")


def test_a_person_depends_on_the_key_and_the_number_only():
    whole = sample_identities(KEY, 50)
    part = sample_identities(KEY, 20, start=30)
    np.testing.assert_array_equal(whole.latents[30:], part.latents)
    np.testing.assert_array_equal(whole.group[30:], part.group)


def test_roles_and_worlds_share_nobody():
    sets = [
        np.asarray(sample_identities(split_key(s, r), 200).latents) for s in (0, 1) for r in ROLES
    ]
    rows = np.concatenate(sets)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_groups_are_unequal_and_traits_correlated():
    people = sample_identities(KEY, 4000)
    shares = np.bincount(people.group, minlength=len(GROUP_SHARES)) / 4000
    np.testing.assert_allclose(shares, GROUP_SHARES, atol=0.03)
    latents = np.asarray(people.latents)
    spectrum = np.linalg.eigvalsh(np.corrcoef(latents.T))
    assert spectrum[-6:].sum() > 0.5 * spectrum.sum()
    means = np.stack([latents[people.group == g].mean(0) for g in range(len(GROUP_SHARES))])
    apart = np.linalg.norm(means[:, None] - means[None], axis=2)
    assert apart[~np.eye(len(means), dtype=bool)].min() > 1


def test_a_picture_depends_on_the_key_the_person_and_its_number_only():
    person, picture = np.repeat(np.arange(5), 4), np.tile(np.arange(4), 5)
    whole = np.asarray(image_nuisance(KEY, person, picture, preset="training"))
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_array_equal(
        whole[order], image_nuisance(KEY, person[order], picture[order], preset="training")
    )
    assert len(np.unique(whole, axis=0)) == 20


def test_counts_are_unequal_about_their_mean():
    counts = image_counts(KEY, 2000, mean=12)
    assert counts.min() >= 2
    assert counts.max() <= 48
    assert counts.mean() == pytest.approx(12, rel=0.1)
    assert counts.std() > 4


def _yaw(preset, side):
    view = unpack_nuisance(sample_nuisance(KEY, 500, preset=preset, side=side))
    return np.degrees(np.abs(np.asarray(view.yaw))), np.asarray(view.age)


def test_presets_do_what_they_are_called():
    assert np.quantile(_yaw("easy", 0)[0], 0.9) < 25
    assert _yaw("frontal-profile", 0)[0].max() < 25
    assert _yaw("frontal-profile", 1)[0].min() > 55
    assert _yaw("cross-pose", 1)[0].min() > 20
    assert _yaw("cross-age", 1)[1].min() > _yaw("cross-age", 0)[1].max() + 0.4


@pytest.mark.parametrize("preset", BENCHMARKS)
def test_benchmarks_have_as_many_pairs_of_each_kind(preset):
    pairs = benchmark_pairs(KEY, preset, 400)
    same = np.asarray(pairs.is_same)
    assert same.sum() == 200
    first, second = np.asarray(pairs.first), np.asarray(pairs.second)
    assert np.all((first == second).all(1) == same)
    groups = np.asarray(pairs.groups)
    within = groups[:, 0] == groups[:, 1]
    assert np.all(within[same])
    assert 80 <= within[~same].sum() <= 160
    same_view = np.asarray(pairs.first_nuisance == pairs.second_nuisance).all(axis=1)
    assert not same_view.any()


def test_folders_and_pairs_are_read_by_training_and_evaluation(tmp_path):
    people = sample_identities(KEY, 3)
    write_folder(tmp_path / "train", people.latents, [2, 3, 4], key=KEY, size=16)
    source = open_source(tmp_path / "train")
    assert np.bincount(source.labels).tolist() == [2, 3, 4]
    listed = write_pairs(tmp_path / "pairs", benchmark_pairs(KEY, "easy", 6), size=16)
    lines = listed.read_text().splitlines()
    assert lines[0] == "000000a.png 000000b.png 1"
    assert [line[-1] for line in lines] == list("101010")
    found = read_verification_set(listed)
    assert found.is_same.tolist() == [True, False] * 3
    with Image.open(tmp_path / "pairs" / "000005b.png") as image:
        assert image.size == (16, 16)


def test_nothing_is_overwritten_and_nothing_half_is_left(tmp_path):
    (tmp_path / "there").mkdir()
    people = sample_identities(KEY, 2)
    with pytest.raises(InputError, match="there already"):
        write_folder(tmp_path / "there", people.latents, [1, 1], key=KEY)
    with pytest.raises(InputError, match="counts: 1 for 2 persons"):
        write_folder(tmp_path / "new", people.latents, [1], key=KEY)
    with pytest.raises(InputError, match="size=2"):
        write_folder(tmp_path / "new", people.latents, [1, 1], key=KEY, size=2)
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: split_key(0, "juror"), "role: unknown 'juror'"),
        (lambda: sample_nuisance(KEY, 1, preset="noir"), "preset: unknown 'noir'"),
        (lambda: sample_nuisance(KEY, 1, preset="easy", side=2), "side=2"),
        (lambda: image_counts(KEY, 3, mean=1), "mean=1"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(InputError, match=named):
        call()
