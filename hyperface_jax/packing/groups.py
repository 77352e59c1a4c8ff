"""Random finite groups of orthogonal matrices, as symmetries to search packings among.

Many of the best packings known of a few hundred points have symmetry. Which one is not known before, so
groups are drawn from the families of :mod:`.group_families` and :mod:`.permutation_groups`, and those
that gave good packings are used again, with other orbits and other starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np

from hyperface_jax.packing import group_families
from hyperface_jax.packing.orbits import OrbitType, orbit_types
from hyperface_jax.packing.permutation_groups import sums_of_constituents

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

T = TypeVar("T")

FAMILIES = group_families.FAMILIES | {"constituents": sums_of_constituents}
_NAMES = ("metacyclic", "constituents", *FAMILIES)
"""Families to draw from; the two most general are drawn twice as often."""
_SAME = 1e-9
_MOST_TRIES = 50
_TINY, _REFUSED = 3, 0.7
"""Largest order of a group that is mostly drawn anew: all families have them, and few are different."""
_KEPT = 12
_RELATED = 0.1
_PLACE = 0.35
_SMALL = 0.4
"""Power of twice the number of points that is the smallest bound of the order of a group."""
_WHOLE = "constituents"
"""Family whose groups are drawn whole: large ones too have small orbits."""
_LARGEST = 8


@dataclass(eq=False)
class Symmetry:
    """A group to search with.

    Attributes:
        family: name of the family that it was drawn from.
        group: ``[g, d, d]``, its elements, the identity first.
        types: ways to place an orbit.
        best: smallest max cosine of a packing with this symmetry so far.
    """

    family: str
    group: Array
    types: list[OrbitType]
    best: float = float("inf")

    def is_same(self, other: Symmetry) -> bool:
        """Tell whether the groups are equal, element by element."""
        return self is other or np.array_equal(self.group, other.group)

    def part(self, rng: np.random.Generator) -> Symmetry:
        """Return the cyclic subgroup of a random element."""
        element = self.group[int(rng.integers(1, len(self.group)))]
        powers = generated([element], len(self.group))
        group = self.group if powers is None else powers
        return Symmetry(self.family, group, orbit_types(group, rng))


@dataclass
class Symmetries:
    """Draws groups for packings of n points in ``R^d``, and remembers those that gave good ones.

    Attributes:
        num_points: number of points n.
        dim: dimension d.
        best: the groups that gave the best packings so far, the best first.
    """

    num_points: int
    dim: int
    best: list[Symmetry] = field(default_factory=list)

    def draw(self, rng: np.random.Generator) -> Symmetry:
        """Return a new group, sometimes of the family of one of the best."""
        is_related = self.best and rng.random() < _RELATED
        names = (self.one_of_the_best(rng).family,) if is_related else _NAMES
        family = names[int(rng.integers(len(names)))]
        largest = self._largest(family, rng)
        group = random_group(rng, self.dim, largest, family)
        while len(group) <= _TINY and rng.random() < _REFUSED:
            group = random_group(rng, self.dim, largest, family)
        return Symmetry(family, group, orbit_types(group, rng))

    def _largest(self, family: str, rng: np.random.Generator) -> int:
        """Return the largest order of a group to be drawn."""
        if family == _WHOLE:
            return _LARGEST * self.num_points
        return max(round((2 * self.num_points) ** float(rng.uniform(_SMALL, 1.0))), 2)

    def one_of_the_best(self, rng: np.random.Generator) -> Symmetry:
        """Return one of the groups that gave the best packings, the best more often."""
        return one_of_the_first(self.best, _PLACE, rng)

    def note(self, symmetry: Symmetry, max_cosine: float) -> None:
        """Remember what a packing with a symmetry reached."""
        known = next((one for one in self.best if one.is_same(symmetry)), symmetry)
        known.best = min(known.best, max_cosine)
        others = [one for one in self.best if one is not known]
        self.best = sorted([*others, known], key=lambda one: one.best)[:_KEPT]


def one_of_the_first(items: Sequence[T], chance: float, rng: np.random.Generator) -> T:
    """Draw an item: each with a given chance if none before it was drawn, and the last otherwise."""
    return items[min(int(rng.geometric(chance)) - 1, len(items) - 1)]


def random_group(rng: np.random.Generator, dim: int, max_order: int, family: str) -> Array:
    """Draw a finite group of orthogonal matrices.

    Args:
        rng: source of randomness.
        dim: dimension d.
        max_order: largest order.
        family: one of :data:`FAMILIES`.

    Returns:
        All elements, ``[g, d, d]`` with ``2 <= g <= max_order``, the identity first; the identity and
        its negative if nothing came of many draws.
    """
    for _ in range(_MOST_TRIES):
        generators = FAMILIES[family](rng, dim, max_order)
        if generators and rng.random() < 0.2:
            generators = [*generators, -np.eye(dim)]
        group = generated(generators, max_order) if generators else None
        if group is not None and len(group) > 1:
            return group
    return np.stack([np.eye(dim), -np.eye(dim)])


def generated(generators: Iterable[Array], max_order: int) -> Array | None:
    """Return all products of matrices, ``[g, d, d]``, the identity first; None if there are too many."""
    steps = np.stack(list(generators))
    dim = steps.shape[1]
    left, right = np.random.default_rng(0).normal(
        size=(2, dim)
    )  # tell elements apart by one number
    elements, new = np.eye(dim)[None], np.eye(dim)[None]
    known = set(_keys(new, left, right))
    while len(new):
        products = (steps[:, None] @ new[None]).reshape(-1, dim, dim)
        fresh = []
        for product, key in zip(products, _keys(products, left, right), strict=True):
            if key not in known:
                known.add(key)
                fresh.append(product)
        if len(known) > max_order:
            return None
        new = np.array(fresh).reshape(-1, dim, dim)
        elements = np.concatenate([elements, new])
    return elements


def _keys(matrices: Array, left: Array, right: Array) -> list[int]:
    return np.round(matrices @ right @ left / _SAME).astype(np.int64).tolist()
