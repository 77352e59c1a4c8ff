"""Starts of a packing: functions ``(key, num_points, dim) -> points``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from hyperface_jax import sharding, sphere
from hyperface_jax.codes import SphericalCode

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from hyperface_jax.typing import Gallery, Points, PRNGKey

Initializer = Callable[[Any, int, int], Any]

_JITTER = 1e-3
_ROWS_AT_ONCE = 32_768


def uniform(key: PRNGKey, num_points: int, dim: int) -> Points:
    """Independent uniform points, ``[num_points, dim]``."""
    return sphere.sample_uniform(key, num_points, dim)


def from_gallery(gallery: Gallery) -> Initializer:
    """Start from random gallery rows, without repetition while they last.

    With more points than rows, the rest are normalised means of two random rows: they lie between
    faces. A perturbation of about 1e-3 rad separates duplicates, which no force could.
    """
    return _from_rows(gallery, _random_order)


def farthest_first(gallery: Gallery) -> Initializer:
    """Start from gallery rows far from each other, without repetition while they last.

    Farthest-first traversal: a random row, then always the row whose nearest chosen one is farthest.
    Its smallest distance is at least half of what any choice of so many rows reaches. Points stay on
    the manifold, and spread over it as a random choice does not.

    References:
        Gonzalez, *Clustering to minimize the maximum intercluster distance*, 1985.

    Cost: ``2 n m d`` FLOPs in n steps.
    """
    return _from_rows(gallery, _farthest_order)


def _from_rows(gallery: Gallery, order: Callable[..., Any]) -> Initializer:
    def initialize(key: PRNGKey, num_points: int, dim: int) -> Points:
        _check(gallery, dim)
        order_key, mix_key, jitter_key = jax.random.split(key, 3)
        faces = jnp.asarray(gallery)
        chosen = order(order_key, faces, num_points)
        first, second = _two_rows(chosen, mix_key, faces, num_points)
        mixed = sphere.normalize(faces[first] + faces[second])
        rows = jnp.where((first == second)[:, None], faces[first], mixed)
        return _jittered(jitter_key, rows)

    return initialize


@dataclass(frozen=True, eq=False)
class FromPoints:
    """Start from given rows, ``[num_points, d]``, as they are.

    Attributes:
        points: an array, or a memory map, of which a sharded solver reads its own rows only.
    """

    points: Any

    def __call__(self, key: PRNGKey, num_points: int, dim: int) -> Points:
        """Return the rows."""
        del key
        self.check(num_points, dim)
        return jnp.asarray(self.points, jnp.float32)

    def check(self, num_points: int, dim: int) -> None:
        """Raise ``ValueError`` unless the rows are ``[num_points, dim]``."""
        _check(self.points, dim)
        if self.points.shape[0] != num_points:
            raise ValueError(f"init has {self.points.shape[0]} rows and num_points is {num_points}")


def from_points(points: Points) -> Initializer:
    """Start from given rows, ``[num_points, d]``, as they are."""
    return FromPoints(points)


def from_code(code: SphericalCode) -> Initializer:
    """Start from the first points of a spherical code, rotated at random.

    Args:
        code: of enough points in at most as many dimensions, as from
            :func:`hyperface_jax.codes.best_known`.

    Cost: ``2 n d^2`` FLOPs; some arrays of 32,768 rows beside the result.
    """

    def initialize(key: PRNGKey, num_points: int, dim: int) -> Points:
        _check_room(code, num_points, dim)
        rows = rotated_rows(code, sphere.sample_rotation(key, dim))
        num_blocks = -(-num_points // _ROWS_AT_ONCE)
        size = -(-num_points // num_blocks)
        # Blocks of strided rows: each device makes its own part of every block.
        index = jnp.arange(size)[None] * num_blocks + jnp.arange(num_blocks)[:, None]
        points = lax.map(rows, jnp.minimum(index, num_points - 1))
        return points.swapaxes(0, 1).reshape(-1, dim)[:num_points]

    return initialize


def rotated_rows(code: SphericalCode, rotation: Any) -> Callable[[Any], Any]:
    """Return the function that makes rows of a code, rotated: ``index [k] -> points [k, d]``."""

    def rows(index: Any) -> Points:
        part = rotation[: code.dim]
        return sphere.normalize(jnp.matmul(code.rows(index), part, precision=lax.Precision.HIGHEST))

    return rows


def initial_points(
    initializer: Initializer,
    key: PRNGKey,
    num_points: int,
    dim: int,
    *,
    size: int | None = None,
    mesh: Mesh | None = None,
) -> Points:
    """Create a start, filled up with rows of zeros and sharded: the same points on any mesh.

    Args:
        initializer: a function of this module, or one of yours that can be traced.
        key: seed.
        num_points: n.
        dim: d.
        size: rows to fill up to; None fills up nothing.
        mesh: devices that share the rows; none holds more than its own.

    Returns:
        ``[size, d]``.
    """
    size = size or num_points

    def start() -> Points:
        return sharding.pad_rows(initializer(key, num_points, dim), size)

    if mesh is None:
        return start()
    if isinstance(initializer, FromPoints):
        initializer.check(num_points, dim)
        return sharding.shard_rows(initializer.points, mesh, size)
    return jax.jit(start, out_shardings=sharding.rows(mesh))()


def _random_order(key: PRNGKey, gallery: Gallery, num_points: int):
    """Shuffle the gallery rows; those without a point come last."""
    del num_points
    order = jax.random.permutation(key, gallery.shape[0])
    return order[jnp.argsort(~sphere.is_point(gallery)[order])]


def _farthest_order(key: PRNGKey, gallery: Gallery, num_points: int):
    """Order gallery rows by farthest-first traversal, as many as are needed."""
    is_point = sphere.is_point(gallery)
    start = jnp.argmax(jnp.where(is_point, jax.random.uniform(key, is_point.shape), -1))

    def visit(i, state):
        order, nearest = state
        row = jnp.where(i == 0, start, jnp.argmin(nearest)).astype(jnp.int32)
        cosine = jnp.matmul(gallery, gallery[row], precision=lax.Precision.HIGHEST)
        # Chosen rows and those without a point are as near as can be.
        nearest = jnp.maximum(nearest, cosine).at[row].set(jnp.inf)
        return order.at[i].set(row), nearest

    count = min(num_points, gallery.shape[0])
    nearest = jnp.where(is_point, -jnp.inf, jnp.inf).astype(gallery.dtype)
    return lax.fori_loop(0, count, visit, (jnp.zeros((count,), jnp.int32), nearest))[0]


def _two_rows(order: Any, mix_key: PRNGKey, gallery: Gallery, num_points: int):
    """Choose two gallery rows to average for each point: the same one twice while they last."""
    num_rows = jnp.sum(sphere.is_point(gallery))
    point = jnp.arange(num_points)
    drawn = order[jax.random.randint(mix_key, (2, num_points), 0, num_rows)]
    own = order[jnp.minimum(point, order.shape[0] - 1)]
    is_own = point < num_rows
    return jnp.where(is_own, own, drawn[0]), jnp.where(is_own, own, drawn[1])


def _jittered(key: PRNGKey, x: Points) -> Points:
    noise = jax.random.normal(key, x.shape, x.dtype) * (_JITTER / x.shape[1] ** 0.5)
    return sphere.normalize(x + noise)


def _check(rows: Points, dim: int) -> None:
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise ValueError(f"init has shape {rows.shape} and dim is {dim}: give [rows, {dim}]")


def _check_room(code: SphericalCode, num_points: int, dim: int) -> None:
    if code.num_points < num_points or code.dim > dim:
        raise ValueError(
            f"init: {code.name} has {code.num_points} points in {code.dim} dimensions, and "
            f"{num_points} in {dim} are needed"
        )
