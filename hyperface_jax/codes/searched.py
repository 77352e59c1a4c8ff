"""Codes over small fields that were found by search; their distances are checked, not derived."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.codes.basic import simplex_points
from hyperface_jax.codes.code import SphericalCode
from hyperface_jax.codes.linear import LinearCode, field_term
from hyperface_jax.codes.sequences import field_traces
from hyperface_jax.codes.sharp import collinear, elliptic_quadric

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POINTS_OF_A_LINE = 4


def quinary_125() -> LinearCode:
    """Return the [125, 8, 94] code over GF(5) with words ``Tr(a x + b x^6) + c x^31 + u`` on GF(125).

    It was found by trying all pairs of exponents with full and single cyclotomic classes. The tests
    compute its distance over all words.

    Returns:
        A code of 390,625 points in 500 dimensions with max cosine 0.06.
    """
    distance = 94
    return LinearCode(
        125,
        (5,) * 8,
        simplex_points(5),
        3,
        1 - 5 * distance / (4 * 125),
        "[125, 8, 94] over GF(5)",
        "found by search, distance computed over all words",
        _quinary_rows,
    )


def _quinary_rows() -> NDArray:
    traces = field_traces(5, 3)
    powers = np.arange(124) % 4
    # x^31 is the norm; on the powers of a generator it runs through GF(5)*.
    norm = np.concatenate([[0], 3**powers % 5])[None]
    terms = [field_term(traces, 3, 1), field_term(traces, 3, 6), norm, np.ones((1, 125), np.int64)]
    return np.concatenate(terms)


def hill_cap() -> SphericalCode:
    """Return the code of Hill's 56-cap in PG(5, 3), [56, 6, 36]: 729 points in 112 dimensions.

    The cap is a hemisystem of the elliptic quadric: it has two of the four points on each line.

    Returns:
        A code with max cosine 1/28.

    References:
        Hill, *On the largest size of cap in S(5, 3)*, 1973; Segre 1965 for hemisystems.
    """
    length, distance = 56, 36
    return LinearCode(
        length,
        (3,) * 6,
        simplex_points(3),
        0,
        1 - 3 * distance / (2 * length),
        "Hill cap [56, 6, 36] over GF(3)",
        "Hill 1973",
        _hill_rows,
    ).spherical()


def _hill_rows() -> NDArray:
    points = elliptic_quadric(3)
    return points[_hemisystem(_lines(collinear(points, 3))) == 1].T


def _lines(meets: NDArray) -> NDArray:
    """Return the lines of GQ(3, 9) as lists of their points, ``[280, 4]``."""
    found = {
        tuple(sorted((i, j, *np.flatnonzero(meets[i] & meets[j]))))
        for i, j in itertools.combinations(range(len(meets)), 2)
        if meets[i, j]
    }
    return np.array(sorted(found))


def _hemisystem(lines: NDArray) -> NDArray:
    """Choose half of the points on each line by a search with forced moves; return 1 or -1 per point."""
    start = np.zeros(lines.max() + 1, np.int64)
    start[0] = 1
    found = _completed(start, lines)
    if found is None:
        raise AssertionError("Segre's hemisystem exists")
    return found


def _completed(sides: NDArray, lines: NDArray) -> Any:
    sides = _forced(sides, lines)
    if sides is None or sides.all():
        return sides
    decided = np.zeros(len(sides))
    known = (sides[lines] != 0).sum(1)
    np.add.at(decided, lines, np.repeat(known[:, None], _POINTS_OF_A_LINE, axis=1))
    decided[sides != 0] = -1
    point = int(np.argmax(decided))
    for side in (1, -1):
        tried = sides.copy()
        tried[point] = side
        found = _completed(tried, lines)
        if found is not None:
            return found
    return None


def _forced(sides: NDArray, lines: NDArray) -> Any:
    """Fill in points on lines that have two points of one side already; None if there is a conflict."""
    sides = sides.copy()
    while True:
        values = sides[lines]
        if (np.stack([values == 1, values == -1]).sum(2) > 2).any():
            return None
        free = values == 0
        new = sides.copy()
        for side in (1, -1):
            full = (values == side).sum(1) == 2
            new[lines[full][free[full]]] = -side
        if np.array_equal(new, sides):
            return sides
        sides = new
