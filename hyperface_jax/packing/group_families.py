"""Draws of generators of finite groups of orthogonal matrices, by family."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Family: TypeAlias = Callable[[np.random.Generator, int, int], list[Array]]
"""``(rng, dim, largest order) -> generators [d, d]``; none if the draw gave nothing."""

_QUOTIENTS = (1, 1, 1, 2, 2, 3, 4, 5, 6, 8, 10, 12)
_TRIVIAL = (0.05, 0.05, 0.3, 0.6)
"""Shares of the space on which x is the identity."""
_GOLDEN = (1 + 5**0.5) / 2
_ROOTS_OF_UNITY = (3, 4, 5, 6, 8, 12)
_MOST_GENERATORS = 3
_LONGEST_WORD = 30
_MOST_POWERS = 200
_SAME = 1e-6
_COXETER = {
    "H3": (3, {(0, 1): 5, (1, 2): 3}),
    "H4": (4, {(0, 1): 5, (1, 2): 3, (2, 3): 3}),
    "F4": (4, {(0, 1): 3, (1, 2): 4, (2, 3): 3}),
    "E6": (6, {(0, 1): 3, (1, 2): 3, (2, 3): 3, (3, 4): 3, (2, 5): 3}),
    "E7": (7, {(0, 1): 3, (1, 2): 3, (2, 3): 3, (3, 4): 3, (4, 5): 3, (2, 6): 3}),
    "E8": (8, {(0, 1): 3, (1, 2): 3, (2, 3): 3, (3, 4): 3, (4, 5): 3, (5, 6): 3, (2, 7): 3}),
}
"""Rank, and the orders of the products of two reflections where they do not commute."""


def _metacyclic(rng: np.random.Generator, dim: int, max_order: int) -> list[Array]:
    """Draw ``<x, y>`` with ``x^m = 1`` and ``y x y^-1`` a power of x: real representations of it.

    The order is log-uniform. Blocks are induced from random characters of x, as many as fit: half of the
    draws repeat none before all were taken.
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
    left, trivial = dim, float(rng.choice(_TRIVIAL))
    is_distinct, taken = bool(rng.random() < 0.5), set[int]()
    while left:
        a = int(rng.integers(m)) if rng.random() > trivial else 0
        if is_distinct and a in taken and len(taken) < m - 1:
            continue
        if is_distinct and a:
            taken |= {sign * power % m for power in _orbit(a, u, m) for sign in (1, -1)}
        block = _induced(rng, a, u, m, q)
        if len(block[0]) > left:
            block = _one_dimensional(rng, q, 1.0)
        blocks.append(block)
        left -= len(block[0])
    x, y = (block_diagonal([block[i] for block in blocks]) for i in (0, 1))
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
    orbit = _orbit(a, u, m)
    is_real = m - a in orbit
    turns = orbit[: len(orbit) // 2] if is_real else orbit
    count = len(turns)
    x = block_diagonal([_rotation(2 * math.pi * turn / m) for turn in turns])
    y = np.zeros((2 * count, 2 * count))
    for j in range(count):
        to = (j + 1) % count
        is_mirrored = is_real and j == count - 1
        y[2 * to : 2 * to + 2, 2 * j : 2 * j + 2] = np.diag([1, -1 if is_mirrored else 1])
    return x, y * _sign(rng, q)


def _orbit(a: int, u: int, m: int) -> list[int]:
    orbit = [a]
    while (following := orbit[-1] * u % m) != a:
        orbit.append(following)
    return orbit


def _one_dimensional(rng: np.random.Generator, q: int, x: float) -> tuple[Array, Array]:
    return np.array([[x]]), np.array([[_sign(rng, q)]])


def _sign(rng: np.random.Generator, q: int) -> float:
    return float(rng.choice((1.0, -1.0))) if q % 2 == 0 else 1.0


def _rotation(angle: float) -> Array:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def block_diagonal(blocks: Sequence[Array]) -> Array:
    """Put square blocks on a diagonal; SciPy's takes 5 to 13 times as long for small ones."""
    ends = np.cumsum([len(block) for block in blocks])
    matrix = np.zeros((ends[-1], ends[-1]))
    for block, end in zip(blocks, ends.tolist(), strict=True):
        matrix[end - len(block) : end, end - len(block) : end] = block
    return matrix


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
    return [block_diagonal([*[_left(q)] * fours, rest]) for q in chosen]


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
        found.append(block_diagonal([block, rest]))
    if rng.random() < 0.5:
        order = rng.permutation(bits)
        place = [sum((i >> int(b) & 1) << k for k, b in enumerate(order)) for i in range(size)]
        found.append(block_diagonal([np.eye(size)[place], rest]))
    return found


def _permutations(rng: np.random.Generator, dim: int, max_order: int) -> list[Array]:
    """Draw permutations of m things: copies of the standard representation of ``m - 1`` dimensions."""
    del max_order
    count = int(rng.integers(3, dim + 2))
    basis = _simplex_basis(count - 1)

    def draw() -> Array:
        order = equal_cycles(rng, count, int(rng.integers(2, count + 1)))
        return _repeated(basis @ np.eye(count)[order] @ basis.T, dim)

    return some(rng, draw)


def _monomials(rng: np.random.Generator, dim: int, max_order: int) -> list[Array]:
    """Draw permutations of complex coordinates with roots of unity, or of real ones with signs."""
    del max_order
    is_real = rng.random() < 0.15
    order, size = (2, 1) if is_real else (int(rng.choice(_ROOTS_OF_UNITY)), 2)
    count = dim // size

    def draw() -> Array:
        length = 1 if rng.random() < 0.3 else int(rng.integers(1, count + 1))
        to = equal_cycles(rng, count, length)
        turns = rng.integers(order, size=count) * int(rng.random() < 0.6)
        block = np.zeros((count, size, count, size))
        for i, turn in enumerate(turns):
            block[i, :, to[i], :] = _rotation(2 * math.pi * turn / order)[:size, :size]
        return _repeated(block.reshape(count * size, -1), dim)

    return some(rng, draw)


def _reflections(rng: np.random.Generator, dim: int, max_order: int) -> list[Array]:
    """Draw elements of an exceptional reflection group, on as many copies as fit."""
    del max_order
    fitting = [rank for rank, _ in _COXETER.values() if rank <= dim]
    names = [name for name, (rank, _) in _COXETER.items() if dim // 2 <= rank <= dim]
    if not fitting:
        return []
    names = names or [name for name, (rank, _) in _COXETER.items() if rank == max(fitting)]
    mirrors = _mirrors(names[int(rng.integers(len(names)))])
    return some(rng, lambda: _repeated(_of_random_order(rng, _word(rng, mirrors)), dim))


@cache
def _mirrors(name: str) -> tuple[Array, ...]:
    """Return the generating reflections of a Coxeter group."""
    rank, orders = _COXETER[name]
    gram = np.eye(rank)
    for (i, j), order in orders.items():
        gram[i, j] = gram[j, i] = -math.cos(math.pi / order)
    roots = np.linalg.cholesky(gram)
    return tuple(np.eye(rank) - 2 * np.outer(root, root) for root in roots)


def _cliffords(rng: np.random.Generator, dim: int, max_order: int) -> list[Array]:
    """Draw elements of the real Clifford group on r bits, the symmetry of the Barnes-Wall lattices."""
    del max_order
    bits = int(math.log2(dim))
    if bits < 2:
        return []
    gates = _gates(bits)
    return some(rng, lambda: _repeated(_of_random_order(rng, _word(rng, gates)), dim))


@cache
def _gates(bits: int) -> tuple[Array, ...]:
    """Return generators of the real Clifford group, ``[2^r, 2^r]`` each."""
    size = 2**bits
    found = []
    for single in ([[1, 1], [1, -1]], [[0, 1], [1, 0]], [[1, 0], [0, -1]]):
        matrix = np.array(single) / abs(np.linalg.det(np.array(single))) ** 0.5
        for bit in range(bits):
            found.append(np.kron(np.kron(np.eye(2**bit), matrix), np.eye(2 ** (bits - bit - 1))))
    for a in range(bits):
        for b in set(range(bits)) - {a}:
            both = [(i >> a & 1) & (i >> b & 1) for i in range(size)]
            found.append(np.diag([(-1.0) ** bit for bit in both]))
            found.append(np.eye(size)[[i ^ ((i >> a & 1) << b) for i in range(size)]])
    return tuple(found)


def _sums(rng: np.random.Generator, dim: int, max_order: int) -> list[Array]:
    """Draw from two families, which act side by side on complementary subspaces."""
    if dim < 4:
        return []
    left = int(rng.integers(2, dim - 1))
    sizes = left, dim - left
    pair = [_PARTS[int(rng.integers(len(_PARTS)))](rng, size, max_order) for size in sizes]
    if not all(pair):
        return []
    sides = [
        [*side, *[np.eye(size)] * (len(other) - len(side))]
        for side, other, size in zip(pair, reversed(pair), sizes, strict=True)
    ]
    return [block_diagonal(blocks) for blocks in zip(*sides, strict=True)]


def some(rng: np.random.Generator, draw: Callable[[], Array]) -> list[Array]:
    """Draw one to three generators."""
    return [draw() for _ in range(int(rng.integers(1, _MOST_GENERATORS + 1)))]


def equal_cycles(rng: np.random.Generator, count: int, length: int) -> Array:
    """Return a permutation with as many cycles of a length as fit."""
    order, chosen = np.arange(count), rng.permutation(count)
    for start in range(0, count - length + 1, length):
        cycle = chosen[start : start + length]
        order[cycle] = np.roll(cycle, 1)
    return order


def _word(rng: np.random.Generator, letters: tuple[Array, ...]) -> Array:
    """Return a product of randomly many random letters."""
    product = np.eye(len(letters[0]))
    for i in rng.integers(len(letters), size=int(rng.integers(1, _LONGEST_WORD + 1))):
        product = product @ letters[i]
    return product


def _of_random_order(rng: np.random.Generator, element: Array) -> Array:
    """Return a power of an element, whose order is a random divisor of that of the element."""
    power, order, one = element, 1, np.eye(len(element))
    while np.abs(power - one).max() > _SAME and order < _MOST_POWERS:
        power, order = power @ element, order + 1
    divisors = [q for q in range(2, order + 1) if order % q == 0] or [1]
    return np.linalg.matrix_power(element, order // int(rng.choice(divisors)))


def _repeated(block: Array, dim: int) -> Array:
    """Act with a block on as many copies of its space as fit, and leave the rest alone."""
    copies, left = divmod(dim, len(block))
    return block_diagonal([*[block] * copies, np.eye(left)])


def _simplex_basis(dim: int) -> Array:
    """Return an orthonormal basis of the vectors with sum 0, ``[d, d + 1]``."""
    rows = np.tril(np.ones((dim, dim + 1)))
    for i in range(dim):
        rows[i, i + 1] = -(i + 1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


FAMILIES: dict[str, Family] = {
    "metacyclic": _metacyclic,
    "permutations": _permutations,
    "monomials": _monomials,
    "reflections": _reflections,
    "Clifford": _cliffords,
    "sums": _sums,
    "quaternions": _quaternions,
    "signs": _signs,
    "Paulis": _paulis,
}
_PARTS = (_metacyclic, _permutations, _monomials, _reflections, _quaternions)
