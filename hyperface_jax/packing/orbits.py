"""Packings with symmetry: points that are the images of a few representatives under a finite group.

A packing of n points with a group of order g has about ``n / g`` representatives. Its max cosine is the
largest cosine of a representative and any other point, so to optimize the representatives is a packing
problem of about ``n / g`` points, in which all of their images count.
"""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from hyperface_jax.packing.blas import one_blas_thread
from hyperface_jax.packing.contact_pairs import unit_rows
from hyperface_jax.packing.interior_point import central_path

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_MOST_TYPES = 8
_TRIES, _TRIES_PRIME = 12, 2
"""Stabilizers tried; a group of prime order has itself and the trivial one, which come first."""
_SAME = 1e-6
_APART = 1e-10
_CLOSE = 1e-5


class Orbits(NamedTuple):
    """How n points follow from k representatives: point q is ``maps[q] @ x[owner[q]]``.

    Attributes:
        maps: ``[n, d, d]``, each an element of the group after the projection onto the subspace that
            the stabilizer of the representative leaves fixed.
        owner: ``[n]``, the representative of each point.
        first: ``[k]``, the point that is each representative itself.
        projectors: ``[k, d, d]``, onto the subspace in which each representative moves.
    """

    maps: Array
    owner: Array
    first: Array
    projectors: Array

    @property
    def num_representatives(self) -> int:
        """Number k of representatives."""
        return len(self.first)

    def points(self, x: Array) -> Array:
        """Return all points, ``[n, d]``, for representatives ``[k, d]``."""
        return np.einsum("nab,nb->na", self.maps, x[self.owner])

    def projected(self, x: Array) -> Array:
        """Project representatives onto their subspaces and normalize them, ``[k, d]``."""
        return unit_rows(np.einsum("kab,kb->ka", self.projectors, x))


def no_symmetry(num_points: int, dim: int) -> Orbits:
    """Return the orbits of the trivial group: each point is its own representative."""
    identity = np.broadcast_to(np.eye(dim), (num_points, dim, dim))
    every = np.arange(num_points)
    return Orbits(identity, every, every, identity)


@dataclass(frozen=True)
class OrbitPairs:
    """The pairs of a representative and any point but itself, each pair of orbits once."""

    orbits: Orbits

    @property
    def num_blocks(self) -> int:
        """Number of representatives."""
        return self.orbits.num_representatives

    def points(self, x: Array) -> Array:
        """Return all points, ``[n, d]``."""
        return self.orbits.points(x)

    def moved(self, x: Array, moves: Array) -> Array:
        """Move the representatives within their subspaces."""
        return self.orbits.projected(x + moves)

    def highest(self, points: Array) -> float:
        """Find the largest cosine in O(k n d) time."""
        return float(self._cosines(points).max())

    def above(self, points: Array, threshold: float) -> tuple[Array, Array, Array]:
        """Find pairs above a threshold in O(k n d) time."""
        cosines = self._cosines(points)
        rows, columns = np.nonzero(cosines > threshold)
        return rows, columns, cosines[rows, columns]

    def _cosines(self, points: Array) -> Array:
        """Return the cosines of representatives and points, ``[k, n]``, -inf where no pair counts."""
        first, owner = self.orbits.first, self.orbits.owner
        cosines = points[first] @ points.T
        every = np.arange(len(first))
        cosines[owner[None, :] < every[:, None]] = -np.inf
        cosines[every, first] = -np.inf
        return cosines

    def sides(self, x: Array, rows: Array, columns: Array) -> tuple[Array, Array, Array, Array]:
        """Return the representatives of each pair, and gradients in their subspaces."""
        maps, owner, _, projectors = self.orbits
        points = self.orbits.points(x)
        left = np.einsum("pab,pb->pa", projectors[rows], points[columns])
        right = np.einsum("pba,pb->pa", maps[columns], x[rows])
        return rows, owner[columns], left, right


def polish_orbits(x: Array, orbits: Orbits, *, max_iterations: int = 100) -> tuple[Array, float]:
    """Take representatives to a local optimum among the packings with their symmetry, in float64.

    Args:
        x: ``[k, d]``, representatives near an optimum.
        orbits: how the points follow from them.
        max_iterations: largest number of Newton steps.

    Returns:
        The representatives, ``[k, d]``, and the max cosine of the points.

    Raises:
        InputError: two points are equal.

    Cost: ``O((k d)^3 + k n d)`` a Newton step, of which there are about 40.
    """
    pairs = OrbitPairs(orbits)
    x = orbits.projected(np.asarray(x, np.float64))
    with one_blas_thread():
        x, _ = central_path(x, pairs, max_iterations=max_iterations)
    return x, pairs.highest(pairs.points(x))


def orbits_of(points: Array, group: Array) -> Orbits:
    """Find the orbits of points that a group takes to each other.

    Args:
        points: ``[n, d]``, unit rows.
        group: ``[g, d, d]``, all elements, the identity first.

    Returns:
        The orbits; the representative of each is the first of its points.

    Raises:
        ValueError: the group takes a point to none of the points, or two points are equal.
    """
    size, dim = points.shape
    maps, projectors = np.zeros((size, dim, dim)), []
    owner, first = np.full(size, -1), []
    for i, point in enumerate(points):
        if owner[i] >= 0:
            continue
        images = group @ point
        places = np.argmax(images @ points.T, axis=1)
        if places[0] != i or np.abs(images - points[places]).max() > _CLOSE:
            raise ValueError("the points are not closed under the group, or two are equal")
        projector = group[places == i].mean(axis=0)
        reached, elements = np.unique(places, return_index=True)
        maps[reached], owner[reached] = group[elements] @ projector, len(first)
        maps[i] = projector
        first.append(i)
        projectors.append(projector)
    return Orbits(maps, owner, np.array(first), np.array(projectors))


class OrbitType(NamedTuple):
    """A way to place an orbit: how its points follow from a representative, and where that can lie.

    Attributes:
        maps: ``[s, d, d]``, for each point of the orbit a group element after the projector; the
            projector itself first.
        projector: ``[d, d]``, onto the subspace of representatives.
        dim: dimension of this subspace.
    """

    maps: Array
    projector: Array
    dim: int

    @property
    def size(self) -> int:
        """Number s of points of the orbit."""
        return len(self.maps)


def orbit_types(group: Array, rng: np.random.Generator) -> list[OrbitType]:
    """Find the generic orbits of a group, and some smaller ones with a non-trivial stabilizer.

    Args:
        group: ``[g, d, d]``, all elements, the identity first.
        rng: chooses the stabilizers that are tried.

    Returns:
        At most 8 types, no two with the same size and dimension.
    """
    found: dict[tuple[int, int], OrbitType] = {}
    dim = group.shape[1]
    is_prime = all(len(group) % q for q in range(2, math.isqrt(len(group)) + 1))
    for attempt in range(_TRIES_PRIME if is_prime else _TRIES):
        if attempt == 0:
            projector = np.eye(dim)
        elif attempt == 1:
            projector = group.mean(axis=0)
        else:
            chosen = group[rng.integers(len(group), size=rng.integers(1, 3))]
            projector = _fixed_by(chosen)
        size = round(float(np.trace(projector)))
        if size == 0:
            continue
        images = group @ (projector @ rng.normal(size=dim))
        elements = group[_distinct(images, rng)]
        key = (len(elements), size)
        # Images that meet on the random line by chance would leave an orbit incomplete.
        if len(group) % len(elements) == 0 and key not in found and len(found) < _MOST_TYPES:
            found[key] = OrbitType(elements @ projector, projector, size)
    return list(found.values())


def _fixed_by(elements: Array) -> Array:
    """Return the projector onto the vectors that all elements leave fixed."""
    total = elements.sum(axis=0)
    # The sum of (g - 1)^T (g - 1).
    away = 2 * len(elements) * np.eye(len(total)) - total - total.T
    values, vectors = np.linalg.eigh(away)
    kept = vectors[:, values < _SAME]
    return kept @ kept.T


def _distinct(images: Array, rng: np.random.Generator) -> Array:
    """Return the first index of each distinct row, in order; rows are told apart on a random line."""
    places = images @ rng.normal(size=images.shape[1])
    order = np.argsort(places, kind="stable")
    is_new = np.concatenate([[True], np.diff(places[order]) > _APART])
    group = np.cumsum(is_new) - 1
    firsts = np.full(group[-1] + 1, len(images))
    np.minimum.at(firsts, group, order)
    return np.sort(firsts)


def composed(
    types: list[OrbitType], num_points: int, rng: np.random.Generator
) -> tuple[Orbits, Array] | None:
    """Choose orbits with exactly n points in all, at random.

    A subspace of one dimension holds two orbits at most, of opposite representatives.

    Returns:
        The orbits and random representatives, ``[k, d]``; None if the sizes do not add up.
    """
    chosen = _chosen([kind.size for kind in types], [kind.dim for kind in types], num_points, rng)
    if chosen is None:
        return None
    orbits = [types[i] for i in chosen]
    sizes = [kind.size for kind in orbits]
    projectors = np.array([kind.projector for kind in orbits])
    maps = np.concatenate([kind.maps for kind in orbits])
    owner = np.repeat(np.arange(len(orbits)), sizes)
    first = np.cumsum([0, *sizes[:-1]])
    placed = Orbits(maps, owner, first, projectors)
    return placed, placed.projected(rng.normal(size=(len(orbits), maps.shape[1])))


def _chosen(
    sizes: list[int], dims: list[int], num_points: int, rng: np.random.Generator
) -> list[int] | None:
    """Choose types whose sizes add up to n, one with probability proportional to its size squared."""
    uses, left, chosen = [0] * len(sizes), num_points, []
    # Drawn at once: a packing has up to n orbits, and a search chooses thousands of packings.
    chances = iter(rng.random(num_points).tolist())
    while left:
        fitting = [
            i for i, size in enumerate(sizes) if size <= left and (dims[i] > 1 or uses[i] < 2)
        ]
        if not fitting:
            return None
        ends = list(itertools.accumulate(sizes[i] ** 2 for i in fitting))
        i = fitting[bisect.bisect(ends, next(chances) * ends[-1], hi=len(ends) - 1)]
        uses[i] += 1
        chosen.append(i)
        left -= sizes[i]
    return chosen
