"""The max cosine of a linear code from its words: the distances of all pairs are those of the words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hyperface_jax.codes.linear import LinearCode

MOST_WORDS = 2**30


def linear_max_cosine(code: LinearCode) -> float:
    """Return the exact max cosine of a linear code from its words, without any pair.

    The cosine of two words is the inner product of their difference, a word, with the zero word. The
    characters among the generator's rows are summed by one fast Fourier (Walsh) transform for each
    of the other messages, so n words take ``n log N`` additions.

    Raises:
        ValueError: two messages have one word, so points coincide; or there are too many words.
    """
    if code.num_words > MOST_WORDS:
        raise ValueError(f"{code.name}: {code.num_words} words; at most {MOST_WORDS} are visited")
    q = len(code.alphabet)
    place = _places(code)
    highest, num_zero = -1.0, 0
    for message in _messages(code.radix[code.num_characters :]):
        symbols = message @ code.generator[code.num_characters :] % q
        cosines = _coset_cosines(code, symbols, place)
        is_zero = cosines > 1 - 1e-9
        num_zero += int(is_zero.sum())
        highest = max(highest, float(cosines[~is_zero].max(initial=-1.0)))
    if num_zero != 1:
        raise ValueError(f"{num_zero} messages have the zero word: points coincide")
    return highest


def _places(code: LinearCode) -> np.ndarray:
    """Return each position's number: the values of its characters as digits, ``[N]``."""
    k = code.num_characters
    if not k:
        return np.zeros(code.length, np.int64)
    scale = len(code.alphabet) // np.array(code.radix[:k])
    numbers = np.ravel_multi_index(tuple(code.generator[:k] // scale[:, None]), code.radix[:k])
    return np.asarray(numbers)


def _coset_cosines(code: LinearCode, symbols: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the cosines to the zero word of the words ``symbols + (any character)``."""
    q, radix = len(code.alphabet), code.radix[: code.num_characters]
    profile = code.alphabet @ code.alphabet[0]
    weights = np.fft.fft(profile) / q
    total: Any = 0.0
    for j in np.flatnonzero(np.abs(weights) > 1e-12):
        values = np.zeros(radix, complex)
        np.add.at(values.reshape(-1), place, np.exp(2j * np.pi * j * symbols / q))
        spectrum = np.fft.ifftn(values) * values.size
        total = total + weights[j] * _at_multiples(spectrum, int(j))
    return np.real(total) / code.length


def _at_multiples(spectrum: np.ndarray, factor: int) -> np.ndarray:
    """Return ``spectrum[factor * b]`` for every frequency b."""
    for axis, size in enumerate(spectrum.shape):
        spectrum = np.take(spectrum, factor * np.arange(size) % size, axis=axis)
    return spectrum


def _messages(radix: tuple[int, ...]):
    for index in np.ndindex(*radix):
        yield np.array(index, dtype=np.int64)
