"""Sweeps of blocks from disc against plain NumPy."""

import jax
import numpy as np
import pytest

from hyperface_jax import meshes
from hyperface_jax.pairwise import (
    Sweep,
    SweepState,
    count_above,
    k_nearest,
    nearest,
    streamed,
    sweep_streamed,
)

D = 6


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(streamed, "PASSING_ROWS", 40)
    monkeypatch.setattr(streamed, "HELD_ROWS", 64)
    monkeypatch.setattr(streamed, "SYMMETRIC_ROWS", 50)


def unit(num_rows, seed):
    x = np.random.default_rng(seed).normal(size=(num_rows, D))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def cosines(x, y, ids=None):
    scores = x.astype(np.float64) @ y.T.astype(np.float64)
    if ids is not None:
        scores[np.arange(len(x)), ids] = -np.inf
    return scores


def sweeps():
    mesh = meshes.make_mesh(jax.devices()[:3])
    return {
        "dense": Sweep(),
        "blocks": Sweep(implementation="blockwise", block_size=16),
        "mesh": Sweep(mesh=mesh),
    }


@pytest.mark.parametrize("name", sweeps())
@pytest.mark.parametrize("num_columns", [1, 64, 200])
@pytest.mark.parametrize("num_rows", [1, 137])
def test_two_sets(name, num_rows, num_columns):
    x, y = unit(num_rows, 0), unit(num_columns, 1)
    scores = cosines(x, y)
    found = sweep_streamed(x, y, reduction=nearest(), sweep=sweeps()[name])
    np.testing.assert_array_equal(found.column, scores.argmax(1))
    np.testing.assert_allclose(found.cosine, scores.max(1), atol=1e-6)
    counts = sweep_streamed(x, y, reduction=count_above(0.3), sweep=sweeps()[name])
    np.testing.assert_array_equal(counts, (scores > 0.3).sum(1))


@pytest.mark.parametrize("name", sweeps())
@pytest.mark.parametrize("num_rows", [2, 50, 137])
def test_a_set_with_itself(name, num_rows):
    x = unit(num_rows, 0)
    scores = cosines(x, x, np.arange(num_rows))
    found = sweep_streamed(x, reduction=nearest(), sweep=sweeps()[name])
    np.testing.assert_array_equal(found.column, scores.argmax(1))
    np.testing.assert_allclose(found.cosine, scores.max(1), atol=1e-6)


@pytest.mark.parametrize("name", ["dense", "blocks", "mesh"])
def test_own_columns_are_left_out(name):
    x = unit(137, 0)
    ids = np.random.default_rng(1).permutation(137)[:90].astype(np.int32)
    scores = cosines(x[ids], x, ids)
    found = sweep_streamed(x[ids], x, reduction=k_nearest(3), ids=ids, sweep=sweeps()[name])
    np.testing.assert_array_equal(found.column, np.argsort(-scores, axis=1)[:, :3])


@pytest.mark.parametrize("num_columns", [None, 200])
def test_progress_ends_with_all_pairs(num_columns):
    x = unit(137, 0)
    y = None if num_columns is None else unit(num_columns, 1)
    seen = []
    sweep_streamed(x, y, reduction=nearest(), on_block=lambda done, _: seen.append(done))
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert seen[-1] == (137 * 136 // 2 if y is None else 137 * 200)


def test_one_block_is_read_at_a_time(tmp_path):
    np.save(tmp_path / "x.npy", unit(137, 0))
    taken = []

    class Watched:
        rows = np.load(tmp_path / "x.npy", mmap_mode="r")
        shape = rows.shape

        def __getitem__(self, place):
            taken.append(place.stop - place.start)
            return self.rows[place]

    sweep_streamed(Watched(), unit(100, 1), reduction=nearest())
    assert max(taken) <= 40
    assert sum(taken) == 2 * 137


class Killed(Exception):
    pass


class Store:
    """Keeps the state after a number of pairs of blocks, and ends the sweep then."""

    def __init__(self, steps, state=None):
        self.steps, self.state, self.lasts = steps, state, []

    def load(self):
        return self.state

    def is_due(self, is_last, /):
        self.lasts.append(is_last)
        return len(self.lasts) == self.steps

    def save(self, state, /):
        self.state = state
        raise Killed


@pytest.mark.parametrize("name", ["dense", "mesh"])
@pytest.mark.parametrize("has_other", [False, True])
@pytest.mark.parametrize("reduction", [nearest(), count_above(0.3)], ids=["nearest", "count"])
def test_a_sweep_goes_on_where_it_was_killed(name, has_other, reduction):
    x, y = unit(137, 0), unit(100, 1) if has_other else None
    num_blocks, num_steps = ((4, 2), 8) if has_other else ((3, 3), 6)
    num_pairs = 137 * 100 if has_other else 137 * 136 // 2
    sweep, dones = sweeps()[name], []

    def swept(store):
        return sweep_streamed(
            x,
            y,
            reduction=reduction,
            sweep=sweep,
            store=store,
            on_block=lambda done, _: dones.append(done),
        )

    whole, expected = swept(None), list(dones)
    assert len(expected) == num_steps
    for steps in (1, 2, 5):
        store = Store(steps)
        dones.clear()
        with pytest.raises(Killed):
            swept(store)
        assert (store.state.num_blocks, store.state.num_done) == (num_blocks, steps)
        again = Store(0, store.state)
        found = swept(again)
        assert again.lasts == [False] * (num_steps - steps - 1) + [True]
        assert dones == expected
        for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
            np.testing.assert_array_equal(one, two)
    assert expected[-1] == num_pairs


def test_a_finished_sweep_is_not_done_again_and_one_of_other_blocks_is(monkeypatch):
    x, y = unit(137, 0), unit(100, 1)
    whole = sweep_streamed(x, y, reduction=nearest())
    store = Store(8)
    with pytest.raises(Killed):
        sweep_streamed(x, y, reduction=nearest(), store=store)
    assert store.lasts[-1]
    again = Store(0, store.state)
    found = sweep_streamed(x, y, reduction=nearest(), store=again)
    assert again.lasts == []
    np.testing.assert_array_equal(found.column, whole.column)
    other = Store(0, SweepState((5, 2), 3, [np.ones(137, np.float32), np.zeros(137, np.int32)]))
    found = sweep_streamed(x, y, reduction=nearest(), store=other)
    assert len(other.lasts) == 8
    np.testing.assert_array_equal(found.column, whole.column)
