"""The study: its instrument, its arms, and the differences that it reports."""

import numpy as np
import pytest

from benchmarks import closed_loop, instrument
from hyperface_jax import evaluation


def test_the_instrument_gives_the_figures_of_all_pairs():
    rng = np.random.default_rng(0)
    persons = np.repeat(np.arange(200), 4)
    x = rng.standard_normal((200, 32))[persons] + 1.2 * rng.standard_normal((800, 32))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    found, expected = instrument.figures_of(unit, persons), evaluation.all_pairs(unit, persons)
    assert found["eer"] == pytest.approx(expected.separation.eer, abs=1e-3)
    for name, far in (("tar_at_far_1e-3", 1e-3), ("tar_at_far_1e-4", 1e-4)):
        assert found[name] == pytest.approx(expected.separation.tar_at_far[far])
    assert found["rank_1"] == pytest.approx(expected.rank_1)


def test_a_rate_that_cannot_be_measured_is_none():
    unit, persons = np.eye(4)[[0, 0, 1, 1]], np.array([0, 0, 1, 1])
    found = instrument.figures_of(unit, persons)
    assert found["tar_at_far_1e-3"] is None
    assert found["rank_1"] == 1


def test_half_of_the_images_are_in_the_second_circumstances():
    frontal, profile = (
        instrument.images_of(0, "frontal-profile", 6)[:, rows]
        for rows in (slice(0, 2), slice(2, 4))
    )
    # Two frontal pictures of a person are more alike than a frontal one and a profile.
    among = np.abs(frontal[:, 0].astype(int) - frontal[:, 1]).mean()
    across = np.abs(frontal[:, 0].astype(int) - profile[:, 0]).mean()
    assert across > among


def test_every_arm_has_a_baseline_that_is_an_arm():
    entries = closed_loop.entries()
    for entry in entries.values():
        assert entry.baseline in entries
        assert entries[entry.baseline].size == entry.size
    for part in closed_loop.parts().values():
        assert len({entry.arm.name for entry in part}) == len(part)


def test_arms_of_a_size_train_on_as_many_images():
    entries = closed_loop.entries()
    for name in ("unpacked-3-images", "through", "packed-24-images"):
        arm, size = entries[name].arm, entries[name].size
        images_per_id = arm.images_per_id or size.images_per_id
        assert closed_loop._epochs(arm, size) * images_per_id == 12 * 12


def _run(eer):
    faces = {"gallery_cosine": 0.5, "nearest_before": 0.1, "nearest_after": 0.2}
    faces |= {"target_cosine": 0.9, "within_cosine": None}
    figures = {"eer": eer, "tar_at_far_1e-3": 0.5, "tar_at_far_1e-4": None, "rank_1": 0.4}
    return {"identities": faces, "sets": {"easy": figures}}


def test_gains_are_differences_within_a_seed():
    arms = {
        "unpacked": {"0": _run(0.05), "1": _run(0.07), "2": _run(0.5)},
        "packed": {"0": _run(0.04), "1": _run(0.05)},
    }
    rows = {row["name"]: row for row in closed_loop.table_of("packing", {"arms": arms})}
    assert set(rows) == {"unpacked", "packed"}
    gain = rows["packed"]["gain"]
    assert gain["mean"] == pytest.approx(0.015)
    assert gain["error"] == pytest.approx(0.005)
    assert rows["packed"]["num_seeds"] == 2
    assert rows["unpacked"]["gain"]["mean"] == 0
    assert rows["packed"]["within_cosine"] == {"mean": None, "error": None}
    found = closed_loop.difference({"arms": arms}, "packed", "unpacked")
    assert found["mean"] == pytest.approx(-0.015)
