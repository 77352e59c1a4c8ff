"""Random finite groups of orthogonal matrices, as symmetries to search packings among.

Many of the best packings known of a few hundred points have symmetry. Which one is not known before, so
the search draws: cyclic, dihedral and other metacyclic groups with random representations, groups of
unit quaternions, groups of signs, and the real Pauli groups of which the Kerdock codes are orbits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_SAME = 1e-9
_QUOTIENTS = (1, 1, 1, 2, 2, 3, 4, 5, 6, 8, 10, 12)
_GOLDEN = (1 + 5**0.5) / 2
_MOST_TRIES = 50


def random_group(rng: np.random.Generator, dim: int, max_order: int) -> Array:
    """Draw a finite group of orthogonal matrices.

    Args:
        rng: source of randomness.
        dim: dimension d.
        max_order: largest order.

    Returns:
        All elements, ``[g, d, d]`` with ``2 <= g <= max_order``, the identity first.
    """
    for _ in range(_MOST_TRIES):
        family = _FAMILIES[int(rng.choice(len(_FAMILIES), p=_SHARES))]
        generators = family(rng, dim, max_order)
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


def _metacyclic(rng: np.random.Generator, dim: int, max_order: int) -> list[Array]:
    """Draw ``<x, y>`` with ``x^m = 1`` and ``y x y^-1`` a power of x: real representations of it.

    The order is log-uniform. Blocks are induced from random characters of x, as many as fit.
    """
    order = max(round(float(max_order ** rng.uniform(0.2, 1))), 2)
    q = int(rng.choice(_QUOTIENTS))
    m = order // q
    if m < 2:
        return []
    units = [u for u in range(1, m) if math.gcd(u, m) == 1 and _order(u, m) == q] if m > 2 else [1]
    if not units or (m == 2 and q > 1):
        return []
    u = int(rng.choice(units))
    blocks: list[tuple[Array, Array]] = []
    left = dim
    while left:
        a = int(rng.integers(m)) if rng.random() < 0.93 else 0
        block = _induced(rng, a, u, m, q)
        if len(block[0]) > left:
            block = _one_dimensional(rng, q, 1.0)
        blocks.append(block)
        left -= len(block[0])
    x, y = (_block_diagonal([block[i] for block in blocks]) for i in (0, 1))
    return [x, y] if q > 1 else [x]


def _order(u: int, m: int) -> int:
    power, count = u, 1
    while power != 1:
        power, count = power * u % m, count + 1
    return count


def _induced(rng: np.random.Generator, a: int, u: int, m: int, q: int) -> tuple[Array, Array]:
    """Return x and y in the real representation induced from the character ``exp(2 pi i a / m)``."""
    if a == 0 or 2 * a == m:
        return _one_dimensional(rng, q, -1.0 if a else 1.0)
    orbit = [a]
    while (following := orbit[-1] * u % m) != a:
        orbit.append(following)
    is_real = m - a in orbit
    turns = orbit[: len(orbit) // 2] if is_real else orbit
    count = len(turns)
    x = _block_diagonal([_rotation(2 * math.pi * turn / m) for turn in turns])
    y = np.zeros((2 * count, 2 * count))
    for j in range(count):
        to = (j + 1) % count
        is_mirrored = is_real and j == count - 1
        y[2 * to : 2 * to + 2, 2 * j : 2 * j + 2] = np.diag([1, -1 if is_mirrored else 1])
    return x, y * _sign(rng, q)


def _one_dimensional(rng: np.random.Generator, q: int, x: float) -> tuple[Array, Array]:
    return np.array([[x]]), np.array([[_sign(rng, q)]])


def _sign(rng: np.random.Generator, q: int) -> float:
    return float(rng.choice((1.0, -1.0))) if q % 2 == 0 else 1.0


def _rotation(angle: float) -> Array:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _block_diagonal(blocks: list[Array]) -> Array:
    size = sum(len(block) for block in blocks)
    whole, start = np.zeros((size, size)), 0
    for block in blocks:
        whole[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return whole


def _quaternions(rng: np.random.Generator, dim: int, max_order: int) -> list[Array]:
    """Draw a group of unit quaternions that acts by left multiplication, on all fours of coordinates."""
    del max_order
    if dim < 4:
        return []
    half = 0.5
    kinds = (
        [(0, 1, 0, 0), (0, 0, 1, 0)],
        [(0, 1, 0, 0), (half, half, half, half)],
        [(half**half, half**half, 0, 0), (half, half, half, half)],
        [(_GOLDEN / 2, half, 1 / (2 * _GOLDEN), 0), (half, half, half, half)],
    )
    chosen = kinds[int(rng.integers(len(kinds)))]
    fours = dim // 4 if rng.random() < 0.8 else int(rng.integers(1, dim // 4 + 1))
    rest = np.eye(dim - 4 * fours)
    return [_block_diagonal([*[_left(q)] * fours, rest]) for q in chosen]


def _left(q: tuple[float, ...]) -> Array:
    a, b, c, d = q
    return np.array([[a, -b, -c, -d], [b, a, -d, c], [c, d, a, -b], [d, -c, b, a]])


def _signs(rng: np.random.Generator, dim: int, max_order: int) -> list[Array]:
    """Draw a cyclic code of signs, with the cyclic shift of its coordinates or without it."""
    del max_order
    length = int(rng.integers(2, dim + 1))
    word = np.ones(dim)
    word[:length] = rng.choice((1.0, -1.0), size=length)
    shift = np.eye(dim)
    shift[:length, :length] = np.roll(np.eye(length), 1, axis=0)
    if rng.random() < 0.3:
        return [np.diag(np.where(rng.random(dim) < 0.5, 1.0, -1.0)) for _ in range(3)]
    return [np.diag(word), shift]


def _paulis(rng: np.random.Generator, dim: int, max_order: int) -> list[Array]:
    """Draw products of X and Z on r bits, a group on ``2^r`` coordinates; the others stay."""
    bits = int(math.log2(dim))
    if bits < 1:
        return []
    size, most = 2**bits, int(math.log2(max_order))
    rest = np.eye(dim - size)
    found = []
    for _ in range(int(rng.integers(1, max(most, 2)))):
        shift, sign = (int(v) for v in rng.integers(size, size=2))
        signs = np.array([(-1.0) ** (i & sign).bit_count() for i in range(size)])
        block = np.eye(size)[np.arange(size) ^ shift] * signs
        found.append(_block_diagonal([block, rest]))
    if rng.random() < 0.5:
        order = rng.permutation(bits)
        place = [sum((i >> int(b) & 1) << k for k, b in enumerate(order)) for i in range(size)]
        found.append(_block_diagonal([np.eye(size)[place], rest]))
    return found


def _permutations(rng: np.random.Generator, dim: int, max_order: int) -> list[Array]:
    """Draw permutations of the coordinates of a simplex of ``d + 1`` points, or of the axes."""
    del max_order
    count = dim + int(rng.integers(2))
    found = []
    for _ in range(2):
        length = int(rng.integers(2, min(count, 6) + 1))
        order, chosen = np.arange(count), rng.permutation(count)
        for start in range(0, count - length + 1, length):
            cycle = chosen[start : start + length]
            order[cycle] = np.roll(cycle, 1)
        found.append(np.eye(count)[order])
    if count == dim:
        return found
    basis = _simplex_basis(dim)
    return [basis @ matrix @ basis.T for matrix in found]


def _simplex_basis(dim: int) -> Array:
    """Return an orthonormal basis of the vectors with sum 0, ``[d, d + 1]``."""
    rows = np.tril(np.ones((dim, dim + 1)))
    for i in range(dim):
        rows[i, i + 1] = -(i + 1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


_FAMILIES: tuple[Callable[[np.random.Generator, int, int], list[Array]], ...] = (
    _metacyclic,
    _quaternions,
    _signs,
    _paulis,
    _permutations,
)
_SHARES = np.array([0.6, 0.1, 0.1, 0.1, 0.1])
