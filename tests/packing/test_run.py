"""A packing is a JAX function: compiled once, traced anywhere, the same as on the host."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperface_jax as hf
from hyperface_jax import sphere
from hyperface_jax.packing import Riesz
from hyperface_jax.packing.api import _run

N, D, STEPS = 40, 6, 20


@pytest.fixture(scope="module")
def gallery():
    return sphere.sample_uniform(jax.random.key(7), 60, D)


def near(gallery, alpha=0.5):
    return hf.PackingProblem(num_points=N, dim=D, gallery=gallery, alpha=alpha)


METHODS = {
    "annealed": hf.Annealed(),
    "mini-batches": hf.MiniBatch(batch_size=20, num_groups=2),
    "custom": hf.Custom(Riesz(4.0)),
}


@pytest.mark.parametrize("name", METHODS)
def test_run_is_solve(name, gallery, key):
    settings = {"method": METHODS[name], "num_steps": STEPS}
    pure = jax.jit(partial(hf.run, **settings))(near(gallery), key)
    host = hf.solve(near(gallery), key, **settings)
    np.testing.assert_allclose(pure.x, host.x, atol=1e-5)
    assert float(pure.max_cosine) == pytest.approx(host.max_cosine, abs=1e-5)
    np.testing.assert_array_equal(pure.history.is_exact, host.history.is_exact)


@pytest.mark.parametrize("name", ["annealed", "mini-batches"])
def test_vmap_over_keys_gives_the_single_runs(name, gallery):
    keys = jax.random.split(jax.random.key(3), 3)
    run = partial(hf.run, method=METHODS[name], num_steps=STEPS)
    many = jax.vmap(lambda key: run(near(gallery), key))(keys)
    for i, key in enumerate(keys):
        one = run(near(gallery), key)
        np.testing.assert_allclose(many.x[i], one.x, atol=1e-5)
        assert float(many.max_cosine[i]) == pytest.approx(float(one.max_cosine), abs=1e-5)


def test_vmap_over_weights_and_galleries(gallery, key):
    alphas = jnp.array([0.0, 1.0, 4.0])
    galleries = jnp.stack([gallery, -gallery, gallery[::-1]])

    def one(alpha, rows):
        return hf.run(near(rows, alpha), key, num_steps=STEPS).max_cosine

    many = jax.vmap(one)(alphas, galleries)
    single = [float(one(float(a), rows)) for a, rows in zip(alphas, galleries, strict=True)]
    np.testing.assert_allclose(many, single, atol=1e-5)
    batched = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(near(g) for g in galleries))
    stacked = jax.vmap(lambda p: hf.run(p, key, num_steps=STEPS).max_cosine)(batched)
    assert stacked.shape == (3,)


def test_nested_in_a_scan(key):
    frozen = sphere.sample_uniform(key, 6, 4)

    def grow(frozen, key):
        problem = hf.PackingProblem(num_points=3, dim=4, frozen=frozen)
        packing = hf.run(problem, key, num_steps=STEPS)
        return jnp.concatenate([frozen[3:], packing.x]), packing.max_cosine

    keys = jax.random.split(key, 2)
    _, cosines = jax.lax.scan(grow, frozen, keys)
    for i in range(2):
        frozen, cosine = grow(frozen, keys[i])
        assert float(cosines[i]) == pytest.approx(float(cosine), abs=1e-5)


def test_keep_out_is_enforced_inside_jit(key):
    people = sphere.sample_uniform(jax.random.key(1), 30, D)
    problem = hf.PackingProblem(num_points=N, dim=D, keep_out=people, keep_out_cosine=0.8)
    packing = jax.jit(partial(hf.run, num_steps=STEPS))(problem, key)
    assert int(packing.violations) == 0
    assert float(jnp.max(packing.x @ people.T)) <= 0.8


class Compilations:
    """Counts what JAX compiles."""

    def __init__(self):
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._note)

    def _note(self, name, *_, **__):
        self.count += "backend_compile" in name


DOORS = {
    "solve": hf.solve,
    "run": hf.run,
    "restarts": partial(hf.solve, num_restarts=2),
    "paper": partial(hf.solve, method=hf.Paper()),
    "mesh": lambda *args, **settings: hf.solve(
        *args, mesh=hf.meshes.make_mesh(jax.devices()[:2]), **settings
    ),
    "mini-batches": partial(hf.solve, method=hf.MiniBatch(batch_size=10)),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_other_values_compile_nothing_anew(door, gallery):
    other, keys = np.asarray(-gallery), [jax.random.key(seed) for seed in range(2)]
    counter = Compilations()

    def pack(key, alpha, rows):
        problem = hf.PackingProblem(num_points=N, dim=D, gallery=rows, alpha=alpha)
        return jax.block_until_ready(door(problem, key, num_steps=17).x)

    pack(keys[0], 0.5, np.asarray(gallery))
    first = counter.count
    assert 0 < first <= 12
    pack(keys[1], 2, other)
    assert counter.count == first


def test_equal_methods_are_one_trace(key):
    """Solves with methods made anew, each with its own optimizer, share the compiled program."""
    problem = hf.PackingProblem(num_points=N, dim=D)
    hf.run(problem, key, method=hf.Annealed(num_steps=13))
    before = _run._cache_size()
    hf.run(problem, key, method=hf.Annealed(), num_steps=13)
    hf.run(problem, jax.random.key(5), num_steps=13)
    assert _run._cache_size() == before


def test_what_was_found_can_be_differentiated(key):
    x = hf.solve(hf.PackingProblem(num_points=N, dim=D), key, num_steps=STEPS).x
    gradient = np.asarray(jax.grad(hf.max_cosine)(x))
    scores = np.asarray(x @ x.T) - 3 * np.eye(N)
    i, j = np.unravel_index(scores.argmax(), scores.shape)
    assert set(np.flatnonzero(gradient.any(axis=1))) == {i, j}
    np.testing.assert_allclose(gradient[i], x[j], atol=1e-6)
    soft = jax.grad(hf.as_objective(hf.SoftMax(20.0)))(x)
    assert np.isfinite(np.asarray(soft)).all()


def test_max_cosine_is_exact_at_any_size():
    x = sphere.sample_uniform(jax.random.key(0), 3000, 8)
    scores = np.asarray(x, np.float64) @ np.asarray(x, np.float64).T
    assert float(hf.max_cosine(x)) == pytest.approx((scores - 3 * np.eye(3000)).max(), abs=1e-6)
    y = sphere.sample_uniform(jax.random.key(1), 70, 8)
    assert float(hf.max_cosine(x, y)) == pytest.approx(float(jnp.max(x @ y.T)), abs=1e-6)


# The regularized objective, and energies from a function


def test_the_regularized_objective_is_the_problems(gallery, key):
    people, frozen = (
        sphere.sample_uniform(key, 9, D),
        sphere.sample_uniform(jax.random.key(2), 5, D),
    )
    problem = hf.PackingProblem(
        num_points=N,
        dim=D,
        gallery=gallery,
        alpha=0.7,
        keep_out=people,
        keep_out_cosine=0.4,
        frozen=frozen,
    )
    x = sphere.sample_uniform(jax.random.key(4), N, D)
    objective = hf.as_objective(hf.SoftMax(20.0))

    def dense(x):
        everyone = jnp.concatenate([x, frozen])
        scores = everyone @ everyone.T
        index = jnp.arange(N + 5)
        is_pair = (index[:, None] != index[None]) & ((index[:, None] < N) | (index[None] < N))
        soft = jax.nn.logsumexp(jnp.where(is_pair, 20.0 * scores, -jnp.inf)) / 20.0
        pull = jnp.mean(1 - jnp.max(x @ gallery.T, axis=1))
        push = 200 * jnp.sum(jnp.maximum(x @ people.T - 0.39, 0) ** 2) / N
        return soft + 0.7 * pull + push

    value, gradient = jax.jit(jax.value_and_grad(objective))(x, problem=problem)
    want, slope = jax.jit(jax.value_and_grad(dense))(x)
    assert float(value) == pytest.approx(float(want), rel=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-3, atol=1e-6)
    bound = jax.jit(hf.as_objective(hf.SoftMax(20.0), problem))
    assert float(bound(x)) == pytest.approx(float(value), abs=1e-6)


def test_the_problem_of_an_objective_may_be_traced(gallery):
    x = sphere.sample_uniform(jax.random.key(4), N, D)
    objective = hf.as_objective(hf.SoftMax(20.0))

    def slope(alpha):
        return jax.grad(objective)(x, problem=near(gallery, alpha))

    many = jax.jit(jax.vmap(slope))(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(many[1], jax.jit(slope)(1.0), atol=1e-6)


def test_a_function_of_the_cosine_is_an_energy(key):
    """Its derivative is JAX's, also where the function is not finite for no pair at all."""
    x = sphere.sample_uniform(key, 50, 5)
    riesz = hf.pair_energy(lambda cosine: 1 / (2 - 2 * cosine))
    log = hf.pair_energy(lambda cosine: -jnp.log(2 - 2 * cosine))
    want, got = jax.jit(Riesz(2.0).evaluate)(x), jax.jit(riesz.evaluate)(x)
    np.testing.assert_allclose(got.value, want.value, rtol=1e-6)
    np.testing.assert_allclose(got.force, want.force, rtol=1e-4, atol=1e-7)
    assert np.isfinite(np.asarray(jax.jit(log.evaluate)(x).force)).all()
    problem = hf.PackingProblem(num_points=50, dim=5)
    packed = hf.solve(problem, key, method=hf.Custom(riesz), num_steps=200)
    assert packed.max_cosine < float(hf.max_cosine(x)) - 0.1


# What comes back


@pytest.fixture(scope="module")
def packing(gallery):
    return hf.solve(near(gallery), jax.random.key(0), num_steps=STEPS)


def test_a_packing_is_saved_and_read(packing, tmp_path):
    packing.save(tmp_path / "p.npz")
    again = hf.Packing.load(tmp_path / "p.npz")
    assert repr(again) == repr(packing)
    for want, got in zip(jax.tree.leaves(packing), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(got, want)
    assert again.gap == packing.gap
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"bad\.npz: is no packing"):
        hf.Packing.load(tmp_path / "bad.npz")


def test_one_line_says_what_it_is(packing, gallery):
    assert repr(packing).startswith("Packing(40 points in 6 dimensions, max cosine 0.")
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), packing)
    assert "side by side" in repr(many)
    assert "\n" not in repr(packing)


def test_polish_in_one_argument(key):
    problem = hf.PackingProblem(num_points=12, dim=3)
    packing = hf.solve(problem, key, num_steps=300, polish=True)
    assert packing.x.dtype == np.float64
    assert packing.max_cosine == pytest.approx(5**-0.5, abs=1e-9)
    np.testing.assert_allclose(packing.nearest, 5**-0.5, atol=1e-9)
    more = hf.PackingProblem(num_points=4, dim=3, frozen=packing.x)
    added = hf.solve(more, key, polish=True)
    scores = added.x @ np.concatenate([added.x, packing.x]).T
    np.fill_diagonal(scores, -1)
    assert added.max_cosine == pytest.approx(scores.max(), abs=1e-7), "frozen in float32"


def test_progress_is_printed(key, capsys):
    problem = hf.PackingProblem(num_points=20, dim=3)
    hf.solve(problem, key, num_steps=250, callback=hf.PrintProgress(every=0.0))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("step 100 of 250: max cosine 0.")
    assert "steps/s" in lines[-1]
    assert "0 s left" in lines[-1]
