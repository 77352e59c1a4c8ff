"""Exact checks of the stated max cosine of a code."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hyperface_jax.codes.code import SphericalCode
from hyperface_jax.pairwise import Sweep, max_cosine

MOST_PAIR_FLOPS = 1e13


class CodeCheck(NamedTuple):
    """The result of checking a code.

    Attributes:
        max_cosine: upper bound on the cosine of any two points. Computed over words, it is the max
            cosine of the whole linear code, of which the points may be only a part.
        method: ``"words"`` for the exact distance distribution of linear codes, or ``"pairs"`` for all
            pairs in float32 (within each part, if the code is a sum of parts).
        error: largest possible error of ``max_cosine``.
    """

    max_cosine: float
    method: str
    error: float


def verify(code: SphericalCode) -> CodeCheck:
    """Compute the max cosine of a code from its words or points, without relying on the stated one.

    Raises:
        ValueError: there are too many words and too many pairs.

    Cost: about ``2 n N`` FLOPs over the words of a linear code of length N, else ``n^2 d``.

    Examples:
        >>> from hyperface_jax.codes import best_known
        >>> code = best_known(500_000, 512)
        >>> verify(code)
        CodeCheck(max_cosine=0.0625, method='words', error=1e-09)
    """
    if code.distribution:
        return CodeCheck(code.distribution(), "words", 1e-9)
    if code.parts:
        return _of_parts([verify(part) for part in dict.fromkeys(code.parts)], len(code.parts))
    flops = float(code.num_points) ** 2 * code.dim
    if flops > MOST_PAIR_FLOPS:
        raise ValueError(f"{code.name}: {code.num_points} points are too many for all pairs")
    return CodeCheck(measured_max_cosine(code), "pairs", 1e-6)


def _of_parts(found: list[CodeCheck], num_parts: int) -> CodeCheck:
    cosine = max(part.max_cosine for part in found)
    return CodeCheck(
        cosine if num_parts == 1 else max(cosine, 0.0),
        min(part.method for part in found),
        max(part.error for part in found),
    )


def measured_max_cosine(code: SphericalCode) -> float:
    """Return the max cosine over all pairs, in float32.

    Cost: ``n^2 d`` FLOPs and O(n d) memory, which allows about 100,000 points on a CPU.
    """
    x = code.block(0, code.num_points)
    return float(jnp.max(_row_max(x)))


_row_max = jax.jit(partial(Sweep(), reduction=max_cosine()))
