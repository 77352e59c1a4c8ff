"""Sweeps of blocks from disc against plain NumPy."""

import jax
import numpy as np
import pytest

from hyperface_jax import meshes
from hyperface_jax.pairwise import Sweep, count_above, k_nearest, nearest, streamed, sweep_streamed

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
