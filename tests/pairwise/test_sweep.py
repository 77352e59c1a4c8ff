"""Every implementation, reduction and awkward size against plain NumPy."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import sphere
from hyperface_jax.pairwise import count_above, k_nearest, max_cosine, nearest, pair_sum, sweep
from hyperface_jax.pairwise.blockwise import default_block_size
from hyperface_jax.pairwise.platforms import gpu_block, largest_block

BETA = 10.0
SIZES = {
    "blockwise": [(5, None), (64, 16), (100, 16), (97, 32), (700, None)],
    "reference": [(5, None), (97, 32)],
}
"""Points and rows of a block, which only the blockwise implementation cuts."""


def _exp_pair(scores):
    weight = jnp.exp(BETA * scores)
    return weight, BETA * weight


REDUCTIONS = {
    "pair_sum": pair_sum(_exp_pair),
    "nearest": nearest(),
    "max_cosine": max_cosine(),
    "count_above": count_above(0.3),
}


def _swept(x, y, **settings):
    return jax.jit(lambda x, y: sweep(x, y, **settings))(x, y)


def _expected(name, scores, y):
    if name == "pair_sum":
        weight = np.exp(BETA * scores)
        return weight.sum(1), BETA * weight @ y, scores.max(1)
    if name == "nearest":
        return scores.max(1), scores.argmax(1)
    if name == "max_cosine":
        return (scores.max(1),)
    return ((scores > 0.3).sum(1),)


CASES = [
    (implementation, name, *size, num_columns)
    for implementation in ("reference", "blockwise")
    for i, name in enumerate(REDUCTIONS)
    for j, size in enumerate(SIZES[implementation])
    for num_columns in (None, (1, 333)[(i + j) % 2])
]


@pytest.mark.parametrize(
    ("implementation", "name", "num_points", "block_size", "num_columns"), CASES
)
def test_parity(key, implementation, name, num_points, block_size, num_columns):
    """Every reduction within a set of every size; one column and many take turns."""
    x = sphere.sample_uniform(key, num_points, 6)
    y = None if num_columns is None else sphere.sample_uniform(key, num_columns + 3, 6)[3:]
    found = _swept(
        x, y, reduction=REDUCTIONS[name], block_size=block_size, implementation=implementation
    )
    columns = np.asarray(x if y is None else y, np.float64)
    scores = np.asarray(x, np.float64) @ columns.T
    if y is None:
        np.fill_diagonal(scores, -np.inf)
    for got, want in zip(jax.tree.leaves(found), _expected(name, scores, columns), strict=True):
        # Force terms of opposite signs cancel: compare on the scale of the largest.
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6 * np.abs(want).max())


@pytest.mark.parametrize(
    ("implementation", "num_points", "block_size", "num_columns"),
    [
        (implementation, *size, num_columns)
        for implementation, sizes in SIZES.items()
        for i, size in enumerate(sizes)
        for num_columns in (None, (3, 333)[i % 2])
    ],
)
def test_k_nearest(key, implementation, num_points, block_size, num_columns):
    x = sphere.sample_uniform(key, num_points, 6)
    y = x if num_columns is None else sphere.sample_uniform(jax.random.key(1), num_columns, 6)
    found = _swept(
        x,
        None if num_columns is None else y,
        reduction=k_nearest(5),
        block_size=block_size,
        implementation=implementation,
    )
    scores = np.array(x, np.float64) @ np.asarray(y, np.float64).T
    if num_columns is None:
        np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1)[:, :5]
    cosines = np.take_along_axis(scores, order, axis=1)
    count = int(np.isfinite(cosines[0]).sum())
    assert found.cosine.shape == found.column.shape == (num_points, 5)
    np.testing.assert_allclose(found.cosine[:, :count], cosines[:, :count], atol=1e-6)
    np.testing.assert_array_equal(found.column[:, :count], order[:, :count])
    assert np.all(np.asarray(found.cosine[:, count:]) == -np.inf)


def test_k_nearest_lists_equal_cosines_in_the_order_of_the_columns():
    x = jnp.array([[1.0, 0.0]])
    y = jnp.tile(jnp.array([[0.6, 0.8], [1.0, 0.0]]), (20, 1))
    for block_size in (3, 8, 40):
        found = sweep(
            x, y, reduction=k_nearest(4), block_size=block_size, implementation="blockwise"
        )
        assert found.column.tolist() == [[1, 3, 5, 7]]


def test_nearest_prefers_the_smallest_column_on_a_tie():
    x = jnp.tile(jnp.array([[1.0, 0.0]]), (40, 1))
    found = sweep(x, reduction=nearest(), block_size=8, implementation="blockwise")
    assert found.column.tolist() == [1] + [0] * 39


def test_a_single_point_has_no_neighbor():
    x = jnp.array([[1.0, 0.0]])
    assert sweep(x, reduction=max_cosine())[0] == -jnp.inf


def test_unknown_implementation_is_refused():
    with pytest.raises(NotImplementedError, match="cuda"):
        sweep(jnp.ones((2, 2)), reduction=max_cosine(), implementation="cuda")  # type: ignore[arg-type]


@pytest.mark.parametrize("largest", [512, 4096, 6784, 8192])
@pytest.mark.parametrize("num_rows", [1, 512, 2000, 10_000, 20_000, 1_000_000, 10_007, 32_769])
def test_default_blocks_waste_little(num_rows, largest):
    block = default_block_size(num_rows, largest)
    padded = -(-num_rows // block) * block
    assert block <= largest
    assert padded - num_rows <= max(0.02 * num_rows, 8)
    assert largest == 512 or block == num_rows or block % 8 == 0
    assert block >= min(num_rows, largest // 2)


@pytest.mark.parametrize(("num_rows", "block"), [(2000, 400), (5000, 500), (4096, 512), (512, 512)])
def test_default_blocks_leave_room_in_the_cache_where_they_can(num_rows, block):
    assert default_block_size(num_rows) == block


@pytest.mark.parametrize(
    ("gib", "side"), [(0.1, 512), (6, 3456), (16, 5760), (60, 8192), (141, 8192)]
)
def test_tiles_grow_with_the_memory_of_a_gpu(gib, side):
    found = gpu_block(gib * 2**30)
    assert found == side
    assert found == 512 or 4 * 4 * found**2 <= gib * 2**30 / 32


def test_a_gpu_tells_how_large_its_tiles_may_be(monkeypatch):
    assert largest_block() == 512
    gpu = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 6 * 2**30})
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu])
    assert largest_block() == 3456


@pytest.mark.fully_optimized
@pytest.mark.parametrize("num_points", [10_000, 20_000])
def test_value_and_force_sweep_needs_little_memory(num_points):
    x = jax.ShapeDtypeStruct((num_points, 512), jnp.float32)
    compiled = jax.jit(lambda x: sweep(x, reduction=REDUCTIONS["pair_sum"])).lower(x).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    rows = 4 * num_points * 512
    assert temporary - rows < 64 * 2**20, "beyond one force accumulator"


@pytest.mark.fully_optimized
def test_symmetric_sweep_visits_each_tile_once():
    """The compiled symmetric max sweep holds one score product a tile, and no n x n array."""
    x = jax.ShapeDtypeStruct((4096, 8), jnp.float32)
    text = jax.jit(lambda x: sweep(x, reduction=max_cosine())).lower(x).compile().as_text()
    assert "4096,4096" not in text
