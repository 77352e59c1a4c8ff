"""Solvers whose rows are spread over devices find the packing of one device."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import PackingProblem, meshes, solve, sphere
from hyperface_jax.packing import Annealed, Loop, MiniBatch, Paper, starts
from hyperface_jax.packing.blocks import evaluate_blocks, exchange
from hyperface_jax.pairwise import Sweep


def _mesh(count):
    return meshes.make_mesh(jax.devices()[:count])


def _packed(problem, count, method, start=None):
    mesh = None if count is None else _mesh(count)
    return solve(problem, jax.random.key(1), method=method, start=start, mesh=mesh)


@pytest.mark.parametrize(("num_points", "count"), [(2048, 8), (1021, 3)])
def test_eight_devices_and_three_give_the_packing_of_one(num_points, count):
    problem = PackingProblem(num_points=num_points, dim=96)
    one = _packed(problem, None, Annealed(num_steps=30))
    many = _packed(problem, count, Annealed(num_steps=30))
    assert many.x.shape == (num_points, 96)
    np.testing.assert_allclose(many.x, one.x, atol=1e-5)
    assert many.max_cosine == pytest.approx(float(one.max_cosine), abs=2e-6)


# Opposite shards of an even ring meet once more; the methods take turns.
METHODS = [
    (2, Annealed(num_steps=12)),
    (3, Paper(num_steps=12, track_best=True)),
    (3, MiniBatch(num_steps=12, num_groups=6, batch_size=8)),
]


@pytest.mark.parametrize(("count", "method"), METHODS, ids=["Annealed", "Paper", "MiniBatch"])
def test_all_sets_are_sharded_too(method, count):
    keys = jax.random.split(jax.random.key(3), 3)
    gallery = sphere.normalize(sphere.sample_uniform(keys[0], 301, 12) + 0.3)
    problem = PackingProblem(
        num_points=101,
        dim=12,
        gallery=gallery,
        keep_out=sphere.sample_uniform(keys[1], 47, 12),
        keep_out_cosine=0.7,
        frozen=sphere.sample_uniform(keys[2], 29, 12),
    )
    one = _packed(problem, None, method, "gallery")
    many = _packed(problem, count, method, "gallery")
    # Sums in another order: 3e-5 was seen after the paper's steps.
    np.testing.assert_allclose(many.x, one.x, atol=1e-4)
    assert many.violations == one.violations == 0
    for name in ("energy", "gallery_cosine", "keep_out_cosine", "mean_nearest_cosine"):
        want, got = getattr(one.history, name), getattr(many.history, name)
        np.testing.assert_allclose(got, want, atol=2e-5, err_msg=name)


def test_the_front_door_takes_a_mesh():
    problem = PackingProblem(num_points=37, dim=6)
    one = solve(problem, jax.random.key(0), num_steps=10)
    many = solve(problem, jax.random.key(0), num_steps=10, mesh=_mesh(8))
    np.testing.assert_allclose(many.x, one.x, atol=1e-5)


@pytest.mark.parametrize("count", [1, 8])
def test_mini_batches_depend_on_groups_not_on_devices(count):
    problem = PackingProblem(num_points=1000, dim=16)
    method = MiniBatch(num_steps=40, num_groups=24, batch_size=16)
    one, many = _packed(problem, None, method), _packed(problem, count, method)
    np.testing.assert_allclose(many.x, one.x, atol=1e-5)
    assert many.max_cosine == pytest.approx(float(one.max_cosine), abs=1e-6)


def test_mini_batches_in_groups_spread_the_points():
    problem = PackingProblem(num_points=1000, dim=16)
    method = MiniBatch(num_steps=200, num_groups=2, batch_size=250)
    start = _packed(problem, None, Annealed(num_steps=0))
    assert _packed(problem, None, method).max_cosine < start.max_cosine - 0.1


def _state(method, problem, mesh=None):
    """Return a loop, its placed problem and its first state."""
    driver = Loop.of(method, problem, Sweep(mesh))
    placed = driver.place(problem)
    return driver, placed, driver.init(problem, placed, jax.random.key(0), "uniform")


def test_rows_keep_their_devices_and_nothing_compiles_twice():
    mesh = _mesh(8)
    driver, placed, state = _state(
        Annealed(num_steps=20), PackingProblem(num_points=600, dim=8), mesh
    )
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None
    )
    for index in range(3):
        state, _ = driver.advance(placed, state, 5)
        assert len(compiled) == 1, f"after scan {index}"
        rows = (state.now.x, state.best.x, state.now.row, *jax.tree.leaves(state.now.opt_state))
        for leaf in rows:
            wanted = meshes.rows(mesh) if leaf.ndim else meshes.replicated(mesh)
            assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim)


STARTS = [("uniform", 70), ("points", 70), ("gallery", 70), ("gallery", 20), ("farthest", 70)]


@pytest.mark.parametrize(("start", "num_faces"), STARTS)
def test_the_start_is_the_same_on_any_mesh(start, num_faces):
    points = np.asarray(sphere.sample_uniform(jax.random.key(9), 50, 4))
    gallery = sphere.sample_uniform(jax.random.key(8), num_faces, 4)
    problem = PackingProblem(num_points=50, dim=4, gallery=gallery)
    found = []
    for mesh in (None, _mesh(3), _mesh(8)):
        driver = Loop.of(Annealed(), problem, Sweep(mesh))
        given = points if start == "points" else start
        found.append(np.asarray(driver.initial_points(problem, jax.random.key(2), given)))
    for x in found[1:]:
        np.testing.assert_allclose(x[:50], found[0], atol=1e-7)
        assert not x[50:].any()


def test_no_device_holds_the_gallery_to_begin_from_it():
    mesh, key = _mesh(8), jax.eval_shape(lambda: jax.random.key(0))
    faces = jax.ShapeDtypeStruct((1600, 24), jnp.float32, sharding=meshes.rows(mesh))
    make = starts._sharded_gallery_maker(mesh)
    shape = 4000, 24, 4000
    text = make.lower(starts._random_order, shape, 1600, 1e-3, key, faces).compile().as_text()
    assert "f32[200,24]" in text
    assert not any(f"f32[{rows},24]" in text for rows in (1600, 4000))


@pytest.mark.fully_optimized
@pytest.mark.parametrize("method", [Annealed(), MiniBatch()], ids=lambda m: type(m).__name__)
def test_a_million_points_on_eight_devices_need_little_more_than_the_state(method):
    """Points, best points, force and momentum are 4 arrays of n x d; tests/test_tpu_aot.py has the
    bound without the best points, for which the CPU compiler makes one copy too many."""
    n, d = 1_000_000, 512
    problem = PackingProblem(num_points=n, dim=d)
    driver = Loop.of(replace(method, num_steps=20), problem, Sweep(_mesh(8)))
    memory = driver.lower(problem, 2).compile().memory_analysis()
    ideal = 4 * (4 * n * d) / 8
    assert memory.argument_size_in_bytes + memory.temp_size_in_bytes <= 1.3 * ideal


def test_without_the_best_iterate_the_last_one_counts():
    problem = PackingProblem(num_points=40, dim=5)
    driver, placed, state = _state(Annealed(num_steps=60, track_best=False), problem)
    assert state.best is None
    state, _ = driver.advance(placed, state, 60)
    lean, best = (
        solve(problem, jax.random.key(0), method=Annealed(num_steps=60, track_best=track))
        for track in (False, True)
    )
    np.testing.assert_array_equal(lean.x, state.now.x)
    assert lean.max_cosine == pytest.approx(float(best.max_cosine), abs=0.01)


def test_coarse_steps_come_first_and_count_for_nothing():
    problem = PackingProblem(num_points=60, dim=8)
    method = Annealed(num_steps=100, coarse_steps=70)
    driver = replace(Loop.of(method, problem), chunk=50)
    assert [driver.chunk_at(step) for step in (0, 50, 70, 98)] == [50, 20, 30, 2]
    seen = []
    packing = solve(problem, jax.random.key(0), method=method, callback=seen.append)
    np.testing.assert_array_equal(packing.history.is_exact, np.arange(100) >= 70)
    assert packing.best_step >= 70
    exact = solve(problem, jax.random.key(0), num_steps=100)
    assert packing.max_cosine == pytest.approx(float(exact.max_cosine), abs=0.02)


# Exchange between groups


@pytest.mark.parametrize("count", [None, 2, 4])
def test_an_exchange_moves_whole_rows(count):
    mesh = None if count is None else _mesh(count)
    x = jax.random.normal(jax.random.key(0), (4 * 11, 3))
    row = jnp.arange(44)
    moved, ids = exchange([x, row], jax.random.key(5), 4, mesh)
    assert sorted(ids.tolist()) == list(range(44))
    np.testing.assert_array_equal(moved, x[ids])
    groups = ids.reshape(4, 11) // 11
    # Two rows from every group, and three that stayed.
    for number, group in enumerate(groups):
        counts = np.bincount(group, minlength=4) - 3 * (np.arange(4) == number)
        assert counts.tolist() == [2, 2, 2, 2]


def test_after_exchanges_all_pairs_are_equally_likely_to_share_a_group():
    groups, size, trials = 4, 8, 4000
    n = groups * size

    @jax.jit
    def together(key):
        row = jnp.arange(n)
        for hop in range(3):
            row = exchange(row, jax.random.fold_in(key, hop), groups)
        group = jnp.zeros(n, jnp.int32).at[row].set(jnp.arange(n) // size)
        return (group[:, None] == group[None, :]).astype(jnp.float32)

    keys = jax.random.split(jax.random.key(0), trials)
    share = np.mean(jax.lax.map(together, keys, batch_size=500), axis=0)
    off_diagonal = share[~np.eye(n, dtype=bool)]
    expected = (size - 1) / (n - 1)
    error = np.sqrt(expected * (1 - expected) / trials)
    assert abs(off_diagonal.mean() - expected) < 1e-6
    assert np.abs(off_diagonal - expected).max() < 5 * error
    started_together = np.kron(np.eye(groups), np.ones((size, size))) - np.eye(n) > 0
    assert abs(share[started_together].mean() - expected) < 0.01


def test_group_forces_are_unbiased_over_the_arrangements():
    """Average over arrangements and shuffles: groups and blocks estimate the full force."""
    from hyperface_jax.packing import Riesz

    energy, n = Riesz(2.0), 24
    x = sphere.sample_uniform(jax.random.key(0), n, 4)
    full = energy.evaluate(x).force

    @jax.jit
    def estimate(key):
        order_key, block_key = jax.random.split(key)
        order = jax.random.permutation(order_key, n)
        force = evaluate_blocks(energy, x[order], block_key, 3, num_groups=2).force
        return jnp.zeros_like(force).at[order].set(force)

    keys = jax.random.split(jax.random.key(1), 4000)
    mean = np.mean(jax.lax.map(estimate, keys, batch_size=500), axis=0)
    assert np.linalg.norm(mean - full) / np.linalg.norm(full) < 0.1


def test_groups_that_devices_cannot_share_are_refused():
    problem = PackingProblem(num_points=1000, dim=4)
    with pytest.raises(ValueError, match="3 devices cannot share"):
        solve(problem, jax.random.key(0), method=MiniBatch(num_groups=8), mesh=_mesh(3))
    with pytest.raises(ValueError, match="too few to exchange"):
        MiniBatch(num_groups=8).resolve(50, 4)


def test_default_groups_suit_many_device_counts():
    from hyperface_jax.packing.minibatch import default_num_groups

    for n, devices in itertools.product([1_000_000, 10**7], [1, 2, 3, 4, 6, 8, 12, 24]):
        assert default_num_groups(n, 4096, devices) == 24
    assert default_num_groups(10**7, 4096, 256) == 768
    assert default_num_groups(2000, 250) == 1
