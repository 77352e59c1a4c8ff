"""The codes that :func:`best_known` chooses from, by their parameters; built when they are used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import NamedTuple

from hyperface_jax.codes import basic, linear, searched, sharp
from hyperface_jax.codes.code import MAX_POINTS, SphericalCode
from hyperface_jax.codes.shortened import punctured, shortened

MAX_DIM = 4096
_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61)
_QUADRANGLES = (2, 3, 4, 5, 7, 8, 9)


class Entry(NamedTuple):
    """A code by its parameters.

    Attributes:
        num_points: n.
        dim: d.
        max_cosine: proven.
        name: of the construction.
        build: makes it.
    """

    num_points: int
    dim: int
    max_cosine: float
    name: str
    build: Callable[[], SphericalCode]


class Family(NamedTuple):
    """A linear code by its parameters, with all that can be made of it.

    Attributes:
        symbols: q.
        digits: of a message, base q (2 for the Gray map).
        length: N.
        characters: rows that are characters.
        max_cosine: proven.
        name: of the code.
        build: makes it.
    """

    symbols: int
    digits: int
    length: int
    characters: int
    max_cosine: float
    name: str
    build: Callable[[], linear.LinearCode]

    @property
    def radix(self) -> int:
        """Values of a digit."""
        return 2 if self.symbols == 4 else self.symbols

    @property
    def coordinates(self) -> int:
        """Coordinates that can be shortened apart."""
        return 2 * self.length if self.symbols == 4 else self.length

    @property
    def width(self) -> int:
        """Dimensions of a position."""
        return 2 if self.symbols == 4 else self.symbols - 1


@cache
def catalogue() -> tuple[Entry, ...]:
    """Return all entries of at most ``MAX_DIM`` dimensions, those of every dimension left out."""
    found = [*_sporadic(), *_quadrangles()]
    for family in families():
        found += _shortenings(family)
    return tuple(entry for entry in found if entry.dim <= MAX_DIM)


@cache
def families() -> tuple[Family, ...]:
    """Return the linear families."""
    return (*_binary(), *_gray(), *_quadratics(), _quinary())


def puncturings(dim: int) -> list[Entry]:
    """Return codes a little longer than ``dim``, without so many positions that they fit."""
    found = []
    for family in families():
        gone = -(-(family.length * family.width - dim) // family.width)
        rest = family.length - gone
        if 0 < gone <= family.length // 8:
            cosine = (family.length * family.max_cosine + gone) / rest
            name = f"{family.name}, punctured {gone} times"
            build = partial(_punctured, family, gone)
            found.append(Entry(_size(family, 0), rest * family.width, cosine, name, build))
    return found


def polygons(num_points: int, dim: int) -> list[Entry]:
    """Return polygons of which some number gives so many points: the last resort of few dimensions."""
    sizes = {max(-(-num_points // planes), 3) for planes in range(1, dim // 2 + 1)}
    return [
        Entry(n, 2, math.cos(2 * math.pi / n), f"{n}-gon", partial(basic.polygon, n)) for n in sizes
    ]


def _punctured(family: Family, count: int) -> SphericalCode:
    return punctured(family.build(), count).spherical()


def _shortenings(family: Family) -> Iterator[Entry]:
    for count in range(family.characters + 2):
        size = family.coordinates
        lost = count if family.symbols == 4 else count * family.width
        dim = family.length * family.width - lost
        cosine = (size * family.max_cosine - count) / (size - count)
        name = family.name if count == 0 else f"{family.name}, shortened {count} times"
        yield Entry(_size(family, count), dim, cosine, name, partial(_shortened, family, count))
    dim = family.length * family.width
    if family.symbols in (2, 4) and family.max_cosine >= dim**-0.5:
        size = min(_size(family, 0) + 2 * dim, MAX_POINTS)
        name = f"{family.name} and basis"
        if size == _size(family, 0) + 2 * dim:
            yield Entry(size, dim, family.max_cosine, name, partial(_with_basis, family))


def _shortened(family: Family, count: int) -> SphericalCode:
    return shortened(family.build(), count)


def _with_basis(family: Family) -> SphericalCode:
    return family.build().with_basis()


def _size(family: Family, count: int) -> int:
    return min(family.radix ** (family.digits - count), MAX_POINTS)


def _binary() -> Iterator[Family]:
    for m in range(3, 13, 2):
        for r in range(1, (m - 1) // 2 + 1):
            name = "Gold" if r == 1 else f"dual BCH with {r + 1} exponents"
            build = partial(linear.gold, m, r)
            yield Family(
                2, m * (r + 1) + 1, 2**m, m, 2.0 ** (r - (m + 1) / 2), f"{name}, d = {2**m}", build
            )
    for m in range(4, 10):
        for designed, digits in linear.bch_dimensions(m):
            distance = designed + designed % 2
            name = f"extended BCH [{2**m}, {digits}, {distance}]"
            build = partial(linear.extended_bch, m, designed)
            yield Family(2, digits, 2**m, m, 1 - 2 * distance / 2**m, name, build)


def _gray() -> Iterator[Family]:
    for m in range(4, 13, 2):
        for r in range(1, m // 2 + 1):
            name = f"Kerdock, d = {2**m}" if r == m // 2 else f"Delsarte-Goethals DG({m}, {r})"
            digits = (m - 1) * (m // 2 - r + 2) + 2
            build = partial(linear.delsarte_goethals, m, r)
            yield Family(4, digits, 2 ** (m - 1), m - 1, 2.0**-r, name, build)


def _quadratics() -> Iterator[Family]:
    for p in _PRIMES:
        for m in (1, 3, 5, 7):
            if p**m * (p - 1) <= MAX_DIM:
                cosine = p ** ((1 - m) / 2) / (p - 1)
                build = partial(linear.quadratic, p, m)
                name = f"{p}-ary quadratics, d = {p**m * (p - 1)}"
                yield Family(p, 2 * m + 1, p**m, m, cosine, name, build)


def _quinary() -> Family:
    name = "[125, 8, 94] over GF(5)"
    return Family(5, 8, 125, 3, 0.06, name, searched.quinary_125)


def _sporadic() -> Iterator[Entry]:
    for name, (size, dim, cosine) in sharp.SHARP.items():
        yield Entry(size, dim, cosine, name, partial(sharp.sharp_configuration, name))
    yield Entry(729, 112, 1 / 28, "Hill cap [56, 6, 36] over GF(3)", searched.hill_cap)


def _quadrangles() -> Iterator[Entry]:
    for q in _QUADRANGLES:
        dim = q * (q * q - q + 1)
        name = f"Cameron-Goethals-Seidel, q = {q}"
        yield Entry(
            (q + 1) * (q**3 + 1), dim, q**-2, name, partial(sharp.cameron_goethals_seidel, q)
        )
        build = partial(_far_points, q)
        yield Entry(q**4, dim - 1, 1 / (q * q + 1), f"{name}, derived", build)


def _far_points(q: int) -> SphericalCode:
    return sharp.derived(sharp.cameron_goethals_seidel(q), q**-2)
