"""Starts of a packing: functions ``(key, num_points, dim) -> points``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from hyperface_jax import sharding, sphere

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from hyperface_jax.typing import Gallery, Points, PRNGKey

Initializer = Callable[[Any, int, int], Any]

_JITTER = 1e-3


def uniform(key: PRNGKey, num_points: int, dim: int) -> Points:
    """Independent uniform points, ``[num_points, dim]``."""
    return sphere.sample_uniform(key, num_points, dim)


def from_gallery(gallery: Gallery) -> Initializer:
    """Start from random gallery rows, without repetition while they last.

    With more points than rows, the rest are normalised means of two random rows: they lie between
    faces. A perturbation of about 1e-3 rad separates duplicates, which no force could.
    """

    def initialize(key: PRNGKey, num_points: int, dim: int) -> Points:
        _check(gallery, dim)
        order_key, mix_key, jitter_key = jax.random.split(key, 3)
        faces = jnp.asarray(gallery)
        first, second = _two_rows(order_key, mix_key, faces, num_points)
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


def _two_rows(order_key: PRNGKey, mix_key: PRNGKey, gallery: Gallery, num_points: int):
    """Choose two gallery rows to average for each point: the same one twice while they last."""
    is_point = sphere.is_point(gallery)
    order = jax.random.permutation(order_key, gallery.shape[0])
    order = order[jnp.argsort(~is_point[order])]
    num_rows = jnp.sum(is_point)
    point = jnp.arange(num_points)
    drawn = order[jax.random.randint(mix_key, (2, num_points), 0, num_rows)]
    own = order[jnp.minimum(point, gallery.shape[0] - 1)]
    is_own = point < num_rows
    return jnp.where(is_own, own, drawn[0]), jnp.where(is_own, own, drawn[1])


def _jittered(key: PRNGKey, x: Points) -> Points:
    noise = jax.random.normal(key, x.shape, x.dtype) * (_JITTER / x.shape[1] ** 0.5)
    return sphere.normalize(x + noise)


def _check(rows: Points, dim: int) -> None:
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise ValueError(f"init has shape {rows.shape} and dim is {dim}: give [rows, {dim}]")
