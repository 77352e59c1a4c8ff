"""Smaller codes: the words that agree in some coordinates, or the words without some coordinates."""

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

    Words that agree in s of D coordinates have an inner product of at most ``D c - s`` in the others.
    For the coordinates chosen here, exactly one of ``radix^s`` words qualifies, and which one is told
    by the digits that are left: rows stay as lazy as those of the code.

    Args:
        code: with characters among its rows.
        count: s, at most one more than there are characters.

    Returns:
        ``n / radix^s`` points of max cosine ``(D c - s) / (D - s)``.
    """
    return restricted(code, (1,) * count)


def restricted(code: LinearCode, allowed: Sequence[int]) -> SphericalCode:
    """Return the words with few symbols in some coordinates, centered there.

    Where k of q symbols are allowed, their points of the simplex have the mean m, whose square is
    ``(q - k) / (k (q - 1))``, and are seen from it: all inner products and norms fall by that much.
    One allowed symbol is shortening.

    Args:
        code: with characters among its rows; a simplex code for other numbers than 1.
        allowed: k of each coordinate, at most one coordinate more than there are characters.

    Returns:
        ``n prod(k / radix)`` points of max cosine ``(D c - sum m^2) / (D - sum m^2)``.

    Raises:
        ValueError: too many coordinates, or numbers of symbols that do not exist; when rows are made, if
            ``code`` was punctured where it is to be restricted.
    """
    count, radix = len(allowed), code.radix[0]
    if count > code.num_characters + 1:
        raise ValueError(f"count={count}: must be between 0 and {code.num_characters + 1}")
    if not all(k == 1 or (1 < k < radix and code.is_simplex) for k in allowed):
        raise ValueError(f"allowed={tuple(allowed)}: of {radix} symbols of {code.name}")
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
    """What :func:`restricted` keeps of a code."""

    code: LinearCode
    allowed: tuple[int, ...]

    @property
    def fixed(self) -> list[int]:
        """The digits that the coordinates decide: the constant, then those of characters."""
        return [len(self.code.radix) - 1, *range(len(self.allowed) - 1)]

    @property
    def free(self) -> list[int]:
        """The other digits."""
        return [i for i in range(len(self.code.radix)) if i not in self.fixed]

    @property
    def radix(self) -> tuple[int, ...]:
        """Values of the digits of a row's index: the free ones, then the symbols of the coordinates."""
        return *(self.code.radix[i] for i in self.free), *self.allowed

    @property
    def width(self) -> int:
        """Dimensions of a coordinate: half a position of the Gray map, else a whole one."""
        return 1 if self.code.is_gray else self.code.alphabet.shape[1]

    @property
    def dim(self) -> int:
        """Dimensions that are left."""
        return self.code.dim - sum(self.width - (k - 1) for k in self.allowed)

    @property
    def lost(self) -> float:
        """What all inner products lose: the squares of the means of allowed points."""
        return sum(self._mean_square(k) for k in self.allowed)

    def _mean_square(self, num_symbols: int) -> float:
        q = self.code.num_symbols
        return 1.0 if num_symbols == 1 else (q - num_symbols) / (num_symbols * (q - 1))

    def seen(self, cosine: float) -> float:
        """Return a cosine of the code as it is in the restricted one."""
        size = self.code.num_coordinates
        return (size * cosine - self.lost) / (size - self.lost)

    def described(self) -> str:
        """Return what is done to the code, for its name."""
        single = sum(k == 1 for k in self.allowed)
        words = [f"shortened {single} times"] if single else []
        kept = [str(k) for k in self.allowed if k > 1]
        if kept:
            words.append(f"{' and '.join(kept)} symbols in a position")
        return ", ".join(words)

    def norm(self, num_symbols: int) -> float:
        """Return the norm of a word, of norm 1, in a position with so many symbols."""
        whole = self.code.length * (1 - self.lost / self.code.num_coordinates)
        return ((1 - self._mean_square(num_symbols)) / whole) ** 0.5

    def rows(self, index: Indices) -> Points:
        """Return rows, of norm 1."""
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
        """Return the points of the allowed symbols, seen from their mean."""
        points = self.norm(num_symbols) * simplex_points(num_symbols)
        return jnp.asarray(points, jnp.float32)[symbols]

    def _kept(self, positions: list[int]) -> np.ndarray:
        """Return the coordinates that stay as they are."""
        step = self.code.alphabet.shape[1]
        removed = [position * step + i for position in positions for i in range(self.width)]
        return np.setdiff1d(np.arange(self.code.dim), removed)


def punctured(code: LinearCode, count: int) -> LinearCode:
    """Return the words without their last ``count`` positions.

    Two words may agree in all of them: the max cosine rises to ``(N c + s) / (N - s)`` at most.
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
    """Return the position of number 0, then those of numbers with a single digit."""
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
