"""Regular polytopes and root systems in low dimensions, as tables of points.

References:
    Fejes Tóth, 1943 (icosahedron); Musin, *The kissing number in four dimensions*, 2008 (24-cell);
    Böröczky, *Packing of spheres in spaces of constant curvature*, 1978 (600-cell); Conway and Sloane,
    *Sphere Packings, Lattices and Groups*, 1999, table 1.2 (root systems, the best known kissing
    configurations of their dimensions).
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.codes.code import SphericalCode, tabulated

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GOLDEN = (1 + 5**0.5) / 2
_ROOT_DIMS = (4, 5, 6, 7)


def polytopes() -> tuple[SphericalCode, ...]:
    """Return the icosahedron, the 600-cell, and the roots of D4 (the 24-cell), D5, E6 and E7."""
    icosahedron = tabulated(12, 3, 5**-0.5, "icosahedron", "Fejes Tóth 1943", _icosahedron)
    cell_600 = tabulated(120, 4, _GOLDEN / 2, "600-cell", "Böröczky 1978", _cell_600)
    return (icosahedron, cell_600, *map(_roots, _ROOT_DIMS))


def _roots(dim: int) -> SphericalCode:
    name = {4: "24-cell", 5: "D5 roots", 6: "E6 roots", 7: "E7 roots"}[dim]
    size = {4: 24, 5: 40, 6: 72, 7: 126}[dim]
    return tabulated(size, dim, 0.5, name, "Conway and Sloane 1999", partial(_root_points, dim))


def _icosahedron() -> NDArray:
    rows = [(0.0, a, b * _GOLDEN) for a, b in itertools.product((1, -1), repeat=2)]
    return _unit([np.roll(row, turn) for row in rows for turn in range(3)])


def _cell_600() -> NDArray:
    """Return 24 points of the 24-cell and 96 even permutations of (golden, 1, 1/golden, 0) / 2."""
    axes = [*np.eye(4) * 2, *np.eye(4) * -2]
    halves = [*itertools.product((1.0, -1.0), repeat=4)]
    rest = [
        np.array([a * _GOLDEN, b, c / _GOLDEN, 0.0])[list(order)]
        for a, b, c in itertools.product((1, -1), repeat=3)
        for order in itertools.permutations(range(4))
        if _is_even(order)
    ]
    return _unit([*axes, *halves, *rest])


def _is_even(order: tuple[int, ...]) -> bool:
    return sum(a > b for a, b in itertools.combinations(order, 2)) % 2 == 0


def _root_points(dim: int) -> NDArray:
    if dim <= 5:
        return _unit(_d_roots(dim))
    eight = np.array([*_d_roots(8), *_even_halves(8)])
    # E7 and E6 are the roots of E8 orthogonal to one root, and to two that meet at 120 degrees.
    normals = [np.array([1.0, 1, 0, 0, 0, 0, 0, 0]), np.array([0.0, -1, 1, 0, 0, 0, 0, 0])]
    normals = np.array(normals[: 8 - dim])
    found = eight[np.all(np.abs(eight @ normals.T) < 1e-9, axis=1)]
    basis = np.linalg.svd(normals)[2][len(normals) :]
    return _unit(found @ basis.T)


def _d_roots(dim: int) -> list[NDArray]:
    pairs = itertools.combinations(range(dim), 2)
    return [
        a * np.eye(dim)[i] + b * np.eye(dim)[j] for i, j in pairs for a in (1, -1) for b in (1, -1)
    ]


def _even_halves(dim: int) -> list[NDArray]:
    signs = itertools.product((0.5, -0.5), repeat=dim)
    return [np.array(row) for row in signs if sum(x < 0 for x in row) % 2 == 0]


def _unit(rows: Any) -> NDArray:
    points = np.array(rows, float)
    return points / np.linalg.norm(points, axis=1, keepdims=True)
