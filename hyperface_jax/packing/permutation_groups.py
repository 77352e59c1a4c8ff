"""Draws of permutation groups, with sums of the constituents of what they do to tuples.

A group that permutes things permutes tuples and sets of them too. That splits into irreducible
representations, its constituents: five letters give those of 1, 4, 5 and 6 dimensions of the symmetric
group. Their sums are most representations of the small simple groups and of their relatives.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from hyperface_jax.packing.group_families import block_diagonal, equal_cycles, some

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Draw: TypeAlias = Callable[[np.random.Generator], Array]
"""Draws an element of a group that permutes m things, ``[m]``: the thing to which each is taken."""

_FEWEST, _MOST = 5, 16
_ANY_LETTERS = 0.25
"""Chance of random permutations of so many letters; they generate all kinds of groups."""
_TRIVIAL_GROUP = 2
_MOST_TUPLES, _LONGEST = 130, 3
_AS_SETS, _SIGNED, _DISTINCT = 0.4, 0.5, 0.5
_TRIVIAL = (0.0, 0.1, 0.3, 0.6)
"""Shares of the space on which all elements are the identity."""
_SAME = 1e-6


def sums_of_constituents(rng: np.random.Generator, dim: int, max_order: int) -> list[Array]:
    """Draw a permutation group and a sum of its constituents.

    Returns:
        Generators, ``[d, d]`` each; none if the group is too large, or hardly one.
    """
    draw = _any_letters(rng) if rng.random() < _ANY_LETTERS else _one_of(_known_groups(), rng)
    generators = some(rng, lambda: draw(rng))
    elements = _generated(generators, max_order)
    if elements is None or len(elements) <= _TRIVIAL_GROUP:
        return []
    parts = _constituents(elements, generators, rng)
    return _sum(parts, dim, rng) if parts else []


def _one_of(draws: tuple[Draw, ...], rng: np.random.Generator) -> Draw:
    return draws[int(rng.integers(len(draws)))]


def _any_letters(rng: np.random.Generator) -> Draw:
    count = int(rng.integers(_FEWEST, _MOST + 1))
    return lambda rng: equal_cycles(rng, count, int(rng.integers(2, count + 1)))


@cache
def _known_groups() -> tuple[Draw, ...]:
    """Return symmetric, alternating, projective, affine and linear groups of few elements."""
    return (
        *(_letters(count) for count in (4, 5, 6)),
        *(_letters(count, is_even=True) for count in (5, 6, 7)),
        *(_projective(prime) for prime in (5, 7)),
        *(_projective(prime, is_special=True) for prime in (7, 11, 13)),
        *(_affine(*size) for size in ((2, 3), (3, 2), (5, 1), (7, 1))),
        *(_linear(*size) for size in ((2, 3), (3, 2))),
        *(_linear(prime, 2, is_special=True) for prime in (3, 5, 7)),
    )


def _letters(count: int, *, is_even: bool = False) -> Draw:
    def draw(rng: np.random.Generator) -> Array:
        order = rng.permutation(count)
        if is_even and _sign(order) < 0:
            order[[0, 1]] = order[[1, 0]]
        return order

    return draw


def _affine(prime: int, dim: int) -> Draw:
    vectors = _vectors(prime, dim)

    def draw(rng: np.random.Generator) -> Array:
        images = vectors @ _invertible(rng, prime, dim) + rng.integers(prime, size=dim)
        return _numbers(images, prime)

    return draw


def _linear(prime: int, dim: int, *, is_special: bool = False) -> Draw:
    vectors, dets = _vectors(prime, dim)[1:], {1} if is_special else set(range(1, prime))
    return lambda rng: _numbers(vectors @ _invertible(rng, prime, dim, dets), prime) - 1


def _projective(prime: int, *, is_special: bool = False) -> Draw:
    """Act on the projective line, where determinants that are squares give the simple group."""
    points = np.array([*((1, slope) for slope in range(prime)), (0, 1)])
    units = range(1, prime)
    inverses = np.array([0, *(pow(unit, -1, prime) for unit in units)])
    dets = {unit * unit % prime for unit in units} if is_special else set(units)

    def draw(rng: np.random.Generator) -> Array:
        first, second = (points @ _invertible(rng, prime, 2, dets) % prime).T
        return np.where(first > 0, second * inverses[first] % prime, prime)

    return draw


def _vectors(prime: int, dim: int) -> Array:
    """Return all vectors, ``[prime^dim, dim]``, that of 0 first."""
    return np.array(list(itertools.product(range(prime), repeat=dim)))


def _numbers(vectors: Array, prime: int) -> Array:
    """Return the place of each vector among all of them."""
    return vectors % prime @ prime ** np.arange(vectors.shape[1])[::-1]


def _invertible(
    rng: np.random.Generator, prime: int, dim: int, dets: set[int] | None = None
) -> Array:
    """Draw a matrix of numbers modulo a prime, with one of the determinants, or any but 0."""
    allowed = dets or set(range(1, prime))
    while True:
        matrix = rng.integers(prime, size=(dim, dim))
        if round(np.linalg.det(matrix)) % prime in allowed:
            return matrix


def _sign(order: Array) -> float:
    return round(np.linalg.det(np.eye(len(order))[order]))


def _generated(generators: list[Array], max_order: int) -> Array | None:
    """Return all products, ``[g, m]``; None if there are too many."""
    identity = tuple(range(len(generators[0])))
    known, new = {identity}, [identity]
    while new:
        products = {tuple(p) for g in generators for p in g[np.array(new)].tolist()}
        new = sorted(products - known)
        known.update(new)
        if len(known) > max_order:
            return None
    return np.array(sorted(known))


def _constituents(
    elements: Array, generators: list[Array], rng: np.random.Generator
) -> list[Array]:
    """Split the action on the images of a random tuple.

    The mean of ``P S P^T`` over the group, for a random symmetric S, commutes with the group, and its
    eigenspaces are irreducible.

    Returns:
        ``[generators, f, f]`` for each constituent, of f dimensions; none if there are too many images.
    """
    count = elements.shape[1]
    start = rng.choice(count, size=int(rng.integers(1, _LONGEST + 1)), replace=False)
    is_set = rng.random() < _AS_SETS
    tuples = np.unique(_moved(start[None], elements, is_set)[:, 0], axis=0)
    if not 1 < len(tuples) <= _MOST_TUPLES:
        return []
    acts = _places(tuples, _moved(tuples, elements, is_set))
    seed = rng.normal(size=(len(tuples), len(tuples)))
    seed += seed.T
    mean = sum(seed[np.ix_(act, act)] for act in acts) / len(acts)
    values, vectors = np.linalg.eigh(mean)
    spaces = np.split(vectors, np.flatnonzero(np.diff(values) > _SAME) + 1, axis=1)
    shown = _places(tuples, _moved(tuples, np.array(generators), is_set))
    parts = [np.stack([space[act].T @ space for act in shown]) for space in spaces]
    if rng.random() < _SIGNED:
        signs = np.array([_sign(generator) for generator in generators])
        parts += [part * signs[:, None, None] for part in parts]
    return parts


def _moved(tuples: Array, elements: Array, is_set: bool) -> Array:
    """Return what elements take tuples to, ``[g, t, length]``."""
    moved = elements[:, tuples]
    return np.sort(moved, axis=2) if is_set else moved


def _places(tuples: Array, moved: Array) -> Array:
    """Return the numbers of tuples, ``[g, t]``."""
    weights = (tuples.max() + 1) ** np.arange(tuples.shape[1])
    numbers = tuples @ weights
    order = np.argsort(numbers)
    return order[np.searchsorted(numbers[order], moved @ weights)]


def _sum(parts: list[Array], dim: int, rng: np.random.Generator) -> list[Array]:
    """Add constituents up to d dimensions, at random: none twice, in half of the draws."""
    trivial, is_distinct = float(rng.choice(_TRIVIAL)), rng.random() < _DISTINCT
    one = np.ones((len(parts[0]), 1, 1))
    chosen, left = [], dim
    while left:
        fitting = [i for i, part in enumerate(parts) if part.shape[1] <= left]
        if fitting and rng.random() >= trivial:
            i = fitting[int(rng.integers(len(fitting)))]
            part = parts.pop(i) if is_distinct else parts[i]
        else:
            part = one
        chosen.append(part)
        left -= part.shape[1]
    return [block_diagonal(blocks) for blocks in zip(*chosen, strict=True)]
