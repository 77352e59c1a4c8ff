"""Derived codes: the points of a code at one cosine to one of its points, and so on.

They are projected orthogonally to that point and normalized. If two points have a cosine of at most s,
and both have c to the point, they then have at most ``(s - c^2) / (1 - c^2)``, in one dimension less.
Kissing configurations give 1/3 in this way (for c = 1/2), then 1/4 and 1/5, or 7/15 (for c = 1/4).

References:
    Conway and Sloane, *Sphere Packings, Lattices and Groups*, 1999, chapter 14, for the Leech lattice.
    The other points and cosines were found by search, as those that give the most points.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hyperface_jax.codes import kissing, unions
from hyperface_jax.codes.code import SphericalCode, tabulated
from hyperface_jax.codes.linear import kerdock
from hyperface_jax.codes.sharp import factored, leech, neighbors
from hyperface_jax.codes.shortening import shortened

if TYPE_CHECKING:
    from numpy.typing import NDArray

Steps = tuple[tuple[int, float], ...]


class _Whole(NamedTuple):
    """A code, its max cosine, and the codes derived from it.

    Each of these has a number of points, a dimension, and for each step the number of a point and the
    cosine to it.
    """

    name: str
    reference: str
    make: Callable[[], NDArray]
    max_cosine: float
    derived: tuple[tuple[int, int, Steps], ...]


def derived_codes() -> tuple[SphericalCode, ...]:
    """Return derived codes in 7 to 16 dimensions and in 23."""
    return tuple(
        _code(whole, size, dim, steps) for whole in _wholes() for size, dim, steps in whole.derived
    )


def _code(whole: _Whole, size: int, dim: int, steps: Steps) -> SphericalCode:
    cosine = whole.max_cosine
    for _, c in steps:
        cosine = (cosine - c * c) / (1 - c * c)
    name = f"{whole.name}, {size} points"
    return tabulated(size, dim, cosine, name, whole.reference, partial(_derived, whole, dim, steps))


def _derived(whole: _Whole, dim: int, steps: Steps) -> NDArray:
    points = whole.make()
    for number, cosine in steps:
        points = neighbors(points, cosine, number)
    return points if points.shape[1] == dim else factored(points @ points.T, dim)


def _shortened_kerdock(count: int) -> NDArray:
    code = shortened(kerdock(4), count)
    return np.sign(np.asarray(code.block(0, code.num_points), np.float64)) / code.dim**0.5


@cache
def _wholes() -> tuple[_Whole, ...]:
    conway, cohn_li, ganzhinov = "Conway and Sloane 1999", "Cohn and Li 2024", "Ganzhinov 2025"
    third = ((0, 1 / 2),)
    fourth = (*third, (0, 1 / 3))
    section = ((0, 0.0), *third)
    return (
        _Whole("Leech lattice", conway, leech, 1 / 2, ((47104, 23, ((0, 1 / 4),)),)),
        _Whole(
            "Golay octads with odd signs, d = 20",
            cohn_li,
            partial(kissing.odd_octads, 20),
            1 / 2,
            ((580, 16, ((1620, -1 / 4), (2499, 1 / 5), (27, 1 / 6))),),
        ),
        _Whole(
            "Golay octads with odd signs, d = 19",
            cohn_li,
            partial(kissing.odd_octads, 19),
            1 / 2,
            (
                (320, 15, ((0, -1 / 2), (3, 0.0))),
                (87, 14, ((0, -1 / 2), (3, 0.0), (0, -1 / 3))),
            ),
        ),
        _Whole(
            "section of the Leech lattice, d = 18",
            conway,
            partial(kissing.leech_section, 18),
            1 / 2,
            (
                (1080, 16, ((4312, -1 / 4), (108, -1 / 15))),
                (604, 16, ((4312, -1 / 4), (672, 1 / 5))),
                (336, 16, ((4312, -1 / 4), (132, -1 / 3))),
                (80, 13, ((4312, -1 / 4), (132, -1 / 3), (23, 2 / 5))),
                (135, 15, ((4312, -1 / 2), (12, -1 / 3))),
            ),
        ),
        _Whole(
            "Barnes-Wall lattice",
            conway,
            partial(kissing.leech_section, 16),
            1 / 2,
            (
                (1024, 15, ((0, 1 / 4),)),
                (224, 14, section),
                (63, 13, (*section, (0, 1 / 3))),
                (48, 13, (*fourth, (16, 1 / 4))),
                (40, 12, (*section, (0, 1 / 3), (5, 1 / 4))),
            ),
        ),
        _Whole(
            "section of the Leech lattice, d = 15",
            conway,
            partial(kissing.leech_section, 15),
            1 / 2,
            (
                (560, 14, ((420, 1 / 4),)),
                (53, 11, ((0, 0.0), (24, 1 / 2), (12, 1 / 3))),
                (34, 10, ((0, 0.0), (24, 1 / 2), (12, 1 / 3), (13, 1 / 4))),
            ),
        ),
        _Whole(
            "frames of E7",
            ganzhinov,
            unions.pairs_in_frames,
            1 / 2,
            ((448, 13, ((1764, 1 / 4),)), (176, 13, third), (55, 12, fourth)),
        ),
        _Whole(
            "signed quadruples between layers",
            "Zinoviev and Ericson 1999",
            unions.layered_quadruples,
            1 / 2,
            ((276, 12, ((972, 1 / 4),)),),
        ),
        _Whole(
            "Julin's words and basis",
            "Zinoviev and Ericson 1999",
            unions.julin_and_basis,
            1 / 3,
            ((72, 11, ((0, 12**-0.5),)),),
        ),
        _Whole(
            "signed quadruples, d = 12",
            conway,
            partial(kissing.quadruples_and_basis, 12),
            1 / 2,
            (
                (192, 11, ((60, 1 / 4),)),
                (136, 11, third),
                (51, 10, (*third, (72, 1 / 3))),
                (32, 9, (*fourth, (2, 1 / 4))),
                (24, 7, (*third, (16, 1 / 3), (9, 1 / 4))),
            ),
        ),
        _Whole(
            "tetracode and octahedron",
            "Bianchi, Kwon, Pappu and Zou 2026",
            unions.tetracode_and_octahedron,
            1 / 2,
            (
                (128, 9, ((596, 8**-0.5),)),
                (108, 10, third),
                (41, 9, fourth),
                (26, 8, (*fourth, (1, 1 / 4))),
            ),
        ),
        _Whole(
            "lines of PSU(4, 2)",
            ganzhinov,
            unions.lines_of_psu,
            1 / 2,
            ((82, 9, ((240, 1 / 2),)), (39, 8, fourth)),
        ),
        _Whole(
            "signed quadruples, d = 9",
            conway,
            partial(kissing.quadruples_and_basis, 9),
            1 / 2,
            ((64, 8, third),),
        ),
        _Whole(
            "Kerdock, d = 15",
            "Kerdock 1972",
            partial(_shortened_kerdock, 1),
            1 / 5,
            ((70, 14, ((0, 1 / 5),)), (42, 14, ((0, -1 / 3),))),
        ),
        _Whole(
            "Kerdock, d = 14",
            "Kerdock 1972",
            partial(_shortened_kerdock, 2),
            1 / 7,
            ((42, 13, ((0, 1 / 7),)), (28, 12, ((0, 1 / 7), (0, 1 / 8)))),
        ),
    )
