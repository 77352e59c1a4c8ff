"""The max cosine of a linear code from its words, which have the same distances as all pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_WORDS = 2**30
_WORDS_AT_ONCE = 2**20
_ZERO_WORD = 1 - 1e-9


class Words(Protocol):
    """The parts of a :class:`.LinearCode` that determine its distances."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def length(self) -> int: ...  # noqa: D102
    @property
    def num_words(self) -> int: ...  # noqa: D102
    @property
    def num_symbols(self) -> int: ...  # noqa: D102
    @property
    def num_characters(self) -> int: ...  # noqa: D102
    @property
    def radix(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def generator(self) -> Any: ...  # noqa: D102
    @property
    def alphabet(self) -> NDArray[Any]: ...  # noqa: D102


def linear_max_cosine(code: Words) -> float:
    """Return the exact max cosine of a linear code from its words, without visiting pairs.

    The cosine of two words equals that of their difference, which is a word, with the zero word. The
    words of all combinations of the character rows are handled together, for many of the remaining
    messages at once, by a product with the character table.

    Raises:
        ValueError: two messages have the same word, so points coincide; or there are too many words.

    Cost: ``2 n N`` FLOPs for n words of length N; q / 2 times as many for an alphabet of q symbols.
    """
    if code.num_words > MOST_WORDS:
        raise ValueError(f"{code.name}: {code.num_words} words; at most {MOST_WORDS} are visited")
    k = code.num_characters
    tables, highest, num_zero = _tables(code), -1.0, 0
    for messages in _messages(code.radix[k:], max(_WORDS_AT_ONCE // _num_characters(code), 1)):
        symbols = messages @ code.generator[k:] % code.num_symbols
        cosines = _coset_cosines(code, symbols, tables)
        is_zero = cosines > _ZERO_WORD
        num_zero += int(is_zero.sum())
        highest = max(highest, float(cosines.max(initial=-1.0, where=~is_zero)))
    if num_zero != 1:
        raise ValueError(f"{num_zero} messages have the zero word: points coincide")
    return highest


def _num_characters(code: Words) -> int:
    return int(np.prod(code.radix[: code.num_characters], dtype=np.int64))


def _tables(code: Words) -> list[tuple[int, float, NDArray[Any]]]:
    """Return the harmonics j of the alphabet with their weights and tables of characters, ``[N, R]``.

    As a function of their difference, the inner product of two symbols is a sum of harmonics. Those of
    j and q - j are conjugates, so the real part of one accounts for both.
    """
    q = code.num_symbols
    weights = np.real(np.fft.fft(code.alphabet @ code.alphabet[0])) / q
    phases = _phases(code)
    found = []
    for j in range(q // 2 + 1):
        weight = weights[j] * (1 if 2 * j % q == 0 else 2)
        if abs(weight) > 1e-12:
            found.append((j, weight, _roots(j * phases, code.radix[0])))
    return found


def _phases(code: Words) -> NDArray[np.int64]:
    """Return each character at each position, as a multiple of the unit of its phase, ``[N, R]``."""
    k = code.num_characters
    if not k:
        return np.zeros((code.length, 1), np.int64)
    scale = code.num_symbols // np.array(code.radix[:k])
    digits = code.generator[:k] // scale[:, None]
    return digits.T @ np.indices(code.radix[:k]).reshape(k, -1)


def _roots(multiples: NDArray[np.int64], order: int) -> NDArray[Any]:
    """Return powers of a root of unity, as floats where they are real."""
    angles = 2 * np.pi * np.arange(order) / order
    table: NDArray[Any] = np.cos(angles).round() if order <= 2 else np.exp(1j * angles)
    return table[multiples % order]


def _coset_cosines(
    code: Words, symbols: NDArray[np.int64], tables: list[tuple[int, float, NDArray[Any]]]
) -> NDArray[np.float64]:
    """Return the cosines of the words ``symbols + (any character)`` to the zero word, ``[B, R]``."""
    total: Any = 0.0
    for j, weight, characters in tables:
        total = total + weight * np.real(_roots(j * symbols, code.num_symbols) @ characters)
    return total / code.length


def _messages(radix: tuple[int, ...], size: int) -> Iterator[NDArray[np.int64]]:
    """Yield all messages in blocks, ``[B, digits]``."""
    count = int(np.prod(radix, dtype=np.int64))
    for first in range(0, count, size):
        index = np.arange(first, min(first + size, count))
        yield np.stack(np.unravel_index(index, radix), axis=1) if radix else index[:, None][:, :0]
