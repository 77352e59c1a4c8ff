"""Sharp configurations, the codes that meet Levenshtein's bound, as tables of points.

References:
    Levenshtein, *Designs as maximum codes in polynomial metric spaces*, 1992; Cohn and Kumar,
    *Universally optimal distribution of points on spheres*, J. AMS 2007, table 1; Conway and Sloane,
    *Sphere Packings, Lattices and Groups*, 1999, chapters 4, 5 and 14.
"""

from __future__ import annotations

import itertools
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.codes.code import SphericalCode, tabulated
from hyperface_jax.codes.finite import field

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REFERENCE = "Levenshtein 1992; Cohn and Kumar 2007"
_CLOSE = 1e-6


SHARP = {
    "Clebsch": (16, 5, 1 / 5),
    "27 lines": (27, 6, 1 / 4),
    "Gosset": (56, 7, 1 / 3),
    "E8 roots": (240, 8, 1 / 2),
    "McLaughlin, 162 points": (162, 21, 1 / 7),
    "Higman-Sims": (100, 22, 1 / 11),
    "McLaughlin": (275, 22, 1 / 6),
    "Leech lattice, 891 points": (891, 22, 1 / 4),
    "276 equiangular lines": (552, 23, 1 / 5),
    "Leech lattice, 4600 points": (4600, 23, 1 / 3),
    "Leech lattice": (196560, 24, 1 / 2),
}
"""Sizes, dimensions and max cosines of the sporadic sharp configurations."""


def sharp_configuration(name: str) -> SphericalCode:
    """Return a sporadic sharp configuration by its name in :data:`SHARP`."""
    if name not in SHARP:
        raise ValueError(f"name={name!r}: choose one of {', '.join(SHARP)}")
    return tabulated(*SHARP[name], name, _REFERENCE, partial(_points_of, name))


@cache
def _points_of(name: str) -> NDArray:
    if name == "E8 roots":
        return _e8()
    if name == "Leech lattice":
        return leech()
    if name == "Higman-Sims":
        return _higman_sims()
    if name == "276 equiangular lines":
        center = np.array([5, *[1] * 23]) / 48**0.5
        return _projected(_points_of("Leech lattice"), center, 3 / 24**0.5)
    whole, cosine = _DERIVED[name]
    return neighbors(_points_of(whole), cosine)


_DERIVED = {
    "Gosset": ("E8 roots", 1 / 2),
    "27 lines": ("Gosset", 1 / 3),
    "Clebsch": ("27 lines", 1 / 4),
    "Leech lattice, 4600 points": ("Leech lattice", 1 / 2),
    "Leech lattice, 891 points": ("Leech lattice, 4600 points", 1 / 3),
    "McLaughlin": ("276 equiangular lines", 1 / 5),
    "McLaughlin, 162 points": ("McLaughlin", 1 / 6),
}


def cameron_goethals_seidel(q: int) -> SphericalCode:
    """Return the code of the generalized quadrangle GQ(q, q^2), for a prime power q.

    Its points are those of the elliptic quadric in PG(5, q), in an eigenspace of their collinearity
    graph.

    Returns:
        A code of ``(q + 1)(q^3 + 1)`` points in ``q (q^2 - q + 1)`` dimensions with max cosine
        ``q^(-2)``, which is optimal.

    References:
        Cameron, Goethals and Seidel, *Strongly regular graphs having strongly regular subconstituents*,
        J. Algebra 1978.
    """
    field(q)
    size, dim = (q + 1) * (q**3 + 1), q * (q * q - q + 1)
    name = f"Cameron-Goethals-Seidel, q = {q}"
    return tabulated(size, dim, q**-2, name, _REFERENCE, partial(_quadrangle, q))


def derived_quadrangle(q: int) -> SphericalCode:
    """Return the points of a Cameron-Goethals-Seidel code that are not collinear with its first point.

    They are projected orthogonally to the first point, and normalized. Two points that have a cosine c
    to the first point and at most s to each other then have at most ``(s - c^2) / (1 - c^2)``.

    Returns:
        A code of ``q^4`` points in ``q (q^2 - q + 1) - 1`` dimensions with max cosine
        ``1 / (q^2 + 1)``.
    """
    whole = cameron_goethals_seidel(q)
    name = f"{whole.name}, derived"
    make = partial(_far_points, q)
    return tabulated(q**4, whole.dim - 1, 1 / (q * q + 1), name, _REFERENCE, make)


def _quadrangle(q: int) -> NDArray:
    return spanned(collinear(elliptic_quadric(q), q), -1 / q, q**-2, q * (q * q - q + 1))


def _far_points(q: int) -> NDArray:
    return neighbors(_quadrangle(q), q**-2)


def neighbors(points: NDArray, cosine: float, number: int = 0) -> NDArray:
    """Return the points at a cosine to one of them, projected orthogonally to it and normalized."""
    return _projected(points, points[number], cosine)


def _projected(points: NDArray, center: NDArray, cosine: float) -> NDArray:
    near = points[np.abs(points @ center - cosine) < _CLOSE]
    # A reflection maps the center to the last axis, which is then dropped.
    mirror = center.copy()
    mirror[-1] -= 1
    size = mirror @ mirror
    if size > _CLOSE:
        near = near - 2 / size * np.outer(near @ mirror, mirror)
    flat = near[:, :-1]
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def _e8() -> NDArray:
    halves = np.array(list(itertools.product((0.5, -0.5), repeat=8)))
    halves = halves[(halves < 0).sum(1) % 2 == 0]
    return np.concatenate([pairs(8, 1.0), halves]) / 2**0.5


def pairs(dim: int, size: float) -> NDArray:
    """Return all vectors with two entries ``+-size``."""
    rows = []
    for i, j in itertools.combinations(range(dim), 2):
        for signs in itertools.product((size, -size), repeat=2):
            row = np.zeros(dim)
            row[[i, j]] = signs
            rows.append(row)
    return np.array(rows)


@cache
def golay() -> NDArray:
    """Return the 4096 words of the extended binary Golay code, ``[4096, 24]``."""
    residues = {i * i % 23 for i in range(1, 23)}
    word = np.array([int(i in residues) for i in range(23)])
    shifts = np.array([np.roll(word, i) for i in range(23)])
    words = np.zeros((1, 23), np.int64)
    for row in shifts:
        if not (words == row).all(1).any():
            words = np.concatenate([words, words ^ row])
        if len(words) == 4096:
            break
    return np.concatenate([words, words.sum(1, keepdims=True) % 2], axis=1)


def leech() -> NDArray:
    """Return the 196,560 shortest vectors of the Leech lattice, ``[196560, 24]``."""
    words = golay()
    odd = np.where(words, -1.0, 1.0)[:, None] * np.where(np.eye(24), -3.0, 1.0)[None]
    signs = np.array(list(itertools.product((2.0, -2.0), repeat=8)))
    signs = signs[(signs < 0).sum(1) % 2 == 0]
    octads = words[words.sum(1) == 8]
    eights = np.zeros((len(octads), len(signs), 24))
    for octad, rows in zip(octads, eights, strict=True):
        rows[:, octad == 1] = signs
    vectors = [pairs(24, 4.0), eights.reshape(-1, 24), odd.reshape(-1, 24)]
    return np.concatenate(vectors) / 32**0.5


def _higman_sims() -> NDArray:
    """Return the 100 points of the Higman-Sims graph, ``[100, 22]``."""
    words = golay()
    octads = words[words.sum(1) == 8]
    hexads = octads[(octads[:, :2] == 1).all(1)][:, 2:]
    meets = np.zeros((100, 100), bool)
    meets[0, 1:23] = True
    meets[1:23, 23:] = hexads.T == 1
    meets[23:, 23:] = hexads @ hexads.T == 0
    return spanned(meets | meets.T, -4 / 11, 1 / 11, 22)


def elliptic_quadric(q: int) -> NDArray:
    """Return the points ``x0 x1 + x2 x3 + f(x4, x5) = 0`` of PG(5, q), f irreducible, ``[n, 6]``."""
    points = []
    for lead in range(6):
        tails = np.array(list(itertools.product(range(q), repeat=5 - lead)))
        head = np.zeros((len(tails), lead + 1), np.int64)
        head[:, -1] = 1
        points.append(np.concatenate([head, tails], axis=1).astype(np.int64))
    rows = np.concatenate(points)
    _, add, multiply = field(q)
    b, c = _irreducible(q)
    plane = multiply[rows[:, 4], add[rows[:, 4], multiply[b, rows[:, 5]]]]
    plane = add[plane, multiply[c, multiply[rows[:, 5], rows[:, 5]]]]
    pairs = add[multiply[rows[:, 0], rows[:, 1]], multiply[rows[:, 2], rows[:, 3]]]
    return rows[add[pairs, plane] == 0]


def collinear(points: NDArray, q: int) -> NDArray:
    """Return which pairs of points of the quadric lie on a common line in it, ``[n, n]``."""
    _, add, multiply = field(q)
    b, c = _irreducible(q)
    x, y = points, points.copy()
    y[:, [0, 1, 2, 3]] = points[:, [1, 0, 3, 2]]
    # The polar form of x^2 + b x y + c y^2 has the matrix [[2, b], [b, 2 c]].
    u, v = points[:, 4], points[:, 5]
    y[:, 4] = add[add[u, u], multiply[b, v]]
    y[:, 5] = add[multiply[b, u], multiply[c, add[v, v]]]
    form = np.zeros((len(x), len(x)), np.int64)
    for i in range(6):
        form = add[form, multiply[x[:, i][:, None], y[:, i][None]]]
    meets = form == 0
    np.fill_diagonal(meets, False)
    return meets


def _irreducible(q: int) -> tuple[int, int]:
    """Return the first b, c for which ``x^2 + b x + c`` has no root in GF(q)."""
    _, add, multiply = field(q)
    x = np.arange(q)
    for b, c in itertools.product(range(q), repeat=2):
        if add[multiply[x, add[x, b]], c].all():
            return b, c
    raise AssertionError("irreducible polynomials exist")


def spanned(meets: NDArray, adjacent: float, other: float, dim: int) -> NDArray:
    """Return points with the cosine ``adjacent`` for pairs in ``meets`` and ``other`` for the rest."""
    gram = np.where(meets, adjacent, other)
    np.fill_diagonal(gram, 1.0)
    return factored(gram, dim)


def factored(gram: NDArray, dim: int) -> NDArray:
    """Return points with these cosines, ``[n, dim]``.

    They come from a pivoted Cholesky factor of the Gram matrix, so every machine gets the same points.
    """
    points = np.zeros((len(gram), dim))
    rest = np.ones(len(gram))
    for k in range(dim):
        pivot = int(np.argmax(rest.round(9)))
        column = (gram[pivot] - points[:, :k] @ points[pivot, :k]) / np.sqrt(rest[pivot])
        points[:, k] = column
        rest = np.maximum(rest - column**2, 0.0)
    return points / np.linalg.norm(points, axis=1, keepdims=True)
