"""Proven optima of spherical codes and proven upper bounds on kissing numbers, as a table.

The smallest max cosine of n points in ``R^d`` rises with n and falls with d. So each entry bounds all
larger n and all smaller d, too. :func:`hyperface_jax.bounds.tightest` uses the table where it is the
tightest.

References:
    K. Schütte, B. L. van der Waerden, Auf welcher Kugel haben 5, 6, 7, 8 oder 9 Punkte mit
    Mindestabstand Eins Platz?, Math. Ann. 123 (1951).
    R. M. Robinson, Arrangement of 24 points on a sphere, Math. Ann. 144 (1961).
    L. Danzer, Finite point-sets on S^2 with minimum distance as large as possible, Discrete Math. 60
    (1986).
    C. Bachoc, F. Vallentin, Optimality and uniqueness of the (4, 10, 1/6) spherical code, J. Combin.
    Theory A 116 (2009).
    H. D. Mittelmann, F. Vallentin, High-accuracy semidefinite programming bounds for kissing numbers,
    Exp. Math. 19 (2010), arXiv 0902.1105.
    O. R. Musin, A. S. Tarasov, The strong thirteen spheres problem, Discrete Comput. Geom. 48 (2012),
    and The Tammes problem for N = 14, Exp. Math. 24 (2015).
    F. C. Machado, F. M. de Oliveira Filho, Improving the semidefinite programming bound for the kissing
    number by exploiting polynomial symmetry, Exp. Math. 27 (2018), arXiv 1609.05167.
    H. Cohn, D. de Laat, N. Leijenhorst, Optimality of spherical codes via exact semidefinite programming
    bounds, arXiv 2403.16874 (2024).
    D. de Laat, N. Leijenhorst, W. de Muinck Keizer, Optimality and uniqueness of the D4 root system,
    arXiv 2404.18794 (2024): the only 24 points with max cosine 1/2; at most 77 in six dimensions.
    N. Leijenhorst, D. de Laat, Solving clustered low-rank semidefinite programs arising from polynomial
    optimization, Math. Program. Comput. 16 (2024), arXiv 2202.12077.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Optimum(NamedTuple):
    """A value below which the max cosine of ``num_points`` points in ``R^dim`` cannot be.

    Attributes:
        num_points: Number of unit vectors n.
        dim: Dimension d of the ambient space.
        value: Proven lower bound on the max cosine of n points in ``R^d``.
        reference: Authors and year of the proof.
    """

    num_points: int
    dim: int
    value: float
    reference: str


_SCHUTTE = "Schütte and van der Waerden 1951"
_COHN = "Cohn, de Laat and Leijenhorst 2024"
_LEIJENHORST = "Leijenhorst and de Laat 2024"
_D4 = "de Laat, Leijenhorst and de Muinck Keizer 2024"
_MITTELMANN = "Mittelmann and Vallentin 2010"
_MACHADO = "Machado and de Oliveira Filho 2018"

OPTIMAL_CODES = (
    Optimum(7, 3, 1 / (math.tan(math.radians(40)) * math.tan(math.radians(80))), _SCHUTTE),
    Optimum(8, 3, (8**0.5 - 1) / 7, _SCHUTTE),
    Optimum(9, 3, 1 / 3, _SCHUTTE),
    Optimum(10, 3, 0.40439432521625075, "Danzer 1986"),  # a root of 7 x^3 - 4 x^2 - 2 x + 1
    Optimum(11, 3, 5**-0.5, "Danzer 1986"),
    Optimum(13, 3, 0.5426364868296386, "Musin and Tarasov 2012"),  # an angle of 57.13670 degrees
    Optimum(14, 3, 0.5639503003605053, "Musin and Tarasov 2015"),  # 55.67057 degrees, OEIS A383860
    Optimum(24, 3, 0.7230784683335085, "Robinson 1961"),  # the snub cube
    Optimum(10, 4, 1 / 6, "Bachoc and Vallentin 2009"),
    Optimum(24, 4, 1 / 2, _D4),
    Optimum(288, 16, 1 / 4, _COHN),
    Optimum(56, 20, 1 / 15, _COHN),
    Optimum(50, 21, 1 / 21, _COHN),
    Optimum(77, 21, 1 / 12, _COHN),
    Optimum(4224, 64, 1 / 8, _COHN),
    Optimum(66048, 256, 1 / 16, _COHN),
    Optimum(1050624, 1024, 1 / 32, _COHN),
)
"""Codes that are proven optimal and do not meet the bound of a theorem in :mod:`.bounds`."""

KISSING_BOUNDS = {
    5: (44, _MITTELMANN),
    6: (77, _D4),
    7: (134, _MITTELMANN),
    9: (363, _MACHADO),
    10: (553, _MACHADO),
    11: (868, _LEIJENHORST),
    12: (1355, _LEIJENHORST),
    13: (2064, _LEIJENHORST),
    14: (3174, _LEIJENHORST),
    15: (4853, _LEIJENHORST),
    16: (7320, _LEIJENHORST),
    17: (10978, _LEIJENHORST),
    18: (16406, _LEIJENHORST),
    19: (24417, _LEIJENHORST),
    20: (36195, _LEIJENHORST),
    21: (53524, _LEIJENHORST),
    22: (80810, _LEIJENHORST),
    23: (122351, _LEIJENHORST),
}
"""For each dimension, the most points that can have a max cosine of 1/2, by a proven bound."""

PROVEN = OPTIMAL_CODES + tuple(
    Optimum(most + 1, dim, 1 / 2, f"kissing number, {reference}")
    for dim, (most, reference) in KISSING_BOUNDS.items()
)
"""All entries; one more point than a kissing number allows has a max cosine above 1/2."""


def proven(num_points: int, dim: int) -> Optimum | None:
    """Return the entry with the largest value among those that bound n points in ``R^d``.

    Args:
        num_points: Number of unit vectors n.
        dim: Dimension d of the ambient space.

    Returns:
        An entry with at most n points in at least d dimensions, or None.

    Examples:
        >>> proven(300, 16)
        Optimum(num_points=288, dim=16, value=0.25, reference='Cohn, de Laat and Leijenhorst 2024')
        >>> proven(7, 4) is None
        True
    """
    found = [entry for entry in PROVEN if entry.num_points <= num_points and entry.dim >= dim]
    return max(found, key=lambda entry: entry.value, default=None)
