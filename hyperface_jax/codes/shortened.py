"""Shorter codes: the words that agree in some coordinates, without these, or the words without some."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from hyperface_jax.codes.code import MAX_POINTS, SphericalCode
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
    if not 0 <= count <= code.num_characters + 1:
        raise ValueError(f"count={count}: must be between 0 and {code.num_characters + 1}")
    fixed = [len(code.radix) - 1, *range(count - 1)][:count]
    free = [i for i in range(len(code.radix)) if i not in fixed]
    radix = tuple(code.radix[i] for i in free)
    positions = _positions(code, count)
    kept = _kept(code, positions)
    scale = (kept.size / code.alphabet.shape[1]) ** -0.5

    def rows(index: Indices) -> Points:
        message = jnp.zeros((index.shape[0], len(code.radix)), jnp.int32)
        message = message.at[:, np.array(free)].set(digits(index, radix))
        if count:
            message = message.at[:, np.array(fixed)].set(_solved(code, message, positions))
        return code.coordinates(code.encoded(message))[:, kept] * scale

    size = code.num_coordinates
    cosine = (size * code.max_cosine - count) / (size - count)
    name = code.name if count == 0 else f"{code.name}, shortened {count} times"
    num_words = min(math.prod(radix), MAX_POINTS)
    return SphericalCode(num_words, kept.size, cosine, name, code.reference, rows)


def punctured(code: LinearCode, count: int) -> LinearCode:
    """Return the words without their last ``count`` positions.

    Two words may agree in all of them: the max cosine rises to ``(N c + s) / (N - s)`` at most.
    """
    if not 0 < count < code.length:
        raise ValueError(f"count={count}: must be between 1 and {code.length - 1}")
    rest = code.length - count
    return replace(
        code,
        generator=code.generator[:, :rest],
        max_cosine=min((code.length * code.max_cosine + count) / rest, 1.0),
        name=f"{code.name}, punctured {count} times",
    )


def _step(code: LinearCode) -> int:
    return code.num_symbols // code.radix[0]


def _positions(code: LinearCode, count: int) -> list[int]:
    """Return the position of number 0, then those of numbers with a single digit."""
    numbers = code.generator[: code.num_characters] // _step(code)
    wanted = np.concatenate([np.zeros((1, len(numbers)), int), np.eye(len(numbers), dtype=int)])
    return [int(np.flatnonzero((row == numbers.T).all(1))[0]) for row in wanted[:count]]


def _kept(code: LinearCode, positions: list[int]) -> np.ndarray:
    """Return the coordinates that are left: half a position of the Gray map goes, else a whole one."""
    width = code.alphabet.shape[1]
    gone = 1 if code.num_symbols == 4 else width
    removed = [position * width + i for position in positions for i in range(gone)]
    return np.setdiff1d(np.arange(code.dim), removed)


def _solved(code: LinearCode, message, positions: list[int]):
    """Return the fixed digits that make the words zero at the positions, ``[k, count]``."""
    radix, step = code.radix[0], _step(code)
    there = replace(code, generator=code.generator[:, np.array(positions)])
    rest = there.encoded(message) // step
    constant = -rest[:, :1] % radix
    return jnp.concatenate([constant, -(rest[:, 1:] + constant) % radix], axis=1)
