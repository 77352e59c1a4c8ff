"""Trace sequences of finite fields and Galois rings: all the arithmetic that the linear codes need.

A word of a code is a sum of terms ``Tr(b x^e)``, evaluated at all elements x of a field. With a
generator ``alpha`` and ``s_t = Tr(alpha^t)``, the term with ``b = alpha^j`` at ``x = alpha^t`` is
``s_(j + e t)``. So one periodic sequence gives all rows of a generator matrix.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np


@cache
def primitive_polynomial(p: int, m: int) -> tuple[int, ...]:
    """Return the first primitive polynomial of degree m over GF(p), without its leading 1.

    Returns:
        The coefficients of ``1, x, ..., x^(m-1)``.
    """
    order = p**m - 1
    factors = _prime_factors(order)
    for tail in product(range(p), repeat=m):
        if tail[0] == 0:
            continue
        matrix = companion(tail, p)
        if _is_identity(_power(matrix, order, p)) and not any(
            _is_identity(_power(matrix, order // factor, p)) for factor in factors
        ):
            return tail
    raise AssertionError("a primitive polynomial exists in every degree")


@cache
def field_traces(p: int, m: int) -> np.ndarray:
    """Return ``Tr(alpha^t)`` from GF(p^m) to GF(p) for ``t < p^m - 1``, ``[p^m - 1]``."""
    return _matrix_traces(companion(primitive_polynomial(p, m), p), p**m - 1, p)


@cache
def ring_traces(m: int) -> np.ndarray:
    """Return ``T(xi^t)`` from GR(4, m) to Z4 for ``t < 2^m - 1``, ``[2^m - 1]``.

    ``xi`` is a root of order ``2^m - 1`` of the Hensel lift of the primitive polynomial.

    References:
        Hammons, Kumar, Calderbank, Sloane and Sole, *The Z4-linearity of Kerdock, Preparata, Goethals,
        and related codes*, IEEE Trans. IT 1994.
    """
    return _matrix_traces(companion(_hensel_lift(primitive_polynomial(2, m)), 4), 2**m - 1, 4)


def _hensel_lift(tail: tuple[int, ...]) -> tuple[int, ...]:
    """Lift a polynomial over GF(2) to Z4 by Graeffe's method: ``h(x^2) = +-(e(x)^2 - o(x)^2)``."""
    full = np.array([*tail, 1], dtype=np.int64)
    even, odd = full.copy(), full.copy()
    even[1::2] = 0
    odd[::2] = 0
    lifted = (np.convolve(even, even) - np.convolve(odd, odd))[::2]
    return tuple(int(c) for c in (lifted * lifted[-1]) % 4)[:-1]


def companion(tail: tuple[int, ...], modulus: int) -> np.ndarray:
    """Return the matrix of multiplication by a root of ``x^m + sum tail_i x^i``."""
    m = len(tail)
    matrix = np.eye(m, k=-1, dtype=np.int64)
    matrix[:, -1] = -np.array(tail) % modulus
    return matrix


def _matrix_traces(matrix: np.ndarray, count: int, modulus: int) -> np.ndarray:
    power, traces = np.eye(len(matrix), dtype=np.int64), np.empty(count, np.int64)
    for t in range(count):
        traces[t] = np.trace(power) % modulus
        power = power @ matrix % modulus
    return traces


def _power(matrix: np.ndarray, exponent: int, modulus: int) -> np.ndarray:
    result = np.eye(len(matrix), dtype=np.int64)
    while exponent:
        if exponent & 1:
            result = result @ matrix % modulus
        matrix, exponent = matrix @ matrix % modulus, exponent >> 1
    return result


def _is_identity(matrix: np.ndarray) -> bool:
    return bool(np.array_equal(matrix, np.eye(len(matrix))))


def _prime_factors(number: int) -> list[int]:
    factors, divisor = [], 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            factors.append(divisor)
            while number % divisor == 0:
                number //= divisor
        divisor += 1
    return factors + [number] * (number > 1)
