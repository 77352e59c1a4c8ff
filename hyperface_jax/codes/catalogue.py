"""The codes from which :func:`best_known` chooses; none is built until its rows are requested."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from hyperface_jax.codes import basic, linear, searched, sharp
from hyperface_jax.codes.code import MAX_POINTS, SphericalCode
from hyperface_jax.codes.derived import derived_codes
from hyperface_jax.codes.graphs import graph_codes
from hyperface_jax.codes.kissing import kissing_configurations
from hyperface_jax.codes.labelled import labelled_codes
from hyperface_jax.codes.linear import LinearCode
from hyperface_jax.codes.polytopes import polytopes
from hyperface_jax.codes.quaternary import quaternary_codes
from hyperface_jax.codes.shortening import punctured, restricted
from hyperface_jax.codes.solids import solids
from hyperface_jax.codes.unions import union_codes
from hyperface_jax.codes.vertices import with_vertices

MAX_DIM = 4096
_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61)
_QUADRANGLES = (2, 3, 4, 5, 7, 8, 9)


@cache
def catalogue() -> tuple[SphericalCode, ...]:
    """Return all codes of at most ``MAX_DIM`` dimensions, except those that exist in every dimension."""
    found = [*map(sharp.sharp_configuration, sharp.SHARP), *polytopes(), searched.hill_cap()]
    found += [*solids(), *graph_codes(), *kissing_configurations(), *derived_codes()]
    found += [*quaternary_codes(), *union_codes(), *labelled_codes()]
    for q in _QUADRANGLES:
        found += [sharp.cameron_goethals_seidel(q), sharp.derived_quadrangle(q)]
    for code in families():
        found += _shortenings(code)
    return tuple(code for code in found if code.dim <= MAX_DIM)


@cache
def families() -> tuple[LinearCode, ...]:
    """Return the linear codes."""
    return (*_binary(), *_gray(), *_quadratics(), searched.quinary_125())


def restrictions(num_points: int, dim: int) -> list[SphericalCode]:
    """Return codes with one allowed symbol in some coordinates and a few in others.

    Each code has just enough points: in its words alone, or together with the opposite vertices, or
    together with these and the unit vectors of the remaining dimensions.
    """
    found = []
    for code in families():
        most_shortened = code.dim - (code.num_characters + 1) * code.alphabet.shape[1]
        if not code.is_simplex or not code.num_characters or most_shortened > dim:
            continue
        vertices, axes = code.num_symbols * code.length, 2 * (dim - most_shortened)
        for num_words in {num_points, num_points - vertices, num_points - vertices - axes}:
            found += [with_vertices(code, allowed) for allowed in _allowed(code, num_words)]
    return [code for code in found if code.dim <= dim]


def puncturings(dim: int) -> list[SphericalCode]:
    """Return codes that are slightly too long for ``dim``, punctured just enough to fit."""
    found = []
    for code in families():
        width = code.dim // code.length
        gone = -(-(code.dim - dim) // width)
        if 0 < gone <= code.length // 8:
            found.append(_restricted(punctured(code, gone), ()))
    return found


def polygons(num_points: int, dim: int) -> list[SphericalCode]:
    """Return polygons that give enough points in orthogonal planes, for use in low dimensions."""
    sizes = {max(-(-num_points // planes), 3) for planes in range(1, dim // 2 + 1)}
    return [basic.polygon(n) for n in sizes]


def _shortenings(code: LinearCode) -> Iterator[SphericalCode]:
    yield from (_restricted(code, (1,) * count) for count in range(code.num_characters + 2))
    if code.num_symbols in (2, 4) and code.num_words + 2 * code.dim <= MAX_POINTS:
        yield code.with_basis()


def _restricted(code: LinearCode, allowed: tuple[int, ...]) -> SphericalCode:
    """Return a restriction of the code, with the opposite vertices if there are any."""
    return with_vertices(code, allowed) if code.is_simplex else restricted(code, allowed)


def _allowed(code: LinearCode, num_points: int) -> Iterator[tuple[int, ...]]:
    """Find numbers of allowed symbols that leave just enough words of a simplex code."""
    q = code.num_symbols
    if not 0 < num_points <= code.num_words:
        return
    single, size = 0, code.num_words
    while size >= q * num_points and single <= code.num_characters:
        single, size = single + 1, size // q
    rest = code.num_characters + 1 - single
    for kept in _products(q, size / num_points, rest, q - 1):
        yield (1,) * single + kept


def _products(q: int, ratio: float, length: int, most: int) -> Iterator[tuple[int, ...]]:
    """Yield up to ``length`` non-increasing numbers k with ``prod(q / k)`` at most ``ratio``."""
    for k in range(most, 1, -1):
        if length and q / k <= ratio + 1e-12:
            tails = list(_products(q, ratio * k / q, length - 1, k))
            yield from ((k, *tail) for tail in tails)
            if not tails:
                yield (k,)


def _binary() -> Iterator[LinearCode]:
    for m in range(3, 13, 2):
        yield from (linear.gold(m, r) for r in range(1, (m - 1) // 2 + 1))
    for m in range(4, 10):
        yield from (linear.extended_bch(m, distance) for distance in linear.bch_distances(m))


def _gray() -> Iterator[LinearCode]:
    for m in range(4, 13, 2):
        yield from (linear.delsarte_goethals(m, r) for r in range(1, m // 2 + 1))


def _quadratics() -> Iterator[LinearCode]:
    for p in _PRIMES:
        for m in (1, 3, 5, 7):
            if p**m * (p - 1) <= MAX_DIM:
                yield linear.quadratic(p, m)
