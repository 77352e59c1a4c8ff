import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import meshes, sphere
from hyperface_jax.errors import InputError
from hyperface_jax.packing import (
    Annealed,
    GallerySubspace,
    Loop,
    PackingProblem,
    solve,
    starts,
)
from hyperface_jax.packing.constraints import gallery_pull
from hyperface_jax.packing.subspaces import covariance, fitted, moments_of

DIM, Q, ROWS = 16, 3, 90


@pytest.fixture(scope="module")
def known():
    """A gallery around a plane of three directions and a mean, in a little noise."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(DIM, Q + 1)))[0]
    along = rng.normal(size=(ROWS, Q)) * [0.6, 0.5, 0.4]
    rows = np.c_[np.ones(ROWS), along] @ basis.T + 0.02 * rng.normal(size=(ROWS, DIM))
    return basis, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _outside(basis, x):
    x = np.asarray(x, float)
    return np.linalg.norm(x - x @ basis @ basis.T, axis=1)


def test_the_shrinkage_is_that_of_scikit_learn(known):
    from sklearn.covariance import ledoit_wolf

    @jax.jit
    def shrunk(rows):
        return covariance(jax.tree.map(lambda leaf: leaf.sum(axis=0), moments_of(rows, 5)))

    rows = known[1][:40]
    expected, share = ledoit_wolf(rows.astype(float))
    found = shrunk(rows)
    rebuilt = np.asarray(found.directions) * found.shrunk[None] @ np.asarray(found.directions).T
    assert share > 0.005
    np.testing.assert_allclose(rebuilt, expected, atol=1e-6)


def test_the_number_of_directions_and_their_span_are_found(known):
    basis, gallery = known
    model = GallerySubspace.fit(gallery)
    # The length of the rows bends the plane a little, which may look like further directions.
    assert Q <= model.num_dims <= Q + 2
    three = GallerySubspace.fit(gallery, num_dims=Q)
    assert (three.num_dims, three.directions.shape) == (Q, (DIM, Q))
    # The model is of what the likelihood chose: the shared directions are the same.
    np.testing.assert_allclose(three.directions, model.directions[:, :Q], atol=1e-5)
    drawn = np.asarray(three.draw(jax.random.key(1), 4000))
    assert _outside(basis, drawn).max() < 0.1
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(drawn.mean(axis=0), gallery.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(gallery.T), atol=0.03)
    assert len(np.unique(drawn.round(4), axis=0)) == 4000


def test_left_out_rows_decide_as_in_scikit_learn():
    from sklearn.decomposition import PCA
    from sklearn.model_selection import KFold

    rng = np.random.default_rng(1)
    rows = rng.normal(size=(ROWS, DIM)) * np.linspace(2, 0.2, DIM) ** 2 + 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    order = np.argsort(np.arange(ROWS) % 5, kind="stable")  # the folds of KFold are runs of rows
    scores = [
        sum(
            PCA(q, svd_solver="full").fit(rows[order][kept]).score(rows[order][left])
            for kept, left in KFold(5).split(rows)
        )
        for q in range(1, DIM)
    ]
    # scikit-learn's noise is of an unbiased covariance, which moves a likelihood but not its order here.
    assert GallerySubspace.fit(rows).num_dims == 1 + int(np.argmax(scores))


def test_rows_of_zeros_do_not_count(known):
    gallery = known[1]
    padded = np.zeros((96, DIM), np.float32)
    padded[:ROWS] = gallery
    one = GallerySubspace.fit(gallery, num_dims=Q)
    two = fitted(jnp.asarray(padded), Q)
    np.testing.assert_allclose(one.deviations, two.deviations, atol=1e-5)


def test_the_foot_is_the_projection(known):
    basis, gallery = known
    model = GallerySubspace.fit(gallery, num_dims=Q)
    x = sphere.sample_uniform(jax.random.key(2), 30, DIM)
    foot = np.asarray(model.foot(x), float)
    span = np.linalg.qr(np.c_[model.mean, model.directions].astype(float))[0]
    projected = np.asarray(x, float) @ span @ span.T
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(foot, projected, atol=1e-5)
    assert _outside(basis, foot).max() < 0.1
    inside = model._replace(mean=model.directions[:, 0] * 0.3)
    np.testing.assert_allclose(inside.foot(inside.directions.T), inside.directions.T, atol=1e-5)


def test_identities_settle_in_the_subspace_on_any_devices(known):
    basis, gallery = known
    model = GallerySubspace.fit(gallery, num_dims=Q)
    problem = PackingProblem(num_points=24, dim=DIM, gallery=gallery, alpha=60.0, manifold=model)
    key, mesh = jax.random.key(1), meshes.make_mesh(jax.devices()[:3])
    start, sharded = (
        np.asarray(starts.points("subspace", problem, key, jitter=0.0, mesh=m))
        for m in (None, mesh)
    )
    np.testing.assert_allclose(start, sharded, atol=1e-5)
    x = np.asarray(solve(problem, key, num_steps=60, start="subspace", mesh=mesh).x)
    assert _outside(basis, x).max() < 0.15
    before, after = ((rows @ rows.T - 2 * np.eye(24)).max() for rows in (start, x))
    assert after < before - 0.05


def test_other_galleries_do_not_compile_again(known):
    gallery, traces = known[1], []

    @jax.jit
    def distance(problem, x):
        traces.append(problem.num_points)
        pull = gallery_pull(x, problem.gallery, manifold=problem.manifold)
        return pull.value

    x = jnp.asarray(gallery[:10])
    found = []
    for rows in (gallery, sphere.sample_uniform(jax.random.key(3), ROWS, DIM)):
        model = GallerySubspace.fit(rows, num_dims=Q)
        problem = PackingProblem(num_points=12, dim=DIM, gallery=gallery, manifold=model)
        found.append(float(distance(problem, x)))
    assert traces == [12]
    assert found[0] < 0.01 < 0.2 < found[1]


def test_each_restart_draws_its_own_start(known):
    problem = PackingProblem(num_points=10, dim=DIM, gallery=known[1])
    loop = Loop.of(Annealed(num_steps=1), problem, num_restarts=3)
    x = np.asarray(loop.init(problem, problem, jax.random.key(0), "subspace").now.x)
    assert x.shape == (3, 10, DIM)
    assert np.abs(x[0] - x[1]).max() > 0.1


def test_what_cannot_be_is_refused(known):
    gallery = known[1]
    with pytest.raises(InputError, match="gallery has 2 rows, and a subspace needs at least 3"):
        GallerySubspace.fit(gallery[:2])
    with pytest.raises(InputError, match="num_dims=16: must be less than the dimension 16"):
        GallerySubspace.fit(gallery, num_dims=16)
    with pytest.raises(InputError, match="is a subspace in 16 dimensions, not 8"):
        PackingProblem(num_points=4, dim=8, manifold=GallerySubspace.fit(gallery))
    few = PackingProblem(num_points=4, dim=DIM, gallery=gallery[:2])
    with pytest.raises(InputError, match="start='subspace': the gallery has 2 rows"):
        solve(few, jax.random.key(0), num_steps=1, start="subspace")
