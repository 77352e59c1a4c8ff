"""What Python callers hand over: every kind of array gives one packing, and nonsense is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import hyperface_jax as hf
from hyperface_jax import sphere
from hyperface_jax.errors import InputError
from hyperface_jax.packing import Hinge, Riesz, SoftMax

N, D, STEPS = 30, 6, 40
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def rows():
    return np.asarray(sphere.sample_uniform(jax.random.key(1), 50, D))


@pytest.fixture(scope="module")
def clean(rows):
    return _packed(rows)


def _packed(rows):
    problem = hf.PackingProblem(num_points=N, dim=D, gallery=rows, frozen=rows[:3])
    return hf.solve(problem, KEY, num_steps=STEPS)


EXACT = {
    "jax": jnp.asarray,
    "float64": lambda rows: rows.astype(np.float64),
    "torch": torch.tensor,
    "torch float64 with gradient": lambda rows: torch.tensor(
        rows.astype(np.float64)
    ).requires_grad_(),
    "list": lambda rows: rows.tolist(),
    "Fortran order": np.asfortranarray,
}


@pytest.mark.parametrize("kind", EXACT)
def test_every_kind_of_array_gives_the_packing_of_float32_rows(kind, rows, clean):
    packing = _packed(EXACT[kind](rows))
    assert packing.x.dtype == np.float32
    np.testing.assert_array_equal(packing.x, clean.x)


NEAR = {
    "raw ArcFace rows": (lambda rows: rows * np.linspace(20, 30, len(rows))[:, None], 1e-5),
    "float16": (lambda rows: rows.astype(np.float16), 5e-3),
    "bfloat16": (lambda rows: jnp.asarray(rows, jnp.bfloat16), 5e-2),
    "torch bfloat16": (lambda rows: torch.tensor(rows, dtype=torch.bfloat16), 5e-2),
    "torch float16": (lambda rows: torch.tensor(rows).half(), 5e-3),
    "int": (lambda rows: np.round(rows * 1000).astype(np.int32), 1e-2),
}


@pytest.mark.filterwarnings("ignore:.*were normalized")
@pytest.mark.parametrize("kind", NEAR)
def test_other_rows_are_normalized_to_the_same_packing(kind, rows, clean):
    """Up to their own rounding: unit float32 rows inside, and as far apart as those of clean rows."""
    change, tolerance = NEAR[kind]
    packing = _packed(change(rows))
    assert packing.x.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(packing.x, axis=1), 1, atol=1e-6)
    assert packing.max_cosine == pytest.approx(clean.max_cosine, abs=max(tolerance, 1e-4))
    everyone = np.concatenate([packing.x, rows[:3]])
    scores = np.asarray(packing.x) @ everyone.T - 3 * np.eye(N, N + 3)
    assert packing.max_cosine == pytest.approx(scores.max(), abs=max(tolerance, 1e-6))


def test_a_warning_tells_of_raw_rows_and_none_of_clean_ones(rows, recwarn):
    hf.PackingProblem(num_points=N, dim=D, gallery=rows.astype(np.float16))
    assert not recwarn
    with pytest.warns(UserWarning, match=r"gallery: rows of length 25 to 25 were normalized"):
        hf.PackingProblem(num_points=N, dim=D, gallery=25 * rows)


def test_memory_maps_stay_on_disk(rows, tmp_path):
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert hf.PackingProblem(num_points=N, dim=D, gallery=mapped).gallery is mapped


def test_x64_packs_float64_sets_in_float64(rows):
    """Sets or starts in float64 make the whole packing so; everything else stays float32."""
    with jax.enable_x64(True):
        wide = hf.PackingProblem(num_points=N, dim=D, gallery=rows.astype(np.float64))
        assert hf.solve(wide, KEY, num_steps=3).x.dtype == np.float64
        plain = hf.PackingProblem(num_points=N, dim=D)
        assert hf.solve(plain, KEY, num_steps=3).x.dtype == np.float32


def _with_hole(value):
    rows = np.eye(D, dtype=np.float32)
    rows[2] = value
    return rows


PROBLEMS = {
    "float num_points": ({"num_points": 100.0}, r"num_points=100.0: give a whole number"),
    "bool": ({"num_points": True}, "num_points=True"),
    "zero": ({"num_points": 0}, "num_points=0: must be at least 1"),
    "one": ({"num_points": 1}, "at least 2 points"),
    "dim 1": ({"dim": 1}, "dim=1: must be at least 2"),
    "nan alpha": ({"alpha": float("nan")}, "alpha=nan: must be a finite number"),
    "negative alpha": ({"alpha": -1}, "alpha=-1"),
    "text alpha": ({"alpha": "much"}, "alpha='much': give a number"),
    "empty gallery": ({"gallery": np.zeros((0, D))}, "gallery has shape .*holds no rows"),
    "nan gallery": ({"gallery": _with_hole(np.nan)}, "gallery: row 2 is not finite"),
    "inf frozen": ({"frozen": _with_hole(np.inf)}, "frozen: row 2 is not finite"),
    "zero row": ({"gallery": _with_hole(0)}, "gallery: row 2 is zero"),
    "wrong dim": ({"gallery": np.eye(4)}, r"gallery has shape \[4, 4\]: give \[rows, 6\]"),
    "one row": ({"frozen": np.eye(D)[0]}, "frozen has shape"),
    "words": ({"gallery": ["a", "b"]}, "gallery: has elements of type"),
    "ragged": ({"gallery": [[1.0], [1.0, 2.0]]}, "gallery: cannot be read"),
    "complex": ({"gallery": np.eye(D) * 1j}, "gallery: has elements of type complex"),
    "keep-out without limit": ({"keep_out": np.eye(D)}, "keep_out and keep_out_cosine go together"),
    "limit 1": ({"keep_out": np.eye(D), "keep_out_cosine": 1.0}, r"must lie in \(-1, 1\)"),
    "few rows": ({"gallery": np.eye(D), "manifold": hf.LocalSpan(9)}, "gallery has 6 rows"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_that_cannot_be_is_refused(name):
    changes, message = PROBLEMS[name]
    with pytest.raises(InputError, match=message):
        hf.PackingProblem(**{"num_points": N, "dim": D, **changes})


SOLVES = {
    "fraction of a step": ({"num_steps": 20.5}, r"num_steps=20.5: give a whole number"),
    "negative steps": ({"num_steps": -1}, "num_steps=-1"),
    "class of a method": ({"method": hf.MiniBatch}, "method=MiniBatch: give an instance"),
    "an energy as method": ({"method": SoftMax(10.0)}, "method=SoftMax"),
    "name of a start": ({"start": "somewhere"}, "start='somewhere'"),
    "no gallery": ({"start": "farthest"}, "the problem has no gallery"),
    "rows of a start": ({"start": np.eye(D)}, "start has 6 rows and num_points is 30"),
    "zero restarts": ({"num_restarts": 0}, "num_restarts=0"),
    "too small a code": ({"start": hf.codes.best_known(10, 4)}, "10 points in 4 dimensions"),
    "two places": (
        {"sweep": hf.pairwise.Sweep(), "mesh": hf.meshes.make_mesh(jax.devices()[:2])},
        "mesh and sweep",
    ),
}


@pytest.mark.parametrize("name", SOLVES)
def test_a_run_that_cannot_be_is_refused(name):
    settings, message = SOLVES[name]
    with pytest.raises(InputError, match=message):
        hf.solve(hf.PackingProblem(num_points=N, dim=D), KEY, **settings)


@pytest.mark.parametrize("key", [0, None, np.zeros(3), jnp.zeros(2)])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(InputError, match=r"give a key, such as jax.random.key\(0\)"):
        hf.run(hf.PackingProblem(num_points=N, dim=D), key, num_steps=1)


def test_raw_keys_are_taken():
    problem = hf.PackingProblem(num_points=N, dim=D)
    old = hf.solve(problem, jax.random.PRNGKey(0), num_steps=3)
    np.testing.assert_array_equal(old.x, hf.solve(problem, KEY, num_steps=3).x)


ENERGIES = {
    "class": (lambda: hf.Custom(hf.SoftMax), "energy=SoftMax: give an instance"),
    "function": (lambda: hf.Custom(jnp.exp), "give one of hyperface_jax.packing, or pair_energy"),
    "no function": (lambda: hf.pair_energy(3.0), "phi=3.0"),
    "cold": (lambda: SoftMax(-3), "inverse_temperature=-3: must be above 0"),
    "nan": (lambda: SoftMax(float("nan")), "inverse_temperature=nan"),
    "exponent": (lambda: Riesz(0.0), "exponent=0: must be above 0"),
    "threshold": (lambda: Hinge(float("inf")), "threshold=inf"),
    "optimizer": (lambda: hf.Custom(Riesz(1.0), 0.1), "optimizer=0.1: give an optax"),
    "rate": (lambda: hf.Paper(learning_rate=0.0), "learning_rate=0"),
    "batch": (lambda: hf.MiniBatch(batch_size=1), "batch_size=1: must be at least 2"),
    "coarse": (lambda: hf.Annealed(num_steps=5, coarse_steps=6), "coarse_steps=6"),
    "objective": (lambda: hf.as_objective(hf.SoftMax), "give an instance"),
}


@pytest.mark.parametrize("name", ENERGIES)
def test_an_energy_or_method_that_cannot_be_is_refused(name):
    make, message = ENERGIES[name]
    with pytest.raises(InputError, match=message):
        make()


def test_more_points_than_memory_are_refused_at_once():
    with pytest.raises(InputError, match="num_points=1000000000: 512 dimensions need 11444 GiB"):
        hf.solve(hf.PackingProblem(num_points=10**9, dim=512), KEY)


def test_problems_can_be_compared(rows):
    problem = hf.PackingProblem(num_points=N, dim=D, gallery=rows)
    assert problem == problem
    assert problem != hf.PackingProblem(num_points=N, dim=D, gallery=rows)


def test_an_energy_with_arrays_says_how_to_mend_it():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Learned(hf.packing.PairEnergy):
        weights: object

        def pair(self, scores, *, step, shift):
            return scores, jnp.ones_like(scores)

    method = hf.Custom(Learned(np.ones(3)))
    with pytest.raises(InputError, match="cannot be hashed"):
        hf.solve(hf.PackingProblem(num_points=N, dim=D), KEY, method=method)


# Dispersion


def test_dispersion_names_the_prototypes():
    params = {"head": {"kernel": sphere.sample_uniform(KEY, 8, 4), "bias": jnp.zeros(8)}}
    zero = jax.tree.map(jnp.zeros_like, params)

    def updates(**settings):
        dispersion = hf.add_dispersion(1.0, **settings)
        return dispersion.update(zero, dispersion.init(params), params)[0]

    found = updates(leaf="head/kernel")
    assert found["head"]["kernel"].any()
    assert not found["head"]["bias"].any()
    with pytest.raises(InputError, match=r"'head/bias' has shape \[8\].*optax.partition"):
        updates()
    with pytest.raises(InputError, match=r"leaf=.kernels.*head/kernel"):
        updates(leaf="kernels")


def test_dispersion_over_a_mesh_is_that_of_one_device():
    mesh = hf.meshes.make_mesh(jax.devices()[:4])
    x = sphere.sample_uniform(KEY, 64, 8)
    spread = hf.meshes.shard_rows(x, mesh)
    zero = jnp.zeros_like(x)
    alone, shared = hf.add_dispersion(1.0), hf.add_dispersion(1.0, mesh=mesh)
    want, _ = alone.update(zero, alone.init(x), x)
    got, _ = jax.jit(shared.update)(jnp.zeros_like(spread), shared.init(spread), spread)
    np.testing.assert_allclose(got[:64], want, atol=1e-6)


@pytest.mark.parametrize("method", [hf.Annealed(num_steps=100), hf.Paper(num_steps=300)])
def test_equal_rows_of_a_start_come_apart(method):
    rows = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    start = np.concatenate([rows, rows]) / np.linalg.norm(rows, axis=1).mean()
    problem = hf.PackingProblem(num_points=40, dim=6)
    with pytest.warns(UserWarning, match="normalized"):
        packing = hf.solve(problem, KEY, method=method, start=start)
    assert packing.max_cosine < 0.99


def test_a_gallery_of_one_row_serves_many_identities():
    row = np.eye(6, dtype=np.float32)[:1]
    problem = hf.PackingProblem(num_points=20, dim=6, gallery=row)
    assert hf.solve(problem, KEY, num_steps=100).max_cosine < 0.5
