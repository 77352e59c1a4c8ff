"""Kissing configurations in 10, 11, 13 and 14 dimensions, as unions of a few kinds of points.

References:
    Ganzhinov, *Highly symmetric lines*, Linear Algebra Appl. 2025, arXiv 2207.08266; Bianchi, Kwon,
    Pappu and Zou, arXiv 2606.10402, 2026 (their coordinates; the description here is ours); Zinoviev and
    Ericson, *New lower bounds for contact numbers in small dimensions*, 1999; Julin, *Two improved block
    codes*, 1965.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.codes.code import SphericalCode, tabulated
from hyperface_jax.codes.finite import field
from hyperface_jax.codes.kissing import quadruples, signed_quadruples
from hyperface_jax.codes.sharp import golay, pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GANZHINOV = "Ganzhinov 2025"
_BIANCHI = "Bianchi, Kwon, Pappu and Zou 2026"
_ZINOVIEV = "Zinoviev and Ericson 1999"
_OMEGA = np.exp(2j * np.pi / 3)

# An octahedron, none of whose coordinates is above 1 / sqrt(2).
_OCTAHEDRON = np.array([(2, 1, 2), (2, -2, -1), (1, 2, -2)]) / 3


def union_codes() -> tuple[SphericalCode, ...]:
    """Return kissing configurations of 510, 604, 1,154 and 1,932 points, and 168 points at 1/3."""
    return (
        _code(510, 10, 1 / 2, "lines of PSU(4, 2)", _GANZHINOV, lines_of_psu),
        _code(604, 11, 1 / 2, "tetracode and octahedron", _BIANCHI, tetracode_and_octahedron),
        _code(1154, 13, 1 / 2, "signed quadruples between layers", _ZINOVIEV, layered_quadruples),
        _code(168, 12, 1 / 3, "Julin's words and basis", _ZINOVIEV, julin_and_basis),
        _code(1932, 14, 1 / 2, "frames of E7", _GANZHINOV, pairs_in_frames),
    )


def _code(
    size: int, dim: int, cosine: float, name: str, reference: str, make: Callable[[], NDArray]
) -> SphericalCode:
    return tabulated(size, dim, cosine, f"{name}, d = {dim}", reference, make)


def lines_of_psu() -> NDArray:
    """Return 510 points of C^5 = R^10: 40 lines, each a hexagon, and 45 lines, turned by 90 degrees.

    The group PSU(4, 2) acts on both kinds; the 45 lines are those of its reflections. Two of the 40
    lines have inner products ``+-1/3`` or ``+-i / sqrt(3)``, two of the 45 have 0 or 1/2 times a sixth
    root of unity, and a line of each kind have 0 or ``i / sqrt(3)`` times such a root.
    """
    turned = [_OMEGA**k * forty_lines() for k in range(3)]
    return _real(np.concatenate([*turned, forty_five_lines()]))


def forty_lines() -> NDArray:
    """Return 40 vectors of C^5 and their opposites, ``[80, 5]``, with real parts of at most 1/3.

    They are the stabilizer states of two qutrits that are even functions on GF(3)^2: of a point, a line,
    or the whole plane, with the values ``omega^Q`` of a quadratic form Q.
    """
    axes = np.eye(5, dtype=complex)
    of_lines = [
        1j * (axes[0] + 2**0.5 * _OMEGA**k * axis) / 3**0.5 for axis in axes[1:] for k in range(3)
    ]
    of_planes = [np.array([1, *(2**0.5 * _OMEGA**word)]) / 3 for word in _zero_sums()]
    rows = np.array([axes[0], *of_lines, *of_planes])
    return np.concatenate([rows, -rows])


def forty_five_lines() -> NDArray:
    """Return 45 vectors of C^5 times the sixth roots of unity, ``[270, 5]``."""
    axes = np.eye(5, dtype=complex)[1:]
    of_pairs = [
        (a - _OMEGA**k * b) / 2**0.5 for a, b in itertools.combinations(axes, 2) for k in range(3)
    ]
    of_words = [1j * np.array([-(2**0.5), *(_OMEGA**word)]) / 6**0.5 for word in _zero_sums()]
    rows = np.array([*of_pairs, *of_words])
    return np.concatenate([sign * _OMEGA**k * rows for sign in (1, -1) for k in range(3)])


def _zero_sums() -> NDArray:
    """Return the words of length 4 over GF(3) with the sum 0, ``[27, 4]``."""
    words = np.array(list(itertools.product(range(3), repeat=4)))
    return words[words.sum(1) % 3 == 0]


def _real(points: NDArray) -> NDArray:
    return np.concatenate([np.real(points), np.imag(points)], axis=1)


def tetracode_and_octahedron() -> NDArray:
    """Return 604 points of R^8 + R^3, where the 8 coordinates are 4 pairs.

    These are the unit vectors of R^8; all signs on quadruples, which are two of the pairs, or a word of
    the tetracode with an axis of R^3; all signs on one pair, together with an octahedron in R^3; and the
    middles of its edges. A word stands for one coordinate of each of three pairs. Words of different
    axes differ in two signs, so none of them is used twice.
    """
    edges = [
        (a + b) / 2**0.5
        for a, b in itertools.combinations(_both_signs(_OCTAHEDRON), 2)
        if a @ b > -0.5
    ]
    return np.concatenate(
        [
            _embedded(_both_signs(np.eye(8)), np.zeros((1, 3))),
            signed_quadruples(11, _tetracode_quadruples()),
            *_pairs_and_octahedron(),
            _embedded(np.zeros((1, 8)), np.array(edges)),
        ]
    )


def _tetracode_quadruples() -> list[tuple[int, ...]]:
    of_pairs = [
        (2 * a, 2 * a + 1, 2 * b, 2 * b + 1) for a, b in itertools.combinations(range(4), 2)
    ]
    of_words = []
    for axis in range(3):
        for a, b in itertools.product((-1, 0, 1), repeat=2):
            word = np.array([a, b, (a + b + 1) % 3 - 1, (a - b + 1) % 3 - 1])
            word[[0, axis + 1]] *= -1
            chosen = [2 * i + (sign > 0) for i, sign in enumerate(word) if sign]
            if chosen:
                of_words.append((*chosen, 8 + axis))
    return [*of_pairs, *of_words]


def _pairs_and_octahedron() -> list[NDArray]:
    signs = np.array(list(itertools.product((0.5, -0.5), repeat=2)))
    corners = _both_signs(_OCTAHEDRON) / 2**0.5
    return [_embedded(np.pad(signs, ((0, 0), (2 * i, 6 - 2 * i))), corners) for i in range(4)]


def _embedded(left: NDArray, right: NDArray) -> NDArray:
    """Return all pairs of a row of each, side by side."""
    return np.concatenate(
        [np.repeat(left, len(right), axis=0), np.tile(right, (len(left), 1))], axis=1
    )


def _both_signs(rows: NDArray) -> NDArray:
    return np.concatenate([rows, -rows])


def layered_quadruples() -> NDArray:
    """Return 1,154 points: signed quadruples on the equator, 168 points on both sides of it, and poles.

    The 168 points have cosines of at most 1/3 to each other, and ``1 / sqrt(3)`` to the quadruples. At
    the heights ``+-1/2`` these become 1/2.
    """
    equator, near = signed_quadruples(12, sorted(quadruples(12))), 3**0.5 / 2 * julin_and_basis()
    return np.concatenate(
        [
            np.pad(equator, ((0, 0), (0, 1))),
            *[np.pad(near, ((0, 0), (0, 1)), constant_values=height) for height in (0.5, -0.5)],
            _both_signs(np.eye(13)[12:]),
        ]
    )


def julin_and_basis() -> NDArray:
    """Return 168 points of R^12 with a max cosine of 1/3."""
    return np.concatenate([_both_signs(np.eye(12)), (1 - 2 * julin_words()) / 12**0.5])


def julin_words() -> NDArray:
    """Return Julin's 144 words of length 12 at distance 4.

    These are the 132 blocks of the Steiner system S(5, 6, 12), which octads of the Golay code have in
    common with a dodecad, six disjoint pairs, and the complements of these.
    """
    words = golay()
    octads, dodecad = words[words.sum(1) == 8], words[words.sum(1) == 12][0] == 1
    blocks = octads[:, dodecad]
    disjoint = np.repeat(np.eye(6, dtype=np.int64), 2, axis=1)
    return np.concatenate([blocks[blocks.sum(1) == 6], disjoint, 1 - disjoint])


def pairs_in_frames() -> NDArray:
    """Return 1,932 points of R^7 + R^7: pairs of roots of one of nine frames, and the roots of D7.

    Roots of one frame have cosines of 0 and +-1, and of two frames 0 and +-1/2.
    """
    side = pairs(7, 0.5**0.5)
    return np.concatenate(
        [
            *[_embedded(frame, frame) / 2**0.5 for frame in e7_frames()],
            _embedded(side, np.zeros((1, 7))),
            _embedded(np.zeros((1, 7)), side),
        ]
    )


def e7_frames() -> list[NDArray]:
    """Return the 126 roots of E7 as nine frames of R^7, each with its opposite vectors, ``[14, 7]``.

    Coordinates are the nonzero elements of GF(8). One frame is the basis. The other roots have the
    values +-1/2 where ``Tr(h x) = 1``, for some h. They are in the frame m if ``m h + 1 / h`` is the sum
    of the coordinates with minus signs. So the frames are the lines ``y = m x`` of a plane over GF(8).
    """
    _, add, multiply = field(8)
    elements = np.arange(1, 8)
    square = multiply[elements, elements]
    trace = np.array([0, *add[add[elements, square], multiply[square, square]]])
    frames: list[list[NDArray]] = [[] for _ in range(8)]
    for h, signs in itertools.product(elements, itertools.product((0.5, -0.5), repeat=4)):
        places = elements[trace[multiply[h, elements]] == 1]
        inverse = elements[multiply[h, elements] == 1][0]
        total = inverse
        for place, sign in zip(places, signs, strict=True):
            total = add[total, place] if sign < 0 else total
        root = np.zeros(7)
        root[places - 1] = signs
        frames[multiply[total, inverse]].append(root)
    return [_both_signs(np.eye(7)), *map(np.array, frames)]
