import numpy as np
import pytest

from hyperface_jax import meshes, sphere
from hyperface_jax.pairwise import Sweep, max_cosine, nearest, parts
from hyperface_jax.pairwise.parts import sweep_in_parts


@pytest.fixture
def x(key):
    return sphere.sample_uniform(key, 900, 8)


@pytest.fixture
def many_parts(monkeypatch):
    monkeypatch.setattr(parts, "_FLOPS_OF_A_PART", 900**2 * 8 / 6.5)


@pytest.mark.parametrize("block_size", [None, 64, 900])
@pytest.mark.parametrize("reduction", [nearest, max_cosine])
def test_parts_add_up_to_the_whole_bit_by_bit(x, reduction, block_size, many_parts):
    shares = []
    sweep = Sweep(block_size=block_size)
    found = sweep_in_parts(x, reduction=reduction(), sweep=sweep, progress=shares.append)
    expected = sweep(x, reduction=reduction())
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))
    assert len(shares) == 7
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_parts_have_about_the_same_number_of_tiles():
    tiles = [
        sum(100 - block for block in range(first, stop)) for first, stop, _ in parts._parts(100, 5)
    ]
    assert sum(tiles) == 100 * 101 / 2
    assert max(tiles) < 1.2 * min(tiles)


def test_a_mesh_sweeps_at_once(x, mesh, many_parts):
    shares = []
    sharded = meshes.shard_rows(x, mesh)
    found = sweep_in_parts(
        sharded, reduction=max_cosine(), sweep=Sweep(mesh), progress=shares.append
    )
    np.testing.assert_allclose(found[:900], Sweep()(x, reduction=max_cosine()), atol=1e-6)
    assert shares == [1.0]
