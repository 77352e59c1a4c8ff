"""Codes of strongly regular graphs without triangles: Petersen, Hoffman-Singleton, Gewirtz, M22.

Project the vertices onto the eigenspace of the smallest eigenvalue s of the adjacency matrix. In a graph
with v vertices and degree k, adjacent vertices then have the cosine ``s / k``, and the others
``-(s + 1) / (v - k - 1)``. The fifth such graph, that of Higman and Sims, meets Levenshtein's bound:
see :mod:`.sharp`.

References:
    Bachoc and Vallentin, *Optimality and uniqueness of the (4, 10, 1/6) spherical code*, 2009; Cohn, de
    Laat and Leijenhorst, *Optimality of spherical codes via exact semidefinite programming bounds*,
    arXiv 2403.16874, 2024; Brouwer and Van Maldeghem, *Strongly Regular Graphs*, 2022.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.codes.code import SphericalCode, tabulated
from hyperface_jax.codes.sharp import golay, spanned

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COHN = "Cohn, de Laat and Leijenhorst 2024"


def graph_codes() -> tuple[SphericalCode, ...]:
    """Return the codes of 10 points in 4 dimensions, 50 and 77 in 21, and 56 in 20, all optimal."""
    return (
        _graph_code(10, 4, 3, -2, "Petersen graph", "Bachoc and Vallentin 2009", _petersen),
        _graph_code(50, 21, 7, -3, "Hoffman-Singleton graph", _COHN, _hoffman_singleton),
        _graph_code(56, 20, 10, -4, "Gewirtz graph", _COHN, _gewirtz),
        _graph_code(77, 21, 16, -6, "M22 graph", _COHN, _m22),
    )


def _graph_code(
    size: int,
    dim: int,
    degree: int,
    eigenvalue: int,
    name: str,
    reference: str,
    meets: Callable[[], NDArray],
) -> SphericalCode:
    adjacent, other = eigenvalue / degree, -(eigenvalue + 1) / (size - degree - 1)

    def make() -> NDArray:
        return spanned(meets(), adjacent, other, dim)

    return tabulated(size, dim, other, name, reference, make)


def _petersen() -> NDArray:
    pairs = np.array(
        [[i in pair for i in range(5)] for pair in itertools.combinations(range(5), 2)]
    )
    return _disjoint(pairs)


def _hoffman_singleton() -> NDArray:
    """Return Robertson's five pentagons and five pentagrams, joined by ``h i + j``."""
    meets = np.zeros((2, 5, 5, 2, 5, 5), bool)
    for h, j in itertools.product(range(5), repeat=2):
        meets[0, h, j, 0, h, (j + 1) % 5] = True
        meets[1, h, j, 1, h, (j + 2) % 5] = True
        for i in range(5):
            meets[0, h, j, 1, i, (h * i + j) % 5] = True
    square = meets.reshape(50, 50)
    return square | square.T


def _gewirtz() -> NDArray:
    hexads = _hexads()
    return _disjoint(hexads[hexads[:, 0] == 0])


def _m22() -> NDArray:
    return _disjoint(_hexads())


def _hexads() -> NDArray:
    """Return the blocks of the Steiner system S(3, 6, 22), ``[77, 22]``."""
    words = golay()
    return words[(words.sum(1) == 8) & (words[:, :2] == 1).all(1)][:, 2:]


def _disjoint(blocks: NDArray) -> NDArray:
    blocks = blocks.astype(np.int64)
    return blocks @ blocks.T == 0
