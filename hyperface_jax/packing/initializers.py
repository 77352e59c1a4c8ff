"""Starts of a packing: functions ``(key, num_points, dim) -> points``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from hyperface_jax import sphere

if TYPE_CHECKING:
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
        rows = jax.random.permutation(order_key, gallery)[:num_points]
        missing = num_points - rows.shape[0]
        if missing > 0:
            pairs = jax.random.randint(mix_key, (2, missing), 0, gallery.shape[0])
            rows = jnp.concatenate([rows, sphere.normalize(gallery[pairs].sum(axis=0))])
        return _jittered(jitter_key, rows)

    return initialize


def from_points(points: Points) -> Initializer:
    """Start from given rows, ``[num_points, d]``, as they are."""

    def initialize(key: PRNGKey, num_points: int, dim: int) -> Points:
        del key
        _check(points, dim)
        if points.shape[0] != num_points:
            raise ValueError(f"init has {points.shape[0]} rows and num_points is {num_points}")
        return jnp.asarray(points, jnp.float32)

    return initialize


def _jittered(key: PRNGKey, x: Points) -> Points:
    noise = jax.random.normal(key, x.shape, x.dtype) * (_JITTER / x.shape[1] ** 0.5)
    return sphere.normalize(x + noise)


def _check(rows: Points, dim: int) -> None:
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise ValueError(f"init has shape {rows.shape} and dim is {dim}: give [rows, {dim}]")
