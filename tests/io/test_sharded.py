"""Rows written and read device by device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import meshes, sphere
from hyperface_jax.errors import InputError
from hyperface_jax.io import read_sharded, write_sharded


def test_rows_return_in_the_order_of_their_places(tmp_path, mesh):
    path = tmp_path / "rows.npy"
    rows = np.asarray(sphere.sample_uniform(jax.random.key(0), 53, 6))
    order = np.random.default_rng(0).permutation(53)
    x, row = meshes.shard_rows(rows[order], mesh), meshes.shard_rows(order, mesh)
    write_sharded(path, x, row, 53)
    np.testing.assert_array_equal(np.load(path), rows)
    again = read_sharded(path, mesh)
    assert again.sharding.is_equivalent_to(meshes.rows(mesh), 2)
    np.testing.assert_array_equal(again[:53], rows)
    assert not np.asarray(again[53:]).any()
    assert [p.name for p in tmp_path.iterdir()] == ["rows.npy"]


def test_rows_before_keep_their_bits_and_set_the_precision(tmp_path):
    before = np.random.default_rng(0).normal(size=(3, 4))
    x = jnp.ones((2, 4))
    write_sharded(tmp_path / "a.npy", x, jnp.array([1, 0]), 2, before=before)
    found = np.load(tmp_path / "a.npy")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found[:3], before)


def test_reading_scales_rows_and_refuses_those_without_direction(tmp_path, mesh):
    rows = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float16)
    np.save(tmp_path / "a.npy", rows)
    x = np.asarray(read_sharded(tmp_path / "a.npy", mesh))
    np.testing.assert_allclose(np.linalg.norm(x[:20], axis=1), 1, atol=1e-6)
    rows[7], rows[8, 2] = 0, np.nan
    np.save(tmp_path / "b.npy", rows)
    with pytest.raises(InputError, match=r"b\.npy: 2 of 20 rows are zero, NaN"):
        read_sharded(tmp_path / "b.npy", mesh)


def test_a_diverged_run_is_not_written(tmp_path):
    x = jnp.ones((4, 3)).at[2, 1].set(jnp.nan)
    with pytest.raises(InputError, match="not finite"):
        write_sharded(tmp_path / "a.npy", x, jnp.arange(4), 4)
    assert not (tmp_path / "a.npy").exists()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="create its folder first"):
        write_sharded(tmp_path / "no" / "a.npy", jnp.ones((4, 3)), jnp.arange(4), 4)
