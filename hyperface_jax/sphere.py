"""Geometry of the unit hypersphere S^(d-1), with one point per row.

Everything is batched over the leading axes: a function that takes ``x`` of shape ``[..., d]`` treats
each row as a separate point. Tangent vectors at ``x`` are rows orthogonal to the matching row of ``x``.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from hyperface_jax.typing import Array, Bool, Float, Points, PRNGKey

_TINY = 1e-30


def normalize(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Scale each row to unit length.

    A zero row stays zero instead of becoming NaN.

    Examples:
        >>> normalize(jnp.array([[3.0, 4.0]])).tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    return x / jnp.maximum(jnp.sqrt(inner(x, x)), _TINY)


def is_point(x: Float[Array, "... d"]) -> Bool[Array, "..."]:
    """Tell which rows are points; rows of zeros are padding and represent no point.

    Examples:
        >>> is_point(jnp.array([[0.0, 1.0], [0.0, 0.0]])).tolist()
        [True, False]
    """
    return jnp.any(x != 0, axis=-1)


def count_points(x: Float[Array, "n d"]) -> Float[Array, ""]:
    """Count the rows that are points, as a float in the precision of the rows."""
    return jnp.sum(is_point(x), dtype=x.dtype)


def inner(u: Float[Array, "... d"], v: Float[Array, "... d"]) -> Float[Array, "... 1"]:
    """Return the row-wise inner product, with the reduced axis kept."""
    # For a sum over u * v, XLA would store the array u * v on a CPU; for this product it does not.
    return jnp.einsum("...d,...d->...", u, v, precision=jax.lax.Precision.HIGHEST)[..., None]


def project(x: Float[Array, "... d"], u: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Project ``u`` onto the tangent space at ``x``: ``u - <u, x> x``."""
    return u - inner(u, x) * x


def retract(x: Float[Array, "... d"], u: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Move from ``x`` along the tangent ``u`` and renormalize (a first-order retraction)."""
    return normalize(x + u)


def exp(x: Float[Array, "... d"], u: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Follow the geodesic from ``x`` with initial velocity ``u`` (radians) for unit time."""
    angle = _length(u)
    return jnp.cos(angle) * x + jnp.sinc(angle / jnp.pi) * u


def log(x: Float[Array, "... d"], y: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Return the tangent at ``x`` that :func:`exp` maps to ``y``; zero where ``y`` equals ``x``.

    Where ``y = -x`` it is undefined (a vector of arbitrary direction). Its derivatives are finite
    everywhere.
    """
    tangent = project(x, y)
    length = _length(tangent)
    is_short = length < _TINY
    factor = distance(x, y)[..., None] / jnp.where(is_short, 1, length)
    return jnp.where(is_short, 1, factor) * tangent


def transport(x: Float[Array, "... d"], v: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Carry a tangent vector to the tangent space at ``x`` by projection.

    This is the vector transport that goes with :func:`retract`: it never lengthens ``v``.
    """
    return project(x, v)


def distance(x: Float[Array, "... d"], y: Float[Array, "... d"]) -> Float[Array, "..."]:
    """Return the great-circle distance in radians between matching rows, accurate near 0 and pi.

    It has a kink where the two points are equal or opposite; the derivative there is taken as zero.
    """
    return 2 * jnp.arctan2(_length(x - y), _length(x + y))[..., 0]


def _length(u: Float[Array, "... d"]) -> Float[Array, "... 1"]:
    """Return the length of each row; for a row of zeros, both it and its derivative are zero."""
    square = jnp.sum(u * u, axis=-1, keepdims=True)
    is_zero = square == 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, square)))


def sample_uniform(key: PRNGKey, num_points: int, dim: int, dtype: Any = jnp.float32) -> Points:
    """Draw ``[num_points, dim]`` independent uniform points on the sphere."""
    return normalize(jax.random.normal(key, (num_points, dim), dtype))


def sample_rotation(key: PRNGKey, dim: int, dtype: Any = jnp.float32) -> Float[Array, "d d"]:
    """Draw an orthogonal matrix, uniformly over all of them (Haar measure).

    References:
        Stewart, *The efficient generation of random orthogonal matrices*, 1980.
    """
    q, r = jnp.linalg.qr(jax.random.normal(key, (dim, dim), dtype))
    q = q * jnp.where(jnp.diag(r) < 0, -1, 1)[None]
    # The error of QR grows with the dimension: one Newton step toward the nearest orthogonal matrix.
    gram = jnp.matmul(q.T, q, precision=jax.lax.Precision.HIGHEST)
    return jnp.matmul(
        q, 1.5 * jnp.eye(dim, dtype=dtype) - gram / 2, precision=jax.lax.Precision.HIGHEST
    )
