"""JAX's own debuggers find nothing in a packing."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperface_jax as hf
from hyperface_jax import sphere

METHODS = {
    "annealed": hf.Annealed(),
    "paper": hf.Paper(),
    "mini-batches": hf.MiniBatch(batch_size=6, num_groups=2),
    "custom": hf.Custom(hf.pair_energy(lambda cosine: jnp.exp(4 * cosine))),
}
DEBUGGERS = {
    "nans and infs": (lambda: jax.debug_nans(True), lambda: jax.debug_infs(True)),
    "leaks": (jax.checking_leaks,),
    "strict types and ranks": (
        lambda: jax.numpy_dtype_promotion("strict"),
        lambda: jax.numpy_rank_promotion("raise"),
    ),
}


@pytest.fixture(scope="module")
def problem():
    keys = jax.random.split(jax.random.key(0), 3)
    return hf.PackingProblem(
        num_points=12,
        dim=4,
        gallery=sphere.sample_uniform(keys[0], 20, 4),
        keep_out=sphere.sample_uniform(keys[1], 3, 4),
        keep_out_cosine=0.8,
        frozen=sphere.sample_uniform(keys[2], 5, 4),
    )


def _packed(problem, method):
    return hf.solve(problem, jax.random.key(1), method=method, num_steps=4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("debugger", DEBUGGERS)
def test_debuggers_find_nothing(debugger, method, problem):
    debuggers = DEBUGGERS[debugger]
    if (debugger, method) == ("strict types and ranks", "paper"):
        debuggers = debuggers[1:]  # Optax's own Adam mixes types.
    with contextlib.ExitStack() as stack:
        for start in debuggers:
            stack.enter_context(start())
        packing = _packed(problem, METHODS[method])
        if method == "annealed":
            _packed(hf.PackingProblem(num_points=12, dim=4), METHODS[method])
    assert np.isfinite(packing.max_cosine)
    assert not [v for v in jax.tree.leaves(packing.history) if not np.isfinite(v).all()]


@pytest.mark.parametrize("method", ["annealed", "mini-batches"])
def test_without_jit_the_packing_is_the_same(method, problem):
    if method == "mini-batches":
        problem = hf.PackingProblem(num_points=12, dim=4, gallery=problem.gallery)
    found = []
    for context in (contextlib.nullcontext(), jax.disable_jit()):
        with context:
            found.append(hf.solve(problem, jax.random.key(1), method=METHODS[method], num_steps=1))
    np.testing.assert_allclose(found[0].x, found[1].x, atol=1e-5)


@pytest.mark.parametrize("y", [[1.0, 0, 0], [-1.0, 0, 0]], ids=["equal", "opposite"])
def test_geometry_has_finite_derivatives_where_points_meet(y):
    x, y = jnp.array([[1.0, 0, 0]]), jnp.array([y])
    assert np.isfinite(jax.grad(lambda x: sphere.distance(x, y).sum())(x)).all()
    assert np.isfinite(jax.jacobian(lambda x: sphere.log(x, y))(x)).all()
    assert np.isfinite(jax.jacobian(lambda u: sphere.exp(x, u))(jnp.zeros_like(x))).all()
