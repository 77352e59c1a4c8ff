"""Smaller codes: only the words that agree in some coordinates, or words without some coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from hyperface_jax.codes.basic import simplex_points
from hyperface_jax.codes.code import MAX_POINTS, SphericalCode
from hyperface_jax.codes.distances import linear_max_cosine
from hyperface_jax.codes.linear import LinearCode, digits

if TYPE_CHECKING:
    from hyperface_jax.typing import Indices, Points


def shortened(code: LinearCode, count: int) -> SphericalCode:
    """Return the words that are zero in ``count`` coordinates, without these coordinates.

    If words agree in s of D coordinates, their inner product in the others is at most ``D c - s``. For
    the coordinates chosen here, exactly one of every ``radix^s`` words qualifies, and the remaining
    digits determine which one. So rows can still be made one by one, as for the code itself.

    Args:
        code: a linear code with characters among its rows.
        count: number of coordinates s, at most one more than the number of characters.

    Returns:
        A code of ``n / radix^s`` points with max cosine ``(D c - s) / (D - s)``.
    """
    return restricted(code, (1,) * count)


def restricted(code: LinearCode, allowed: Sequence[int]) -> SphericalCode:
    """Return the words that use only a few symbols in some coordinates, centered there.

    If k of q symbols are allowed in a coordinate, the mean m of their points in the simplex has the
    square ``(q - k) / (k (q - 1))``. Subtracting this mean lowers all inner products and squared norms
    by its square. With one allowed symbol, this is shortening.

    Args:
        code: a linear code with characters among its rows. It must be a simplex code unless only one
            symbol is allowed in each coordinate.
        allowed: number k of allowed symbols for each restricted coordinate; there can be at most one
            more coordinate than characters.

    Returns:
        A code of ``n prod(k / radix)`` points with max cosine ``(D c - sum m^2) / (D - sum m^2)``.

    Raises:
        ValueError: there are too many coordinates, or a number of symbols is impossible. When rows are
            made: ``code`` was punctured at a position that is to be restricted.
    """
    count, radix = len(allowed), code.radix[0]
    if count > code.num_characters + 1:
        raise ValueError(f"count={count}: must be between 0 and {code.num_characters + 1}")
    if not all(k == 1 or (1 < k < radix and code.is_simplex) for k in allowed):
        raise ValueError(
            f"allowed={tuple(allowed)}: {code.name} has {radix} symbols; allow 1 of them, or in a "
            "simplex code 2 or more but not all"
        )
    if not count:
        return code.spherical()
    part = Restriction(code, tuple(allowed))
    return SphericalCode(
        min(math.prod(part.radix), MAX_POINTS),
        part.dim,
        part.seen(code.max_cosine),
        f"{code.name}, {part.described()}",
        code.reference,
        part.rows,
        lambda: part.seen(linear_max_cosine(code)),
    )


@dataclass(frozen=True)
class Restriction:
    """The part of a code that :func:`restricted` keeps."""

    code: LinearCode
    allowed: tuple[int, ...]

    @property
    def fixed(self) -> list[int]:
        """The digits that the coordinates determine: the constant, then those of characters."""
        return [len(self.code.radix) - 1, *range(len(self.allowed) - 1)]

    @property
    def free(self) -> list[int]:
        """The other digits."""
        return [i for i in range(len(self.code.radix)) if i not in self.fixed]

    @property
    def radix(self) -> tuple[int, ...]:
        """Number of values of each digit of a row index: the free digits, then the allowed symbols."""
        return *(self.code.radix[i] for i in self.free), *self.allowed

    @property
    def width(self) -> int:
        """Dimensions of a coordinate, which is half a position for the Gray map and else a whole one."""
        return 1 if self.code.is_gray else self.code.alphabet.shape[1]

    @property
    def dim(self) -> int:
        """Number of remaining dimensions."""
        return self.code.dim - sum(self.width - (k - 1) for k in self.allowed)

    @property
    def lost(self) -> float:
        """The amount that all inner products lose: the sum of the squared means of allowed points."""
        return sum(self._mean_square(k) for k in self.allowed)

    def _mean_square(self, num_symbols: int) -> float:
        q = self.code.num_symbols
        return 1.0 if num_symbols == 1 else (q - num_symbols) / (num_symbols * (q - 1))

    def seen(self, cosine: float) -> float:
        """Return the cosine in the restricted code that corresponds to one in the code."""
        size = self.code.num_coordinates
        return (size * cosine - self.lost) / (size - self.lost)

    def described(self) -> str:
        """Describe the restriction, for the name of the code."""
        single = sum(k == 1 for k in self.allowed)
        words = [f"shortened {single} times"] if single else []
        kept = [str(k) for k in self.allowed if k > 1]
        if kept:
            words.append(f"{' and '.join(kept)} symbols in a position")
        return ", ".join(words)

    def norm(self, num_symbols: int) -> float:
        """Return the norm of a unit word's part in a position with this number of symbols."""
        whole = self.code.length * (1 - self.lost / self.code.num_coordinates)
        return ((1 - self._mean_square(num_symbols)) / whole) ** 0.5

    def rows(self, index: Indices) -> Points:
        """Return rows of unit length."""
        code, count = self.code, len(self.allowed)
        positions = _positions(code, count)
        values = digits(index, self.radix)
        symbols = values[:, -count:]
        message = jnp.zeros((index.shape[0], len(code.radix)), jnp.int32)
        message = message.at[:, np.array(self.free, int)].set(values[:, :-count])
        decided = _solved(code, message, positions, symbols)
        message = message.at[:, np.array(self.fixed)].set(decided)
        words = code.coordinates(code.encoded(message)) * self.norm(code.num_symbols)
        parts = [words[:, self._kept(positions)]]
        parts += [self._centered(k, symbols[:, i]) for i, k in enumerate(self.allowed) if k > 1]
        return jnp.concatenate(parts, axis=1)

    def _centered(self, num_symbols: int, symbols: Indices) -> Points:
        """Return the points of the allowed symbols, relative to their mean."""
        points = self.norm(num_symbols) * simplex_points(num_symbols)
        return jnp.asarray(points, jnp.float32)[symbols]

    def _kept(self, positions: list[int]) -> np.ndarray:
        """Return the coordinates that are left unchanged."""
        step = self.code.alphabet.shape[1]
        removed = [position * step + i for position in positions for i in range(self.width)]
        return np.setdiff1d(np.arange(self.code.dim), removed)


def punctured(code: LinearCode, count: int) -> LinearCode:
    """Return the words without their last ``count`` positions.

    Two words may agree in all of these, so the max cosine rises to at most ``(N c + s) / (N - s)``.
    """
    if not 0 < count < code.length:
        raise ValueError(f"count={count}: must be between 1 and {code.length - 1}")
    rest = code.length - count
    return replace(
        code,
        length=rest,
        make=lambda: code.generator[:, :rest],
        max_cosine=min((code.length * code.max_cosine + count) / rest, 1.0),
        name=f"{code.name}, punctured {count} times",
    )


def _step(code: LinearCode) -> int:
    return code.num_symbols // code.radix[0]


@cache
def _positions(code: LinearCode, count: int) -> list[int]:
    """Return the position numbered 0, then those with numbers that have a single nonzero digit, 1."""
    numbers = code.generator[: code.num_characters] // _step(code)
    wanted = np.concatenate([np.zeros((1, len(numbers)), int), np.eye(len(numbers), dtype=int)])
    found = [np.flatnonzero((row == numbers.T).all(1)) for row in wanted[:count]]
    if not all(map(len, found)):
        raise ValueError(f"{code.name}: lacks one of the positions of {count} characters")
    return [int(positions[0]) for positions in found]


def _solved(code: LinearCode, message: Any, positions: list[int], symbols: Any) -> Any:
    """Return the fixed digits that give the words their symbols at the positions, ``[k, count]``."""
    radix = code.radix[0]
    there = replace(
        code, length=len(positions), make=lambda: code.generator[:, np.array(positions)]
    )
    rest = there.encoded(message) // _step(code)
    constant = (symbols[:, :1] - rest[:, :1]) % radix
    return jnp.concatenate([constant, (symbols[:, 1:] - rest[:, 1:] - constant) % radix], axis=1)
