"""Exact checks of the max cosine that a code states."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hyperface_jax.codes.code import SphericalCode
from hyperface_jax.pairwise import Sweep, max_cosine

MOST_PAIR_FLOPS = 1e13


class CodeCheck(NamedTuple):
    """What a check of a code found.

    Attributes:
        max_cosine: no two points are nearer. Over words it is that of the whole code, of which the
            points may be a part.
        method: ``"words"``, the distance distribution of linear codes, exact; or ``"pairs"``, all pairs
            (of a part, where the code is a sum of parts) in float32.
        error: of ``max_cosine``, at most.
    """

    max_cosine: float
    method: str
    error: float


def verify(code: SphericalCode) -> CodeCheck:
    """Compute the max cosine of a code by what it is made of, not by what it states.

    Raises:
        ValueError: neither its words nor its pairs are few enough.

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

    Cost: ``n^2 d`` FLOPs and O(n d) memory: for up to about 100,000 points on a CPU.
    """
    x = code.block(0, code.num_points)
    return float(jnp.max(_row_max(x)))


_row_max = jax.jit(partial(Sweep(), reduction=max_cosine()))
