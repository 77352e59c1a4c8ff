"""Linear codes over Z2, Z4 and Zp on the sphere: Kerdock, Delsarte-Goethals, dual BCH, quadratics.

A word is a message times a generator matrix. Each of its symbols is mapped to a point of a small
simplex, a square or a pair of signs. The cosine of two words depends only on their difference, so the
words determine the cosines of all pairs: see :mod:`.distances`. Nothing is built until it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax.codes.basic import cross_polytope, simplex_points
from hyperface_jax.codes.code import MAX_POINTS, SphericalCode, joined
from hyperface_jax.codes.distances import linear_max_cosine
from hyperface_jax.codes.sequences import field_traces, ring_traces

if TYPE_CHECKING:
    from jaxtyping import Array, Int

    from hyperface_jax.typing import Indices, Points

    Symbols = Int[Array, "k N"]

_SIGNS = np.array([[1.0], [-1.0]])
_GRAY = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]]) / math.sqrt(2)


@dataclass(frozen=True, eq=False)
class LinearCode:
    """Messages, the generator matrix of their words, and the points that represent symbols.

    Attributes:
        length: number of positions N.
        radix: number of values of each message digit, ``[k]``; the first digit is the lowest of the row
            index.
        alphabet: unit vectors of the symbols, ``[q, s]``. Their inner products must depend only on the
            difference of the symbols.
        num_characters: number of character rows, the first rows of the generator. Their entries are
            ``q / radix`` times the digits of the position's number, so that their combinations include
            all characters of the positions. The last row of the generator is ``q / radix`` everywhere.
        max_cosine: proven max cosine.
        name: name of the code.
        reference: where the max cosine is proven.
        make: function that makes the generator, ``[k, N]`` integers modulo the number of symbols q.
    """

    length: int
    radix: tuple[int, ...]
    alphabet: np.ndarray
    num_characters: int
    max_cosine: float
    name: str
    reference: str
    make: Callable[[], np.ndarray]

    @cached_property
    def generator(self) -> np.ndarray:
        """The generator matrix, made once."""
        rows = self.make()
        assert rows.shape == (len(self.radix), self.length), f"{self.name}: made {rows.shape}"
        return rows

    @property
    def num_words(self) -> int:
        """Number of messages."""
        return math.prod(self.radix)

    @property
    def num_symbols(self) -> int:
        """Number of symbols q."""
        return len(self.alphabet)

    @property
    def is_simplex(self) -> bool:
        """Whether the symbols are the q > 2 vertices of a simplex, and digits have q values."""
        q = self.num_symbols
        return q > 2 and self.radix[0] == q and self.alphabet.shape[1] == q - 1

    @property
    def is_gray(self) -> bool:
        """Whether the symbols are the elements of Z4, mapped to the plane."""
        return self.alphabet.shape == (4, 2)

    @property
    def num_coordinates(self) -> int:
        """Number of coordinates that can be shortened separately: 2 N for the Gray map, else N."""
        return 2 * self.length if self.is_gray else self.length

    @property
    def dim(self) -> int:
        """Dimension of the space that contains the sphere."""
        return self.length * self.alphabet.shape[1]

    def words(self, index: Indices) -> Symbols:
        """Return the words of the given messages, ``[k, N]`` symbols."""
        return self.encoded(digits(index, self.radix))

    def encoded(self, message: Any) -> Symbols:
        """Return the words of messages that are given as digits, ``[k, rows]``."""
        # Float32 products are fast on every device, and exact because the sums stay far below 2^24.
        symbols = jnp.matmul(
            message.astype(jnp.float32),
            jnp.asarray(self.generator, jnp.float32),
            precision=jax.lax.Precision.HIGHEST,
        )
        return symbols.astype(jnp.int32) % self.num_symbols

    def coordinates(self, symbols: Symbols) -> Points:
        """Return the points of words, not normalized, ``[k, d]``."""
        points = jnp.asarray(self.alphabet, jnp.float32)[symbols]
        return points.reshape(symbols.shape[0], -1)

    def spherical(self) -> SphericalCode:
        """Return the words as a spherical code."""

        def rows(index: Indices) -> Points:
            return self.coordinates(self.words(index)) * self.length**-0.5

        return SphericalCode(
            min(self.num_words, MAX_POINTS),
            self.dim,
            self.max_cosine,
            self.name,
            self.reference,
            rows,
            partial(linear_max_cosine, self),
        )

    def with_basis(self) -> SphericalCode:
        """Return the words and ``+-e_i``, which have a cosine of at most ``1 / sqrt(d)`` to words.

        Raises:
            ValueError: the coordinates of words are not ``+-1 / sqrt(d)``.
        """
        if not np.allclose(abs(self.alphabet), self.alphabet.shape[1] ** -0.5):
            raise ValueError(f"{self.name}: its coordinates are not +-1/sqrt(d)")
        return joined(
            self.spherical(),
            cross_polytope(self.dim),
            between=self.dim**-0.5,
            name=f"{self.name} and basis",
            reference=self.reference,
        )


def digits(index: Indices, radix: tuple[int, ...]) -> Symbols:
    """Return the digits of row indices, the lowest first, ``[k, len(radix)]``."""
    strides = np.minimum(np.cumprod([1, *radix[:-1]], dtype=float), MAX_POINTS).astype(np.int32)
    return index[:, None] // strides[None] % jnp.asarray(radix, jnp.int32)[None]


def gold(m: int, num_forms: int = 1) -> LinearCode:
    """Return the dual of a BCH code of length ``2^m`` with complements, for odd m.

    Its words are ``(-1)^(sum_k Tr(a_k x^(2^k + 1)) + Tr(b x) + c)`` with k = 1 .. r.

    Args:
        m: an odd number, at least 3.
        num_forms: number of forms r, between 1 and (m - 1) / 2; 1 gives Gold's code.

    Returns:
        A code of ``2^(m (r + 1) + 1)`` points in ``2^m`` dimensions with max cosine
        ``2^(r - (m + 1) / 2)``.

    References:
        Gold, *Maximal recursive sequences with 3-valued recursive cross-correlation functions*, 1968;
        MacWilliams and Sloane, *The Theory of Error-Correcting Codes*, 1977, chapter 15.
    """
    if m < 3 or m % 2 == 0:
        raise ValueError(f"m={m}: must be odd and at least 3")
    _check_between("num_forms", num_forms, 1, (m - 1) // 2)
    name = "Gold" if num_forms == 1 else f"dual BCH with {num_forms + 1} exponents"
    exponents = [2**k + 1 for k in range(num_forms + 1)]
    return LinearCode(
        2**m,
        (2,) * (m * (num_forms + 1) + 1),
        _SIGNS,
        m,
        2.0 ** (num_forms - (m + 1) / 2),
        f"{name}, d = {2**m}",
        "MacWilliams and Sloane 1977, chapter 15",
        partial(_binary_rows, m, exponents),
    )


def _binary_rows(m: int, exponents: list[int]) -> np.ndarray:
    """Return independent rows for all ``Tr(a x^e)``, and the row of ones."""
    terms = [_independent(field_term(field_traces(2, m), m, e)) for e in exponents]
    return np.concatenate([*terms, np.ones((1, 2**m), np.int64)])


def kerdock(m: int) -> LinearCode:
    """Return the Kerdock code of length ``2^m``, for even m.

    Together with the basis (:meth:`LinearCode.with_basis`) it is optimal.

    Returns:
        A code of ``4^m`` points in ``2^m`` dimensions with max cosine ``2^(-m / 2)``.

    References:
        Kerdock 1972; Hammons et al. 1994 (as a Z4-linear code).
    """
    return delsarte_goethals(m, m // 2)


def delsarte_goethals(m: int, r: int) -> LinearCode:
    """Return the Delsarte-Goethals code DG(m, r), for even m.

    It is the Gray image of the words ``T(lambda x) + 2 sum_k Tr(a_k x^(2^k + 1)) + u`` over the Galois
    ring GR(4, m - 1), with k = 1 .. m / 2 - r.

    Args:
        m: an even number, at least 4.
        r: a number between 1 and m / 2; the latter gives Kerdock's code.

    Returns:
        A code of ``2^((m - 1)(m / 2 - r + 1) + m + 1)`` points in ``2^m`` dimensions with max cosine
        ``2^(-r)``.

    References:
        Delsarte and Goethals 1975; Hammons et al., IEEE Trans. IT 1994, section VI.
    """
    if m < 4 or m % 2:
        raise ValueError(f"m={m}: must be even and at least 4")
    _check_between("r", r, 1, m // 2)
    return LinearCode(
        2 ** (m - 1),
        (2,) * ((m - 1) * (m // 2 - r + 2) + 2),
        _GRAY,
        m - 1,
        2.0**-r,
        f"Kerdock, d = {2**m}" if r == m // 2 else f"Delsarte-Goethals DG({m}, {r})",
        "Hammons, Kumar, Calderbank, Sloane and Sole 1994",
        partial(_ring_rows, m - 1, m // 2 - r),
    )


def _ring_rows(degree: int, num_forms: int) -> np.ndarray:
    bits = field_traces(2, degree)
    forms = [2 * field_term(bits, degree, 2**k + 1) for k in range(1, num_forms + 1)]
    linear, lifted = 2 * field_term(bits, degree, 1), field_term(ring_traces(degree), degree, 1)
    ones = np.ones((1, 2**degree), np.int64)
    return np.concatenate([linear, *forms, lifted, ones, 2 * ones])


def quadratic(p: int, m: int) -> LinearCode:
    """Return the words ``Tr(a x^2 + b x) + c`` over GF(p), mapped to simplices, for odd p and m.

    Returns:
        A code of ``p^(2 m + 1)`` points in ``p^m (p - 1)`` dimensions with max cosine
        ``p^((1 - m) / 2) / (p - 1)``.

    References:
        Sidelnikov 1971 (the sums); Ericson and Zinoviev, *Codes on Euclidean Spheres*, 2001.
    """
    if p < 3 or any(p % k == 0 for k in range(2, math.isqrt(p) + 1)):
        raise ValueError(f"p={p}: must be an odd prime")
    if m < 1 or m % 2 == 0:
        raise ValueError(f"m={m}: must be odd")
    return LinearCode(
        p**m,
        (p,) * (2 * m + 1),
        simplex_points(p),
        m,
        p ** ((1 - m) / 2) / (p - 1),
        f"{p}-ary quadratics, d = {p**m * (p - 1)}",
        "Sidelnikov 1971; Ericson and Zinoviev 2001",
        partial(_quadratic_rows, p, m),
    )


def _quadratic_rows(p: int, m: int) -> np.ndarray:
    traces = field_traces(p, m)
    ones = np.ones((1, p**m), np.int64)
    return np.concatenate([field_term(traces, m, 1), field_term(traces, m, 2), ones])


def extended_bch(m: int, designed: int) -> LinearCode:
    """Return the extended primitive BCH code of length ``2^m`` with a designed distance.

    Its words are ``(-1)^(sum_e Tr(a_e x^e) + c)``, where e runs over the classes of exponents that are
    not zeros of the code.

    Args:
        m: a number, at least 3.
        designed: designed distance of the code before its extension, at least 3.

    Returns:
        A code of ``2^k`` points in ``2^m`` dimensions with max cosine at most ``1 - 2 D / 2^m``, where
        D is the designed distance, rounded up to an even number.

    Raises:
        ValueError: only trivial words are left, or the characters are not among the words.

    References:
        MacWilliams and Sloane 1977, chapter 9 (the BCH bound).
    """
    exponents = _nonzeros(m, designed)
    if 1 not in exponents:
        raise ValueError(f"designed={designed}: too large for m={m}")
    num_digits = 1 + sum(_class_size(m, e) for e in exponents)
    distance = designed + designed % 2
    return LinearCode(
        2**m,
        (2,) * num_digits,
        _SIGNS,
        m,
        1 - 2 * distance / 2**m,
        f"extended BCH [{2**m}, {num_digits}, {distance}]",
        "MacWilliams and Sloane 1977, chapter 9",
        partial(_binary_rows, m, exponents),
    )


def bch_distances(m: int) -> list[int]:
    """Return one designed distance for each extended BCH code of length ``2^m``."""
    found = {}
    for designed in range(3, 2 ** (m - 1)):
        exponents = _nonzeros(m, designed)
        if 1 in exponents:
            found[tuple(exponents)] = designed
    return list(found.values())


def _nonzeros(m: int, designed: int) -> list[int]:
    """Return the smallest exponent of every class of exponents that occurs in the words."""
    length = 2**m - 1
    zeros = {_smallest(m, -e) for e in range(1, designed)}
    return sorted({_smallest(m, e) for e in range(1, length)} - zeros)


@cache
def _smallest(m: int, exponent: int) -> int:
    return min(exponent * 2**i % (2**m - 1) for i in range(m))


def _class_size(m: int, exponent: int) -> int:
    return len({exponent * 2**i % (2**m - 1) for i in range(m)})


def _independent(rows: np.ndarray) -> np.ndarray:
    """Return the rows that are independent, over GF(2), of the rows before them."""
    kept, reduced = [], []
    for row in rows:
        rest = row.copy()
        for pivot, other in reduced:
            if rest[pivot]:
                rest = rest ^ other
        if rest.any():
            reduced.append((int(np.argmax(rest)), rest))
            kept.append(row)
    return np.array(kept)


def field_term(traces: np.ndarray, m: int, exponent: int) -> np.ndarray:
    """Return ``Tr(alpha^j x^exponent)`` for j < m at x = 0, 1, alpha, ..., ``[m, size]``."""
    powers = np.arange(m)[:, None] + exponent * np.arange(len(traces))[None]
    return np.pad(traces[powers % len(traces)], ((0, 0), (1, 0)))


def _check_between(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}={value}: must be between {least} and {most}")
