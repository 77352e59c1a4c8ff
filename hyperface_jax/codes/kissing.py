"""Kissing configurations: points with a max cosine of 1/2, in 9, 12 and 15 to 23 dimensions.

In 9 and 12 dimensions they are the unit vectors, and all signs on quadruples of coordinates; two
quadruples have at most two coordinates in common. In 19 to 21 dimensions they come from the Golay code,
with an odd number of minus signs on each octad, which leaves room for more points. The others are
sections of the Leech lattice.

References:
    Conway and Sloane, *Sphere Packings, Lattices and Groups*, 1999, table 1.5, chapters 5 and 6; Cohn
    and Li, *Improved kissing numbers in seventeen through twenty-one dimensions*, arXiv 2411.04916,
    2024. The quadruples were found by search.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.codes.code import SphericalCode, tabulated
from hyperface_jax.codes.sharp import golay, leech, pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CONWAY = "Conway and Sloane 1999"
_COHN_LI = "Cohn and Li 2024"
_CLOSE = 1e-6

# The lengths of the cycles of a permutation of coordinates, and one quadruple of each of its orbits.
_QUADRUPLES = {
    10: ((10,), "0126 0134 0247"),
    12: (
        (3, 3, 3, 3),
        "0134 015a 0178 019b 036b 037a 0389 0456 047b 048a 0579 058b 069a 3467 349a 378b 679b",
    ),
}
_NUM_QUADRUPLES = {9: 18, 12: 51}
_SECTIONS = {23: 93150, 22: 49896, 18: 7398, 17: 5346, 16: 4320, 15: 2340}

# Each minimal vector has the cosine -1/2 to one before it (by number): A1, A2, A3, D4, D5, E6, E7, E8.
_JOINED_TO = (None, 0, 1, 1, 2, 0, 4, 6)


def kissing_configurations() -> tuple[SphericalCode, ...]:
    """Return kissing configurations in 9, 12 and 15 to 23 dimensions, close to the best known in each.

    Those in 10, 11, 13 and 14 dimensions are in :mod:`.unions`.
    """
    quadruples = [
        _kissing(16 * count + 2 * dim, dim, "signed quadruples", _CONWAY, quadruples_and_basis)
        for dim, count in _NUM_QUADRUPLES.items()
    ]
    modified = [
        _kissing(size, dim, "Golay octads with odd signs", _COHN_LI, odd_octads)
        for dim, size in ((19, 11692), (20, 19448), (21, 29768))
    ]
    sections = [
        _kissing(size, dim, "section of the Leech lattice", _CONWAY, leech_section)
        for dim, size in _SECTIONS.items()
    ]
    return (*quadruples, *modified, *sections)


def _kissing(
    size: int, dim: int, kind: str, reference: str, make: Callable[[int], NDArray]
) -> SphericalCode:
    return tabulated(size, dim, 0.5, f"{kind}, d = {dim}", reference, partial(make, dim))


def quadruples_and_basis(dim: int) -> NDArray:
    """Return the unit vectors with both signs, and all signs on quadruples of 9 or 12 coordinates."""
    basis = np.eye(dim)
    return np.concatenate([basis, -basis, signed_quadruples(dim, sorted(quadruples(dim)))])


def signed_quadruples(dim: int, chosen: Sequence[tuple[int, ...]]) -> NDArray:
    """Return all signs on quadruples of coordinates, with the values 1/2, ``[16 k, dim]``."""
    signs = np.array(list(itertools.product((0.5, -0.5), repeat=4)))
    blocks = np.zeros((len(chosen), len(signs), dim))
    for quadruple, block in zip(chosen, blocks, strict=True):
        block[:, quadruple] = signs
    return blocks.reshape(-1, dim)


def quadruples(dim: int) -> set[tuple[int, ...]]:
    """Return quadruples of 9, 10 or 12 coordinates, of which two have at most two in common."""
    if dim == 9:
        return {quadruple for quadruple in quadruples(10) if 9 not in quadruple}
    cycles, words = _QUADRUPLES[dim]
    turn = list(range(dim))
    for start, length in zip(np.cumsum((0, *cycles)), cycles, strict=False):
        turn[start : start + length] = np.roll(range(start, start + length), -1).tolist()
    found = set()
    for word in words.split():
        quadruple = tuple(int(letter, 16) for letter in word)
        while quadruple not in found:
            found.add(quadruple)
            quadruple = tuple(sorted(turn[i] for i in quadruple))
    return found


def odd_octads(dim: int) -> NDArray:
    """Return octads with an odd number of minus signs, pairs of coordinates, and words as signs.

    A word and an octad have an even number of coordinates in common, so the signs differ somewhere.
    """
    words = golay()
    gone = 24 - dim
    octads = words[(words.sum(1) == 8) & ~words[:, :gone].any(1)][:, gone:]
    signs = np.array(list(itertools.product((2.0, -2.0), repeat=8)))
    signs = signs[(signs < 0).sum(1) % 2 == 1]
    eights = np.zeros((len(octads), len(signs), dim))
    for octad, rows in zip(octads, eights, strict=True):
        rows[:, octad == 1] = signs
    vectors = np.concatenate([pairs(dim, 4.0), eights.reshape(-1, dim)]) / 32**0.5
    return np.concatenate([vectors, (1 - 2 * _distant_words(dim)) / dim**0.5])


def _distant_words(dim: int) -> NDArray:
    """Return words of the punctured Golay code: even in 21 dimensions, punctured, then shortened."""
    even = golay()[:, 3:]
    words = even[even.sum(1) % 2 == 0][:, max(0, 21 - dim) and 1 :]
    return words[words[:, 0] == 0][:, 1:] if dim == 19 else words


@cache
def leech_section(dim: int) -> NDArray:
    """Return the minimal vectors of the Leech lattice orthogonal to a root lattice scaled by sqrt(2).

    That is A1, A2, A3, D4, D5, E6, E7 and E8 for 23 to 16 dimensions; the last gives the minimal vectors
    of the Barnes-Wall lattice. For 15 dimensions, they vanish on an octad and one more coordinate.
    """
    vectors = leech()
    normals = []
    if dim == 15:
        octad = golay()[golay().sum(1) == 8][0] == 1
        normals = [*np.eye(24)[octad], np.eye(24)[~octad][0]]
    for joined_to in _JOINED_TO[: 24 - dim] if dim > 15 else ():
        normals.append(vectors[_fits(vectors, normals, joined_to)][0])
    rows = vectors[(np.abs(vectors @ np.array(normals).T) < _CLOSE).all(1)]
    return rows @ np.linalg.svd(np.array(normals))[2][24 - dim :].T


def _fits(vectors: NDArray, normals: list[NDArray], joined_to: int | None) -> NDArray:
    wanted = np.zeros(len(normals))
    if joined_to is not None:
        wanted[joined_to] = -1 / 2
    scores = vectors @ np.array(normals).reshape(-1, 24).T
    return np.all(np.abs(scores - wanted) < _CLOSE, axis=1)
