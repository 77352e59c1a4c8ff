"""Additional points for a code of simplices: the opposites of their vertices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from hyperface_jax.codes.basic import simplex_points
from hyperface_jax.codes.code import MAX_POINTS, SphericalCode, joined, tabulated
from hyperface_jax.codes.shortening import Restriction, restricted

if TYPE_CHECKING:
    from hyperface_jax.codes.linear import LinearCode
    from hyperface_jax.typing import Indices, Points


def with_vertices(code: LinearCode, allowed: Sequence[int] = ()) -> SphericalCode:
    """Return :func:`restricted` plus, for each position, the opposites of the vertices of its simplex.

    In each position, a unit word has one of k vertices, with norm r. The opposite of a vertex has the
    cosine ``-r`` to words with that vertex and ``r / (k - 1)`` to the others; two opposites have a
    cosine of at most 0. If ``r / (k - 1)`` exceeds the stated max cosine of the words, the opposites
    are left out.

    Args:
        code: a code of N positions with q > 2 symbols, which are the vertices of a simplex.
        allowed: as for :func:`restricted`.

    Returns:
        A code with the n points of :func:`restricted`, followed by q points for each of the
        ``N - len(allowed)`` whole positions, and then by k points for each restricted position with
        ``k > 1`` symbols. It has the max cosine of :func:`restricted`. Opposites are left out if there
        would be more points than an int32 can count.

    Raises:
        ValueError: ``code`` is not a simplex code, or :func:`restricted` raises it.

    Cost: O(d) per row, in addition to that of the words.

    References:
        None known; the argument above is the proof. For q = 2, the opposites are the basis that
        :meth:`LinearCode.with_basis` adds.
    """
    if not code.is_simplex:
        raise ValueError(f"{code.name}: its symbols are not the vertices of a simplex")
    words, part = restricted(code, allowed), Restriction(code, tuple(allowed))
    found, name = words, f"{words.name}, {_NAME}"
    for opposites, cosine in _opposites(part):
        if cosine <= words.max_cosine and found.num_points + opposites.num_points <= MAX_POINTS:
            found = joined(found, opposites, between=cosine, name=name, reference=words.reference)
    return found


def _opposites(part: Restriction) -> list[tuple[SphericalCode, float]]:
    """Return the opposites of whole positions, then of restricted ones, and their cosines to words."""
    code, q = part.code, part.code.num_symbols
    num_whole = code.length - len(part.allowed)
    found = []
    if num_whole:
        found.append((_whole_positions(code, num_whole, part.dim), part.norm(q) / (q - 1)))
    start = num_whole * code.alphabet.shape[1]
    for k in part.allowed:
        if k > 1:
            found.append((_one_position(k, start, part.dim), part.norm(k) / (k - 1)))
            start += k - 1
    return found


_NAME = "opposite vertices"


def _whole_positions(code: LinearCode, num_positions: int, dim: int) -> SphericalCode:
    q, width = code.alphabet.shape
    column = np.arange(dim)

    def rows(index: Indices) -> Points:
        points = jnp.asarray(-code.alphabet, jnp.float32)[index % q][:, column % width]
        inside = (index // q)[:, None] == (column // width)[None]
        return jnp.where(inside, points, 0.0)

    cosine = 0.0 if num_positions > 1 else -1 / (q - 1)
    return SphericalCode(q * num_positions, dim, cosine, _NAME, code.reference, rows)


def _one_position(num_symbols: int, start: int, dim: int) -> SphericalCode:
    after = dim - start - num_symbols + 1
    make = partial(np.pad, -simplex_points(num_symbols), ((0, 0), (start, after)))
    return tabulated(num_symbols, dim, -1 / (num_symbols - 1), _NAME, "", make)
