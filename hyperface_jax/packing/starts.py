"""Where a packing starts: by name, from a spherical code, from given rows, or from a function."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.sharding import Mesh

from hyperface_jax import meshes, sphere
from hyperface_jax.codes import SphericalCode
from hyperface_jax.errors import InputError
from hyperface_jax.packing.inputs import unit_rows
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.packing.subspaces import FEWEST_ROWS, GallerySubspace, fitted, too_few
from hyperface_jax.pairwise import Sweep
from hyperface_jax.typing import Gallery, Indices, Points, PRNGKey, RowsLike

Named = Literal["uniform", "gallery", "farthest", "subspace"]
Start: TypeAlias = Named | SphericalCode | Callable[[Any, int, int], Any] | RowsLike
"""A name, a spherical code, rows ``[n, d]``, or a function ``(key, num_points, dim) -> rows``.

``"uniform"`` means independent uniform points. ``"gallery"`` means random gallery rows without
repetition; when they run out, further points are normalized means of two random rows, which lie between
faces. ``"farthest"`` means gallery rows far from each other, by farthest-first traversal: it starts
with a random row and always adds the row farthest from all rows chosen so far. Their smallest distance
is at least half of the best possible for that many rows (Gonzalez, *Clustering to minimize the maximum
intercluster distance*, 1985), at a cost of ``2 n m d`` FLOPs in n steps. ``"subspace"`` means draws
from the problem's :class:`.GallerySubspace`, or from one fitted to the gallery if the manifold is
another: new faces of a small gallery. A code is rotated at random. Of the rows given as a start, those
that repeat an earlier row are moved by a thousandth of a radian, because no force can separate equal
points; traced rows are left unchanged.
"""

_ROWS_AT_ONCE = 32_768
_NO_ROW = 2**31 - 1
_APART = 1e-3
"""Distance in radians by which repeated rows are moved."""


def checked(start: Any, problem: PackingProblem) -> Any:
    """Return a start that fits the problem; None becomes the gallery, if there is one, else uniform.

    Raises:
        InputError: the start does not fit the problem, or is not a start.
    """
    if start is None:
        return "uniform" if problem.gallery is None else "gallery"
    if isinstance(start, str):
        if start not in get_args(Named):
            names = ", ".join(map(repr, get_args(Named)))
            raise InputError(f"start={start!r}: give {names}, a spherical code, rows or a function")
        if start != "uniform" and problem.gallery is None:
            raise InputError(f"start={start!r}: the problem has no gallery")
        num_rows = 0 if problem.gallery is None else problem.gallery.shape[0]
        if start == "subspace" and num_rows < FEWEST_ROWS:
            raise InputError(f"start={start!r}: {too_few(num_rows)}")
        return start
    if isinstance(start, SphericalCode):
        _check_room(start, problem.num_points, problem.dim)
        return start
    if callable(start):
        return start
    rows = unit_rows("start", start, problem.dim)
    if rows.shape[0] != problem.num_points:
        raise InputError(f"start has {rows.shape[0]} rows and num_points is {problem.num_points}")
    return rows if isinstance(rows, Tracer) else _apart(rows)


def split(start: Any) -> tuple[Any, Any]:
    """Return a checked start as ``(rows, None)``, to be traced, or as a static ``(None, start)``."""
    if isinstance(start, (str, SphericalCode)) or callable(start):
        return None, start
    return start, None


def points(
    start: Any,
    problem: PackingProblem,
    key: PRNGKey,
    *,
    jitter: float,
    size: int | None = None,
    mesh: Mesh | None = None,
) -> Points:
    """Create the points of a start, padded and sharded; they are the same on any mesh.

    Args:
        start: the start, from :func:`checked`.
        problem: the problem, before its sets are placed on the mesh.
        key: seed.
        jitter: random displacement of a start from the gallery, in radians.
        size: number of rows to pad to with rows of zeros; None means no padding.
        mesh: devices that share the rows; none of them holds more than its own rows.

    Returns:
        The points, ``[size, d]``.
    """
    size = size or problem.num_points
    rows, _ = split(start)
    if rows is not None:
        if mesh is not None:
            return meshes.shard_rows(rows, mesh, size)
        return meshes.pad_rows(jnp.asarray(rows), size)
    shape = problem.num_points, problem.dim, size
    if start not in ("gallery", "farthest") or problem.gallery is None:
        return _sharded_maker(mesh)(start, shape, key, _source(start, problem))
    gallery, num_faces = problem.gallery, problem.gallery.shape[0]
    if mesh is not None:
        gallery = meshes.shard_rows(gallery, mesh)
    order = _farthest_order if start == "farthest" else _random_order
    return _sharded_gallery_maker(mesh)(order, shape, num_faces, jitter, key, gallery)


def _source(start: Any, problem: PackingProblem) -> Any:
    """Return what a start in the gallery's subspace is drawn from: its model, or the gallery."""
    if start != "subspace":
        return None
    is_model = isinstance(problem.manifold, GallerySubspace)
    return problem.manifold if is_model else problem.gallery


def _make(start: Any, shape: tuple[int, int, int], key: Any, source: Any) -> Points:
    num_points, dim, size = shape
    if start == "uniform":
        rows = sphere.sample_uniform(key, num_points, dim)
    elif start == "subspace":
        is_model = isinstance(source, GallerySubspace)
        rows = (source if is_model else fitted(jnp.asarray(source))).draw(key, num_points)
    elif isinstance(start, SphericalCode):
        rows = _code_rows(start, key, num_points, dim)
    else:
        rows = _function_rows(start, key, num_points, dim)
    return meshes.pad_rows(rows, size)


@lru_cache(maxsize=8)
def _sharded_maker(mesh: Mesh | None) -> Any:
    if mesh is None:
        return _make_on_one
    return jax.jit(_make, static_argnums=(0, 1), out_shardings=meshes.rows(mesh))


_make_on_one = partial(jax.jit, static_argnums=(0, 1))(_make)


@lru_cache(maxsize=8)
def _sharded_gallery_maker(mesh: Mesh | None) -> Any:
    make = partial(_gallery_rows, Sweep(mesh).take)
    statics = (0, 1, 2, 3)
    if mesh is None:
        return jax.jit(make, static_argnums=statics)
    return jax.jit(make, static_argnums=statics, out_shardings=meshes.rows(mesh))


def _function_rows(start: Any, key: PRNGKey, num_points: int, dim: int) -> Points:
    rows = jnp.asarray(start(key, num_points, dim))
    if rows.shape != (num_points, dim):
        raise InputError(
            f"start returned rows of shape {list(rows.shape)}: give [{num_points}, {dim}]"
        )
    return rows if rows.dtype == jnp.float64 else rows.astype(jnp.float32)


def _gallery_rows(
    take: Callable[..., Points],
    order: Callable[..., Indices],
    shape: tuple[int, int, int],
    num_faces: int,
    jitter: float,
    key: PRNGKey,
    faces: Gallery,
) -> Points:
    """Take a row of the gallery for each point, or the mean of two; the rest are rows of zeros.

    ``take(faces, index)`` selects rows of a gallery, which may be sharded and then has rows of zeros
    after its ``num_faces`` rows.
    """
    num_points, dim, size = shape
    order_key, mix_key, jitter_key = jax.random.split(key, 3)
    is_face = sphere.is_point(faces)[:num_faces]
    chosen = order(order_key, faces, is_face, num_points)
    first, second = _two_rows(chosen, mix_key, is_face, num_points)
    index = jnp.pad(
        jnp.stack([first, second], axis=1),
        ((0, size - num_points), (0, 0)),
        constant_values=_NO_ROW,
    )
    found = take(faces, index.ravel()).reshape(size, 2, dim)
    own, other = found[:, 0], found[:, 1]
    rows = jnp.where(index[:, :1] == index[:, 1:], own, sphere.normalize(own + other))
    if not jitter:
        return rows
    noise = meshes.pad_rows(_noise(jitter_key, (num_points, dim), rows.dtype, jitter), size)
    return sphere.normalize(rows + noise)


def _code_rows(code: SphericalCode, key: PRNGKey, num_points: int, dim: int) -> Points:
    """Make the first points of a code: ``2 n d^2`` FLOPs, and memory for a few extra blocks of rows."""
    rows = rotated_rows(code, sphere.sample_rotation(key, dim))
    num_blocks = -(-num_points // _ROWS_AT_ONCE)
    size = -(-num_points // num_blocks)
    # Blocks consist of strided rows, so that each device makes its own part of every block.
    index = jnp.arange(size)[None] * num_blocks + jnp.arange(num_blocks)[:, None]
    made = lax.map(rows, jnp.minimum(index, num_points - 1))
    return made.swapaxes(0, 1).reshape(-1, dim)[:num_points]


def rotated_rows(code: SphericalCode, rotation: Any) -> Callable[[Any], Any]:
    """Return a function that makes rotated rows of a code: ``index [k] -> points [k, d]``."""

    def rows(index: Any) -> Points:
        part = rotation[: code.dim]
        return sphere.normalize(jnp.matmul(code.rows(index), part, precision=lax.Precision.HIGHEST))

    return rows


def _random_order(key: PRNGKey, gallery: Gallery, is_face: Any, num_points: int) -> Indices:
    """Shuffle the gallery rows, with rows of zeros last."""
    del gallery, num_points
    order = jax.random.permutation(key, is_face.shape[0])
    return order[jnp.argsort(~is_face[order])]


def _farthest_order(key: PRNGKey, gallery: Gallery, is_face: Any, num_points: int) -> Indices:
    """Order as many gallery rows as needed by farthest-first traversal from a random row."""
    first = jnp.argmax(jnp.where(is_face, jax.random.uniform(key, is_face.shape), -1))
    return farthest_rows(gallery, min(num_points, is_face.shape[0]), first)


def farthest_rows(x: Gallery, num_rows: int, first: Any) -> Indices:
    """Choose rows far from each other by farthest-first traversal.

    Args:
        x: unit rows, ``[m, d]``; rows of zeros are chosen only when there is no other.
        num_rows: number of rows to choose, at most m.
        first: number of the row to start from.

    Returns:
        Numbers of the rows in the order of their choice, ``[num_rows]``.

    Cost: ``2 num_rows m d`` FLOPs.
    """

    def visit(i, state):
        order, nearest = state
        row = jnp.where(i == 0, first, jnp.argmin(nearest)).astype(jnp.int32)
        cosine = jnp.matmul(x, x[row], precision=lax.Precision.HIGHEST)
        # Chosen rows and rows of zeros count as infinitely near, so they are never chosen (again).
        nearest = jnp.maximum(nearest, cosine).at[row].set(jnp.inf)
        return order.at[i].set(row), nearest

    nearest = jnp.where(sphere.is_point(x), -jnp.inf, jnp.inf).astype(x.dtype)
    return lax.fori_loop(0, num_rows, visit, (jnp.zeros((num_rows,), jnp.int32), nearest))[0]


def _two_rows(order: Any, mix_key: PRNGKey, is_face: Any, num_points: int):
    """Choose two gallery rows to average for each point; they are equal until all rows are used."""
    num_rows = jnp.sum(is_face)
    point = jnp.arange(num_points)
    drawn = order[jax.random.randint(mix_key, (2, num_points), 0, num_rows)]
    own = order[jnp.minimum(point, order.shape[0] - 1)]
    is_own = point < num_rows
    return jnp.where(is_own, own, drawn[0]), jnp.where(is_own, own, drawn[1])


def _apart(rows: Any) -> Any:
    """Move rows that repeat an earlier row by ``_APART``, the same way each time."""
    seen: set[int] = set()
    repeated = []
    for i, row in enumerate(np.asarray(rows)):
        digest = hash(row.tobytes())
        if digest in seen:
            repeated.append(i)
        seen.add(digest)
    if not repeated:
        return rows
    moved = np.array(rows)
    again = jnp.asarray(moved[repeated])
    noise = _noise(jax.random.key(0), (len(repeated), again.shape[1]), again.dtype, _APART)
    moved[repeated] = sphere.normalize(again + noise)
    return moved


def _noise(key: PRNGKey, shape: tuple[int, int], dtype: Any, jitter: float) -> Points:
    return jax.random.normal(key, shape, dtype) * (jitter / shape[1] ** 0.5)


def _check_room(code: SphericalCode, num_points: int, dim: int) -> None:
    if code.num_points < num_points or code.dim > dim:
        raise InputError(
            f"start: {code.name} has {code.num_points} points in {code.dim} dimensions, and "
            f"{num_points} in {dim} are needed"
        )
