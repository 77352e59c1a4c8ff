"""Spherical codes with a proven max cosine, which make their rows only when requested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from hyperface_jax.typing import Indices, Points

MAX_POINTS = 2**31 - 1


@dataclass(frozen=True, eq=False)
class SphericalCode:
    """Unit vectors with a proven max cosine.

    Attributes:
        num_points: number of points n.
        dim: dimension d.
        max_cosine: largest cosine of two points; it is proven, and attained unless ``reference`` says
            otherwise.
        name: name of the construction.
        reference: where the max cosine is proven.
        rows: a function ``index [k] -> points [k, d]``. It can be traced, so rows are made on the
            device that needs them, without an array of all points.
        distribution: a function that computes the max cosine from the words of a linear code, or None.
        parts: codes in orthogonal subspaces of which this code is the union; empty otherwise.

    Raises:
        ValueError: there are more points than an int32 can count.
    """

    num_points: int
    dim: int
    max_cosine: float
    name: str
    reference: str
    rows: Callable[[Any], Any]
    distribution: Callable[[], float] | None = None
    parts: tuple[SphericalCode, ...] = ()

    def __post_init__(self):
        if not 0 < self.num_points <= MAX_POINTS:
            raise ValueError(
                f"{self.name}: {self.num_points} points; at most {MAX_POINTS} can be counted"
            )

    def block(self, first: int, stop: int) -> Points:
        """Return rows ``first`` to ``stop``, ``[stop - first, d]``, in float32."""
        if not 0 <= first <= stop <= self.num_points:
            raise IndexError(f"{self.name}: rows {first} to {stop} of {self.num_points}")
        return self.rows(jnp.arange(first, stop, dtype=jnp.int32))


def tabulated(
    num_points: int,
    dim: int,
    max_cosine: float,
    name: str,
    reference: str,
    make: Callable[[], np.ndarray],
) -> SphericalCode:
    """Return a code that is given by a table, which is made when rows are first requested.

    Raises:
        AssertionError: the table has the wrong shape.
    """

    @cache
    def table() -> np.ndarray:
        points = np.asarray(make(), np.float32)
        assert points.shape == (num_points, dim), f"{name}: made {points.shape}"
        return points

    def rows(index: Indices) -> Points:
        return jnp.asarray(table())[index]

    return SphericalCode(num_points, dim, max_cosine, name, reference, rows)


def joined(
    first: SphericalCode,
    second: SphericalCode,
    *,
    between: float,
    name: str,
    reference: str,
) -> SphericalCode:
    """Return the union of two codes of the same dimension.

    Args:
        first: a code. If it can be checked by its words, so can the union; for the rest, the stated
            cosines are used.
        second: a code in the same space.
        between: the largest cosine between a point of one code and a point of the other.
        name: name of the union.
        reference: where ``between`` is proven.
    """
    if first.dim != second.dim:
        raise ValueError(f"{first.name} has dimension {first.dim} and {second.name} {second.dim}")
    stated = max(second.max_cosine, between)
    words, size = first.distribution, first.num_points

    def rows(index: Indices) -> Points:
        own = first.rows(jnp.minimum(index, size - 1))
        other = second.rows(jnp.maximum(index - size, 0))
        return jnp.where((index < size)[:, None], own, other)

    return SphericalCode(
        size + second.num_points,
        first.dim,
        max(first.max_cosine, stated),
        name,
        reference,
        rows,
        words and (lambda: max(words(), stated)),
    )
