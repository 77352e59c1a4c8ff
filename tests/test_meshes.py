"""Meshes, and rows over their devices."""

import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from hyperface_jax import meshes


def _distance(a, b):
    return sum(abs(i - j) for i, j in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "shape", [(8, 8), (16, 16), (2, 2, 2), (3, 4), (4, 3), (3, 3, 2), (1, 6, 5)]
)
def test_a_cycle_visits_neighbors_and_closes(shape):
    cells = meshes.hamiltonian_cycle(shape)
    assert sorted(cells) == sorted(itertools.product(*map(range, shape)))
    assert all(_distance(a, b) == 1 for a, b in itertools.pairwise(cells))
    assert _distance(cells[0], cells[-1]) == 1


@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (4,), (7, 1)])
def test_a_grid_without_a_cycle_gets_a_path(shape):
    cells = meshes.hamiltonian_cycle(shape)
    assert sorted(cells) == sorted(itertools.product(*map(range, shape)))
    assert all(_distance(a, b) == 1 for a, b in itertools.pairwise(cells))


def _chip(number, coords, core=0, slice_index=0):
    return SimpleNamespace(id=number, coords=coords, core_on_chip=core, slice_index=slice_index)


def test_tpu_devices_are_ordered_around_their_slice():
    cells = list(itertools.product(range(1), range(2), range(4)))[::-1]
    chips = [
        _chip(i, (x, y + 4, z), slice_index=s) for s in (1, 0) for i, (x, y, z) in enumerate(cells)
    ]
    ordered = meshes.neighbor_order(chips)
    assert [chip.slice_index for chip in ordered] == [0] * 8 + [1] * 8
    for part in (ordered[:8], ordered[8:]):
        hops = [_distance(a.coords, b.coords) for a, b in itertools.pairwise([*part, part[0]])]
        assert set(hops) == {1}


def test_part_of_a_slice_falls_back_to_numbers():
    chips = [_chip(2, (1, 1, 0)), _chip(0, (0, 0, 0)), _chip(1, (0, 1, 0))]
    assert [chip.id for chip in meshes.neighbor_order(chips)] == [0, 1, 2]


@pytest.mark.parametrize("num_rows", [1, 7, 8, 100, 2047, 4096, 20_000, 125_000, 1_000_003])
@pytest.mark.parametrize("parts", [1, 3, 8, 256])
def test_padding_is_even_and_small(num_rows, parts):
    size = meshes.padded_size(num_rows, parts)
    assert size % parts == 0
    local = -(-num_rows // parts)
    assert 0 <= size // parts - local <= max(local // 8, 7)


def test_each_device_gets_its_rows(tmp_path):
    rows = np.arange(30, dtype=np.float32).reshape(10, 3) + 1
    np.save(tmp_path / "rows.npy", rows)
    mesh = meshes.make_mesh(jax.devices()[:4])
    x = meshes.shard_rows(np.load(tmp_path / "rows.npy", mmap_mode="r"), mesh)
    assert x.shape == (12, 3)
    np.testing.assert_array_equal(x[:10], rows)
    assert not np.asarray(x[10:]).any()
    assert [shard.data.shape for shard in x.addressable_shards] == [(3, 3)] * 4
