import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import meshes, sphere
from hyperface_jax.packing import (
    Annealed,
    LocalSpan,
    MiniBatch,
    NearestRow,
    PackingProblem,
    solve,
)
from hyperface_jax.packing.constraints import gallery_pull


@pytest.fixture
def sets(key):
    x_key, y_key = jax.random.split(key)
    return sphere.sample_uniform(x_key, 40, 12), sphere.sample_uniform(y_key, 300, 12)


@pytest.mark.parametrize("k", [2, 5])
def test_the_foot_is_the_nearest_point_of_the_span(sets, k):
    x, gallery = sets
    pull = gallery_pull(x, gallery, manifold=LocalSpan(k, ridge=0.0))
    nearest = np.argsort(-np.asarray(x @ gallery.T), axis=1)[:, :k]
    angles = []
    for point, rows in zip(np.asarray(x, float), nearest, strict=True):
        basis, _ = np.linalg.qr(np.asarray(gallery, float)[rows].T)
        angles.append(np.linalg.norm(basis.T @ point))
    np.testing.assert_allclose(pull.cosine, angles, atol=1e-5)
    np.testing.assert_allclose(pull.value, 1 - np.mean(angles), atol=1e-6)


def test_the_force_is_the_gradient_while_the_neighbors_stay(sets):
    x, gallery = sets
    manifold = LocalSpan(4, ridge=0.0)
    pull = gallery_pull(x, gallery, manifold=manifold)
    direction = sphere.project(x, sphere.sample_uniform(jax.random.key(5), 40, 12))
    index = jnp.argsort(-(x @ gallery.T), axis=1)[:, :4]

    def value(step):
        moved = sphere.normalize(x + step * direction)
        return gallery_pull(moved, gallery, manifold=manifold, index=index).value

    slope = (value(1e-2) - value(-1e-2)) / 2e-2
    np.testing.assert_allclose(jnp.sum(pull.force * direction), slope, rtol=1e-2, atol=1e-4)


def test_one_neighbor_is_the_nearest_row(sets):
    x, gallery = sets
    row = gallery_pull(x, gallery)
    span = gallery_pull(x, gallery, manifold=LocalSpan(1, ridge=0.0))
    np.testing.assert_allclose(row.cosine, span.cosine, atol=1e-6)
    np.testing.assert_allclose(row.force, span.force, atol=1e-6)


def test_repeated_gallery_rows_and_holes_do_no_harm(sets):
    x, gallery = sets
    gallery = jnp.repeat(gallery[:10], 8, axis=0)
    x = x.at[3].set(0.0)
    pull = gallery_pull(x, gallery, manifold=LocalSpan(8))
    assert np.isfinite(np.asarray(pull.force)).all()
    assert not pull.force[3].any()
    nearest = jnp.max(x @ gallery.T, axis=1)
    np.testing.assert_allclose(pull.cosine, jnp.where(sphere.is_point(x), nearest, 0), atol=1e-3)


def test_points_settle_between_the_faces_of_a_great_circle():
    """Twelve faces on a circle, thirty identities: they fill it, and leave the rows behind."""
    angle = jnp.linspace(0, 2 * jnp.pi, 12, endpoint=False)
    gallery = jnp.stack([jnp.cos(angle), jnp.sin(angle), 0 * angle, 0 * angle], axis=1)
    gallery = sphere.normalize(gallery + 1e-3)
    far, near = (
        solve(
            PackingProblem(num_points=30, dim=4, gallery=gallery, alpha=50.0, manifold=manifold),
            jax.random.key(0),
            num_steps=300,
        ).x
        for manifold in (NearestRow(), LocalSpan(2))
    )
    off_circle = [float(jnp.max(jnp.abs(x[:, 2:]))) for x in (near, far)]
    assert off_circle[0] < 0.1
    closest = [float(jnp.max(x @ x.T - 2 * jnp.eye(30))) for x in (near, far)]
    assert closest[0] < closest[1] - 1e-3


@pytest.mark.parametrize("method", [Annealed(), MiniBatch(num_groups=3, batch_size=8)])
def test_shards_give_the_packing_of_one_device(sets, method):
    _, gallery = sets
    problem = PackingProblem(
        num_points=48, dim=12, gallery=gallery, alpha=1.0, manifold=LocalSpan(4)
    )
    one, many = (
        solve(problem, jax.random.key(1), method=method, num_steps=30, mesh=mesh).x
        for mesh in (None, meshes.make_mesh(jax.devices()[:3]))
    )
    np.testing.assert_allclose(one, many, atol=2e-4)


def test_more_neighbors_than_gallery_rows_are_refused(sets):
    _, gallery = sets
    with pytest.raises(ValueError, match="gallery has 300 rows"):
        PackingProblem(num_points=4, dim=12, gallery=gallery, manifold=LocalSpan(301))
    with pytest.raises(ValueError, match="num_neighbors=0"):
        LocalSpan(0)
