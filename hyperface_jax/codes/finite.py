"""Addition and multiplication tables of small finite fields."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from hyperface_jax.codes.sequences import companion, primitive_polynomial


class Field(NamedTuple):
    """GF(q) with elements 0 .. q - 1, where 0 and 1 have their usual roles; tables are ``[q, q]``."""

    size: int
    add: np.ndarray
    multiply: np.ndarray


@cache
def field(q: int) -> Field:
    """Return GF(q).

    Raises:
        ValueError: q is not a power of a prime.
    """
    p, m = _prime_power(q)
    base = p ** np.arange(m)
    numbers = np.arange(q)[:, None] // base % p
    add = (numbers[:, None] + numbers[None]) % p @ base
    exponential = powers(p, m)
    logarithm = np.argsort(exponential)
    multiply = np.zeros((q, q), np.int64)
    total = logarithm[:, None] + logarithm[None]
    multiply[1:, 1:] = exponential[total % (q - 1)]
    return Field(q, add, multiply)


def powers(p: int, m: int) -> np.ndarray:
    """Return the powers of a generator of GF(p^m), as numbers with its coefficients as digits."""
    base, power = p ** np.arange(m), np.eye(m, dtype=np.int64)
    matrix = companion(primitive_polynomial(p, m), p)
    found = np.zeros(p**m - 1, np.int64)
    for t in range(len(found)):
        found[t] = power[:, 0] @ base
        power = power @ matrix % p
    return found


def _prime_power(q: int) -> tuple[int, int]:
    for p in range(2, q + 1):
        if q % p == 0:
            m = round(np.log(q) / np.log(p))
            if p**m == q:
                return p, m
            break
    raise ValueError(f"q={q}: must be a power of a prime")
