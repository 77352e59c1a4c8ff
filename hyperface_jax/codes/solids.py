"""Optimal codes of 7 to 24 points on the ordinary sphere.

For 10, 13 and 14 points there is no short closed form. There, the points solve the equations of their
contacts, by Newton's method from coordinates with two digits.

References:
    Schütte and van der Waerden, *Auf welcher Kugel haben 5, 6, 7, 8 oder 9 Punkte mit Mindestabstand
    Eins Platz?*, 1951; Danzer, *Finite point-sets on S^2 with minimum distance as large as possible*,
    1986; Musin and Tarasov, *The strong thirteen spheres problem*, 2012, and *The Tammes problem for
    N = 14*, 2015; Robinson, *Arrangement of 24 points on a sphere*, 1961.
"""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.codes.code import SphericalCode, tabulated

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SCHUTTE = "Schütte and van der Waerden 1951"
_MUSIN = "Musin and Tarasov 2012, 2015"
_SEVEN = 1 / (math.tan(math.radians(40)) * math.tan(math.radians(80)))
_EIGHT = (8**0.5 - 1) / 7
_SHORT_OF_A_CONTACT = 0.03
_ROUGH = {
    10: """-63 -77 -12; 64 68 35; -49 -25 83; 82 11 -56; -44 77 46; -88 25 -39; -12 -29 -95; 46 -86 -22;
        2 85 -53; 59 -34 73""",
    13: """49 86 -14; -97 3 -26; 79 -33 -52; -43 81 -40; 24 61 75; -67 56 49; -26 -17 95; -65 -71 26;
        94 14 30; 49 -64 59; 13 -96 -24; -35 -40 -85; 24 35 -91""",
    14: """11 -20 97; 90 1 -43; 15 6 -99; 39 79 -46; 37 -74 -56; -56 -70 -45; -98 -13 16; -71 20 -67;
        -46 88 -9; -52 45 73; 29 84 46; 86 10 50; -39 -79 46; 54 -76 36""",
}


def solids() -> tuple[SphericalCode, ...]:
    """Return optimal codes of 7, 8, 9, 10, 13, 14 and 24 points in three dimensions."""
    return (
        tabulated(7, 3, _SEVEN, "7 points of Schütte and van der Waerden", _SCHUTTE, _seven),
        tabulated(8, 3, _EIGHT, "square antiprism", _SCHUTTE, _antiprism),
        tabulated(9, 3, 1 / 3, "three triangles", _SCHUTTE, _three_triangles),
        _tight(10, 0.40439432521625075, "10 points of Danzer", "Danzer 1986"),
        _tight(13, 0.5426364868296386, "13 points of Musin and Tarasov", _MUSIN),
        _tight(14, 0.5639503003605053, "14 points of Musin and Tarasov", _MUSIN),
        tabulated(24, 3, 0.7230784683335085, "snub cube", "Robinson 1961", _snub_cube),
    )


def _tight(size: int, cosine: float, name: str, reference: str) -> SphericalCode:
    return tabulated(size, 3, cosine, name, reference, partial(in_contact, size))


def _ring(size: int, height: float, turn: float) -> NDArray:
    """Return a regular polygon at a height, turned by a part of its step, ``[size, 3]``."""
    angle = 2 * math.pi * (np.arange(size) + turn) / size
    radius = math.sqrt(1 - height**2)
    flat = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius
    return np.concatenate([flat, np.full((size, 1), height)], axis=1)


def _seven() -> NDArray:
    """Return a pole, a triangle that touches it, and a triangle of touching points below."""
    height = math.sqrt((2 * _SEVEN + 1) / 3)
    return np.concatenate([[(0, 0, 1)], _ring(3, _SEVEN, 0), _ring(3, -height, 0.5)])


def _antiprism() -> NDArray:
    height = math.sqrt(_EIGHT)
    return np.concatenate([_ring(4, height, 0), _ring(4, -height, 0.5)])


def _three_triangles() -> NDArray:
    """Return a triangle on the equator and two above and below, turned by half a step."""
    height = math.sqrt(5 / 9)
    return np.concatenate([_ring(3, height, 0), _ring(3, 0, 0.5), _ring(3, -height, 0)])


def _snub_cube() -> NDArray:
    """Return permutations of ``(+-1, +-1/t, +-t)``, the tribonacci t: as many signs as parity allows."""
    t = float(max(np.roots([1, -1, -1, -1]).real))
    rows = []
    for order in itertools.permutations(range(3)):
        odd = sum(a > b for a, b in itertools.combinations(order, 2)) % 2
        for signs in itertools.product((1, -1), repeat=3):
            if sum(s < 0 for s in signs) % 2 == odd:
                rows.append((np.array(signs) * (1, 1 / t, t))[list(order)])
    points = np.array(rows)
    return points / np.linalg.norm(points[0])


def in_contact(size: int) -> NDArray:
    """Solve ``x_i . x_j = c`` for all contacts, with ``|x_i| = 1`` and c unknown, by Newton's method."""
    x = np.array([row.split() for row in _ROUGH[size].split(";")], float)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    first, second = np.triu_indices(size, 1)
    cosines = (x @ x.T)[first, second]
    touch = cosines > cosines.max() - _SHORT_OF_A_CONTACT
    first, second = first[touch], second[touch]
    cosine, count = float(cosines[touch].mean()), len(first)
    for _ in range(10):
        slopes = np.zeros((count + size, size, 3))
        slopes[range(count), first], slopes[range(count), second] = x[second], x[first]
        slopes[range(count, count + size), range(size)] = 2 * x
        last = np.repeat([-1.0, 0.0], [count, size])[:, None]
        misses = [cosine - (x[first] * x[second]).sum(1), 1 - (x * x).sum(1)]
        matrix = np.concatenate([slopes.reshape(-1, 3 * size), last], axis=1)
        step = np.linalg.lstsq(matrix, np.concatenate(misses), rcond=1e-9)[0]
        x, cosine = x + step[:-1].reshape(size, 3), cosine + step[-1]
    return x
