"""Codes over GF(4) whose symbols are the vertices of a tetrahedron.

Two words at distance w have the cosine ``1 - 4 w / (3 N)``. A sum of two words is a word, so the max
cosine follows from the smallest weight, which the tests compute over all words.

References:
    Conway and Sloane, *Sphere Packings, Lattices and Groups*, 1999, chapter 3, for the hexacode; Hill,
    *Caps and groups*, 1976, for the cap of 78 points in PG(5, 4).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.codes.basic import simplex_points
from hyperface_jax.codes.code import SphericalCode, tabulated
from hyperface_jax.codes.finite import field, powers

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEXACODE = ((1, 0, 0, 1, 1, 1), (0, 1, 0, 1, 2, 3), (0, 0, 1, 1, 3, 2))
_ORDER = 4**6 - 1
_POINTS = (4**6 - 1) // 3
_CAP_STEP, _CAP_CLASSES = 35, (0, 7)  # unions of two orbits of order 39 were tried


def quaternary_codes() -> tuple[SphericalCode, ...]:
    """Return the codes of the hexacode [6, 3, 4] and of Hill's cap [78, 6, 56], also shortened.

    That is 64 points in 18 dimensions with max cosine 1/9, 4,096 points in 234 dimensions with max
    cosine 5/117, and 1,024 points in 231 dimensions with max cosine 1/33.
    """
    cap = "Hill's cap [78, 6, 56] over GF(4)"
    return (
        _code("hexacode", "Conway and Sloane 1999", hexacode_words, (6, 3, 4)),
        *(_code(cap, "Hill 1976", hill_words, (78, 6, 56), gone) for gone in range(2)),
    )


def _code(
    name: str,
    reference: str,
    words: Callable[[], NDArray],
    parameters: tuple[int, int, int],
    gone: int = 0,
) -> SphericalCode:
    """Return the words of an [N, k, delta] code that are 0 in the first positions, without these."""
    length, size, distance = parameters
    length, size = length - gone, size - gone
    title = f"{name}, shortened {gone} times" if gone else name
    cosine = 1 - 4 * distance / (3 * length)
    make = partial(_points, words, gone)
    return tabulated(4**size, 3 * length, cosine, title, reference, make)


def _points(words: Callable[[], NDArray], gone: int) -> NDArray:
    rows = words()
    kept = rows[(rows[:, :gone] == 0).all(axis=1)][:, gone:]
    return simplex_points(4)[kept].reshape(len(kept), -1) / kept.shape[1] ** 0.5


@cache
def hexacode_words() -> NDArray:
    """Return all words of the hexacode, ``[64, 6]``, with symbols 0 to 3."""
    _, add, multiply = field(4)
    generator = np.array(_HEXACODE)
    a, b, c = np.meshgrid(*[np.arange(4)] * 3, indexing="ij")
    rows = [
        multiply[letter.reshape(-1, 1), row]
        for letter, row in zip((a, b, c), generator, strict=True)
    ]
    return add[add[rows[0], rows[1]], rows[2]]


@cache
def hill_words() -> NDArray:
    """Return all words ``Tr(a x)`` on the 78 points x of the cap, ``[4096, 78]``, with symbols 0 to 3.

    The points of PG(5, 4) are the powers of a generator of GF(4^6) modulo GF(4); the cap is two orbits
    of the subgroup of order 39. The trace goes to GF(4).
    """
    numbers = powers(2, 12)
    exponents = np.arange(_ORDER)
    traces = np.bitwise_xor.reduce([numbers[exponents * 4**i % _ORDER] for i in range(6)])
    symbols = np.searchsorted(np.unique(traces), traces)
    orbit = _CAP_STEP * np.arange(_POINTS // _CAP_STEP)
    points = np.concatenate([orbit + first for first in _CAP_CLASSES])
    words = symbols[(exponents[:, None] + points[None]) % _ORDER]
    return np.concatenate([np.zeros((1, len(points)), np.int64), words])
