"""Codes that need no arithmetic: simplex and cross-polytope in any dimension, polygons in the plane."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from hyperface_jax.codes.code import SphericalCode

if TYPE_CHECKING:
    from hyperface_jax.typing import Indices, Points

_RANKIN = "Rankin, The closest packing of spherical caps in n dimensions, 1955"


def simplex_points(num_points: int) -> np.ndarray:
    """Return the vertices of the regular simplex, ``[n, n - 1]``, in float64."""
    n = num_points
    points = np.eye(n) - 1 / n
    # Reflect the direction of all ones, to which the points are orthogonal, onto the last axis.
    normal = np.full(n, n**-0.5)
    normal[-1] -= 1
    if n > 1:
        points -= 2 * np.outer(points @ normal, normal) / (normal @ normal)
    points = points[:, :-1]
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def simplex(dim: int) -> SphericalCode:
    """Return the ``d + 1`` vertices of the regular simplex: max cosine ``-1/d``, optimal.

    References:
        Rankin, 1955.
    """
    _check(dim, 2)
    # Vertex i < d is a e_i - b (1, ..., 1); the last vertex points along (1, ..., 1).
    shift = (1 + (dim + 1) ** 0.5) / dim**1.5
    scale = (1 + 1 / dim) ** 0.5

    def rows(index: Indices) -> Points:
        is_axis = index[:, None] == jnp.arange(dim, dtype=jnp.int32)[None]
        axes = jnp.where(is_axis, scale, 0) - shift
        return jnp.where((index < dim)[:, None], axes, dim**-0.5).astype(jnp.float32)

    return SphericalCode(dim + 1, dim, -1 / dim, "simplex", _RANKIN, rows)


def cross_polytope(dim: int) -> SphericalCode:
    """Return ``+-e_i``: 2d points with max cosine 0; d + 2 or more of them are optimal.

    References:
        Rankin, 1955.
    """
    _check(dim, 1)

    def rows(index: Indices) -> Points:
        is_axis = (index // 2)[:, None] == jnp.arange(dim, dtype=jnp.int32)[None]
        sign = jnp.where(index % 2 == 0, 1.0, -1.0)
        return jnp.where(is_axis, sign[:, None], 0.0)

    return SphericalCode(2 * dim, dim, 0.0, "cross-polytope", _RANKIN, rows)


def polygon(num_points: int) -> SphericalCode:
    """Return the regular polygon: n points in the plane with max cosine ``cos(2 pi / n)``, optimal."""
    if num_points < 3:
        raise ValueError(f"num_points={num_points}: must be at least 3")

    def rows(index: Indices) -> Points:
        angle = index.astype(jnp.float32) * (2 * math.pi / num_points)
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)

    cosine = math.cos(2 * math.pi / num_points)
    return SphericalCode(num_points, 2, cosine, f"{num_points}-gon", "elementary", rows)


def _check(dim: int, least: int) -> None:
    if dim < least:
        raise ValueError(f"dim={dim}: must be at least {least}")
