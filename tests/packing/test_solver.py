import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import bounds, sphere
from hyperface_jax.packing import (
    Annealed,
    ClosestPair,
    Loop,
    MiniBatch,
    PackingProblem,
    Paper,
    solve,
    solve_restarts,
    starts,
)
from hyperface_jax.pairwise import max_cosine, sweep

KNOWN = [(4, 3, -1 / 3), (6, 3, 0.0), (12, 3, 1 / 5**0.5), (7, 6, -1 / 6), (16, 8, 0.0)]


@pytest.mark.parametrize(("num_points", "dim", "optimum"), KNOWN)
def test_finds_known_optima(key, num_points, dim, optimum):
    packing = solve(PackingProblem(num_points=num_points, dim=dim), key, num_steps=400)
    assert packing.max_cosine == pytest.approx(optimum, abs=2e-3)
    assert packing.gap >= -1e-6


def test_history_and_output_agree(key):
    packing = solve(PackingProblem(num_points=100, dim=8), key, num_steps=120)
    exact = jnp.max(jnp.where(jnp.eye(100, dtype=bool), -1, packing.x @ packing.x.T))
    assert packing.max_cosine == pytest.approx(float(exact), abs=1e-6)
    assert packing.history.max_cosine.shape == (120,)
    assert packing.max_cosine == pytest.approx(float(jnp.min(packing.history.max_cosine)), abs=1e-6)
    np.testing.assert_array_equal(packing.history.step, np.arange(120))
    assert packing.lower_bound.value == bounds.tightest(100, 8).value
    assert np.cos(packing.min_angle) == pytest.approx(packing.max_cosine, abs=1e-6)


def test_same_seed_same_bits_other_seed_other_points():
    problem = PackingProblem(num_points=90, dim=6)
    runs = [solve(problem, jax.random.key(s), num_steps=60).x for s in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert jnp.max(jnp.abs(runs[0] - runs[2])) > 0.1


def test_the_length_of_a_chunk_does_not_matter(key):
    problem = PackingProblem(num_points=90, dim=6)
    whole = Loop.of(Annealed(num_steps=60), problem)
    placed = whole.place(problem)
    one, _ = whole.advance(placed, whole.init(problem, placed, key, "uniform"), 60)
    state = whole.init(problem, placed, key, "uniform")
    for _ in range(4):
        state, _ = whole.advance(placed, state, 15)
    np.testing.assert_array_equal(one.now.x, state.now.x)
    np.testing.assert_array_equal(one.best.x, state.best.x)


METHODS = [Annealed(), Paper(), MiniBatch(batch_size=10)]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_works_with_x64_enabled(method, dtype):
    """Some libraries switch x64 on for the whole process; points keep their precision."""
    with jax.enable_x64(True):
        x = sphere.sample_uniform(jax.random.key(0), 40, 6, dtype)
        problem = PackingProblem(num_points=40, dim=6, gallery=x[:10])
        packing = solve(problem, jax.random.key(0), method=method, num_steps=20, start=x)
        assert packing.x.dtype == dtype


def test_callback_sees_every_step(key):
    seen = []
    solve(
        PackingProblem(num_points=20, dim=3),
        key,
        num_steps=130,
        callback=lambda progress: seen.extend(progress.records.step.tolist()),
    )
    assert seen == list(range(130))


def test_a_good_start_never_gets_worse(key):
    start = solve(PackingProblem(num_points=60, dim=5), key, num_steps=400)
    problem = PackingProblem(num_points=60, dim=5)
    again = solve(problem, key, num_steps=3, start=start.x)
    assert again.max_cosine <= start.max_cosine + 1e-7


def test_frozen_points_shape_the_packing(key):
    old = solve(PackingProblem(num_points=10, dim=3), key, num_steps=200)
    problem = PackingProblem(num_points=10, dim=3, frozen=old.x)
    new = solve(problem, key, num_steps=300)
    together = jnp.concatenate([old.x, new.x])
    scores = jnp.where(jnp.eye(20, dtype=bool), -1, together @ together.T)
    assert float(jnp.max(scores[10:])) == pytest.approx(new.max_cosine, abs=1e-6)
    assert new.max_cosine < 0.9, "ten more on the sphere, none on top of an old one"
    assert new.lower_bound == bounds.tightest(20, 3)


def test_one_new_point_beside_frozen_ones(key):
    frozen = jnp.eye(3)
    packing = solve(PackingProblem(num_points=1, dim=3, frozen=frozen), key, num_steps=300)
    np.testing.assert_allclose(packing.x[0], -np.ones(3) / 3**0.5, atol=2e-2)


def test_restarts_keep_the_best_and_extend(key):
    problem = PackingProblem(num_points=19, dim=3)
    few = solve(problem, key, num_restarts=2, num_steps=150)
    many = solve(problem, key, num_restarts=12, num_steps=150)
    assert many.max_cosine <= few.max_cosine + 1e-6
    assert many.history.max_cosine.shape == (150,)
    every = solve_restarts(problem, key, num_restarts=12, num_steps=150)
    assert every.x.shape == (12, 19, 3)
    assert jnp.min(every.max_cosine) == pytest.approx(float(many.max_cosine), abs=1e-5)


def _one_step(problem, method, key, start="uniform"):
    """Return the points before and after one step of a method."""
    one = Loop.of(method, problem)
    placed = one.place(problem)
    state = one.init(problem, placed, key, start)
    before = np.asarray(state.now.x)
    state, _ = one.advance(placed, state, 1)
    return before, np.asarray(state.now.x)


def test_paper_moves_one_pair_a_step(key):
    problem = PackingProblem(num_points=30, dim=5)
    before, after = _one_step(problem, Paper(num_steps=1), key)
    assert Paper().make_energy() == ClosestPair()
    evaluation = ClosestPair().evaluate(jnp.asarray(before))
    assert int(jnp.sum(jnp.any(evaluation.force != 0, axis=1))) == 2
    moved = np.abs(after - before).max(axis=1) > 1e-6
    assert moved.sum() == 2


def test_paper_first_step_is_adam_then_normalize(key):
    """Algorithm 1 written out in NumPy."""
    problem = PackingProblem(num_points=12, dim=4, gallery=jnp.eye(4), alpha=0.5)
    method = Paper(num_steps=1, learning_rate=0.1)
    before, after = _one_step(problem, method, key, start="gallery")
    x = before.astype(np.float64)
    scores = x @ x.T - 3 * np.eye(12)
    i, j = np.unravel_index(scores.argmax(), scores.shape)
    gradient = -0.5 / 12 * np.eye(4)[x.argmax(axis=1)]
    gradient[i] += x[j]
    gradient[j] += x[i]
    moved = x - 0.1 * gradient / (np.abs(gradient) + 1e-8)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(after, moved, atol=1e-5)


def test_paper_as_published_starts_at_rows_and_keeps_the_last_iterate(key):
    gallery = sphere.sample_uniform(key, 40, 6)
    problem = PackingProblem(num_points=30, dim=6, gallery=gallery)
    start = solve(problem, key, method=Paper(num_steps=0)).x
    scores = start @ gallery.T
    np.testing.assert_allclose(start, gallery[jnp.argmax(scores, axis=1)], atol=1e-7)
    last, best = (
        solve(problem, key, method=Paper(num_steps=60, learning_rate=0.1, track_best=track))
        for track in (False, True)
    )
    assert best.max_cosine < last.max_cosine
    jittered = solve(problem, key, method=Paper(num_steps=0, jitter=1e-2)).x
    assert 1e-3 < jnp.max(jnp.abs(jittered - start)) < 0.05


def _started(start, gallery, num_points, key):
    problem = PackingProblem(num_points=num_points, dim=gallery.shape[1]).on(None)
    object.__setattr__(problem, "gallery", gallery)
    return starts.points(start, problem, key, jitter=1e-3)


def test_the_farthest_rows_are_far_apart():
    x = np.random.default_rng(0).standard_normal((300, 8))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    rows = np.asarray(starts.farthest_rows(jnp.asarray(x, jnp.float32), 20, first=0))
    assert rows[0] == 0
    assert len(set(rows.tolist())) == 20

    def nearest(rows):
        return (x[rows] @ x[rows].T - 2 * np.eye(20)).max(axis=1).mean()

    assert nearest(rows) < nearest(np.arange(20)) - 0.1


def test_farthest_first_takes_the_row_whose_nearest_chosen_one_is_farthest(key):
    gallery = sphere.sample_uniform(key, 60, 6).at[7].set(0.0)
    start = np.asarray(_started("farthest", gallery, 20, key))
    scores = np.asarray(gallery) @ start.T
    chosen = np.argmax(scores, axis=0)
    assert len(set(chosen)) == 20
    assert 7 not in chosen
    np.testing.assert_allclose(scores.max(axis=0), 1, atol=1e-5)
    rows = np.delete(np.asarray(gallery), 7, axis=0)
    for i in range(1, 20):
        nearest = (rows @ start[:i].T).max(axis=1).min()
        np.testing.assert_allclose((start[i] @ start[:i].T).max(), nearest, atol=5e-3)
    by_chance = np.asarray(_started("gallery", gallery, 20, key))
    closest = [(x @ x.T - 2 * np.eye(20)).max() for x in (start, by_chance)]
    assert closest[0] < closest[1]
    many = _started("farthest", gallery, 80, key)
    np.testing.assert_allclose(jnp.linalg.norm(many, axis=1), 1, atol=1e-6)
    assert len(np.unique(np.asarray(many), axis=0)) == 80


def test_from_gallery_takes_rows_and_fills_up(key):
    gallery = sphere.sample_uniform(key, 30, 6)
    few = _started("gallery", gallery, 20, key)
    nearest = jnp.argmax(few @ gallery.T, axis=1)
    assert len(set(nearest.tolist())) == 20
    assert jnp.min(jnp.max(few @ gallery.T, axis=1)) > 0.999
    many = _started("gallery", gallery, 50, key)
    np.testing.assert_allclose(jnp.linalg.norm(many, axis=1), 1, atol=1e-6)


def test_a_start_that_does_not_fit_is_refused(key):
    problem = PackingProblem(num_points=4, dim=3)
    for start, message in [
        (jnp.ones((4, 2)), r"start has shape \[4, 2\]"),
        (jnp.eye(3), "3 rows and num_points is 4"),
        ("gallery", "no gallery"),
        ("random", "start='random'"),
        (lambda key, n, d: jnp.ones((n, d + 1)), r"shape \[4, 4\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            solve(problem, key, start=start)


@pytest.mark.fully_optimized
@pytest.mark.parametrize("with_gallery", [False, True])
def test_a_step_needs_little_memory(with_gallery):
    """At n = 20,000 and d = 512, under 256 MiB beyond points, force and optimizer state."""
    n, d = 20_000, 512
    gallery = sphere.sample_uniform(jax.random.key(0), 8, d) if with_gallery else None
    problem = PackingProblem(num_points=n, dim=d, gallery=gallery)
    lean = Loop.of(Annealed(), problem)
    temporary = lean.lower(problem, 10).compile().memory_analysis().temp_size_in_bytes
    force = 4 * n * d
    assert temporary - force < 256 * 2**20


def test_mini_batches_move_every_point_and_pack(key):
    problem, method = PackingProblem(num_points=203, dim=8), MiniBatch(batch_size=50)
    before, after = _one_step(problem, method, key)
    assert np.all(np.abs(after - before).max(axis=1) > 1e-6)
    packing = solve(problem, key, method=method, num_steps=400)
    assert packing.max_cosine < (before @ before.T - 3 * np.eye(203)).max() - 0.2
    exact = packing.history.max_cosine[packing.history.is_exact]
    assert 1 <= len(exact) <= 60
    assert packing.max_cosine <= float(jnp.min(exact)) + 1e-6


def test_mini_batches_with_gallery_and_frozen(key):
    gallery = sphere.sample_uniform(key, 100, 8)
    frozen = sphere.sample_uniform(jax.random.key(5), 30, 8)
    problem = PackingProblem(num_points=100, dim=8, gallery=gallery, frozen=frozen)
    method = MiniBatch(batch_size=25, num_steps=100)
    start = solve(problem, key, method=method, num_steps=0)
    assert solve(problem, key, method=method).max_cosine < start.max_cosine - 0.1


def test_mini_batches_refuse_row_max_energies():
    with pytest.raises(ValueError, match="must sum a pair function"):
        MiniBatch(pair_energy=ClosestPair())


def test_the_best_restart_counts_also_where_last_iterates_do(key):
    problem = PackingProblem(num_points=12, dim=3)
    method = Paper(num_steps=40, learning_rate=0.1)
    every = solve_restarts(problem, key, method=method, num_restarts=5)
    best = solve(problem, key, method=method, num_restarts=5)
    assert best.max_cosine == pytest.approx(float(jnp.min(every.max_cosine)), abs=1e-5)
    assert jnp.min(every.max_cosine) < every.max_cosine[0] - 1e-3, "else the test shows nothing"


def test_mini_batches_remember_meetings_near_a_gallery_only():
    method = MiniBatch(batch_size=250)
    assert method.resolve(2000, 128).b2 == 0.9
    assert method.resolve(2000, 128, near_gallery=True).b2 == 0.975
    assert MiniBatch(b2=0.5).resolve(2000, 128, near_gallery=True).b2 == 0.5
    assert method.resolve(300, 128, near_gallery=True).b2 == 0.9


def test_mini_batches_stay_apart_where_a_gallery_pulls_hard():
    """With forces that forget their meetings, the mean cosine to the nearest other point is 0.66."""
    gallery = sphere.normalize(sphere.sample_uniform(jax.random.key(0), 600, 24) + 0.15)
    problem = PackingProblem(num_points=400, dim=24, gallery=gallery, alpha=2.0)
    method = MiniBatch(num_steps=480, batch_size=50, relax=False)
    packing = solve(problem, jax.random.key(1), method=method)
    assert jnp.mean(sweep(packing.x, reduction=max_cosine())) < 0.6
    assert jnp.mean(jnp.max(packing.x @ gallery.T, axis=1)) > 0.9
