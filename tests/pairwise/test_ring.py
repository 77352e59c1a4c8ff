"""Shards that meet round a ring give what one device gives."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import meshes, sphere
from hyperface_jax.pairwise import (
    Sweep,
    count_above,
    k_nearest,
    max_cosine,
    nearest,
    pair_sum,
    ring,
)


def _exp_pair(scores):
    weight = jnp.exp(10.0 * scores)
    return weight, 10.0 * weight


REDUCTIONS = {
    "pair_sum": pair_sum(_exp_pair),
    "nearest": nearest(),
    "max_cosine": max_cosine(),
    "count_above": count_above(0.3),
    "k_nearest": k_nearest(3),
}


MESHES = [1, 2, 3, 8]
SHAPES = [(7, None), (100, 4), (97, 5), (600, None)]
WITHIN = [
    (name, num_devices, SHAPES[(i + j) % len(SHAPES)], None)
    for i, name in enumerate(REDUCTIONS)
    for j, num_devices in enumerate(MESHES)
]
BETWEEN = [
    (name, *case, num_columns)
    for name, case, num_columns in zip(
        itertools.cycle(REDUCTIONS),
        itertools.product(MESHES, SHAPES),
        itertools.cycle([3, 333, 333, 3]),
        strict=False,
    )
]


@pytest.mark.parametrize(("name", "num_devices", "shape", "num_columns"), WITHIN + BETWEEN)
def test_parity(key, name, num_devices, shape, num_columns):
    """Within a set every reduction meets every mesh; otherwise they take turns over the shapes."""
    num_points, block_size = shape
    mesh = meshes.make_mesh(jax.devices()[:num_devices])
    x = sphere.sample_uniform(key, num_points, 6)
    y = None if num_columns is None else sphere.sample_uniform(jax.random.key(1), num_columns, 6)
    want = Sweep(implementation="reference")(x, y, reduction=REDUCTIONS[name])
    columns = None if y is None else meshes.shard_rows(y, mesh)
    found = jax.jit(
        lambda x, y: Sweep(mesh, block_size=block_size)(x, y, reduction=REDUCTIONS[name])
    )(meshes.shard_rows(x, mesh), columns)
    for got, expected in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        assert got.sharding.is_equivalent_to(meshes.rows(mesh), got.ndim)
        scale = np.abs(np.asarray(expected, np.float64)).max()
        np.testing.assert_allclose(got[:num_points], expected, rtol=2e-5, atol=2e-6 * scale)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_rows_of_zeros_are_no_points(key, name):
    x = sphere.sample_uniform(key, 60, 5)
    hole = x.at[17].set(0.0)
    rest = jnp.delete(x, 17, axis=0)
    for sweep in (
        Sweep(implementation="reference"),
        Sweep(block_size=16, implementation="blockwise"),
    ):
        swept = jax.jit(partial(sweep, reduction=REDUCTIONS[name]))
        found, want = (jax.tree.leaves(swept(points))[0] for points in (hole, rest))
        np.testing.assert_allclose(jnp.delete(found, 17, axis=0), want, rtol=1e-5)
        assert np.isin(found[17], (0.0, -np.inf)).all()


@pytest.mark.parametrize("count", [50, 150])
def test_take_finds_rows_on_any_device(key, mesh, count):
    y = sphere.sample_uniform(key, 101, 4)
    index = jax.random.randint(key, (count,), 0, 101).at[3].set(2**31 - 1)
    index = jnp.pad(index, (0, meshes.padded_size(count, mesh.size) - count))
    taken = Sweep(mesh).take(meshes.shard_rows(y, mesh), index)
    want = Sweep().take(y, index)
    np.testing.assert_array_equal(taken, want)
    assert not want[3].any()


def test_a_shard_travels_in_chunks():
    assert ring.count_chunks(125_000, 500) == 50
    assert ring.count_chunks(8192, 512) == 4
    assert ring.count_chunks(97, 40) == 1


@pytest.mark.fully_optimized
def test_half_a_round_is_enough():
    """Each device meets three others in full and the opposite one for its own rows only."""
    mesh = meshes.make_mesh(jax.devices()[:8])
    x = jax.ShapeDtypeStruct((4096, 32), jnp.float32, sharding=meshes.rows(mesh))
    text = jax.jit(lambda x: Sweep(mesh)(x, reduction=max_cosine())).lower(x).compile().as_text()
    assert "all-gather" not in text
    assert "4096,32" not in text.split("ENTRY")[1], "no device holds all rows"
