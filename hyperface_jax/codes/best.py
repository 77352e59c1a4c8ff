"""The best available code for any number of points and any dimension."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np

from hyperface_jax.codes.basic import cross_polytope, simplex
from hyperface_jax.codes.catalogue import (
    MAX_DIM,
    catalogue,
    polygons,
    puncturings,
    restrictions,
)
from hyperface_jax.codes.closures import direct_sum, padded, subset
from hyperface_jax.codes.code import MAX_POINTS, SphericalCode

_EQUAL = 1e-12


@cache
def best_known(num_points: int, dim: int) -> SphericalCode:
    """Return the code with the smallest max cosine among the constructions in this package.

    These are the codes of the catalog (shortened, punctured or padded with zeros), and combinations of
    several codes in orthogonal subspaces. For each max cosine, a dynamic program over the dimensions
    finds the largest number of points that fit. Others may know better: see :func:`record`.

    Args:
        num_points: number of points n, from 2 to 2^31 - 1.
        dim: dimension d, at least 2; at most 4096 dimensions are used.

    Returns:
        A code of exactly n points. Nothing is built until its rows are requested.

    Raises:
        ValueError: ``num_points`` or ``dim`` is out of range.

    Cost: milliseconds to a second.

    Examples:
        >>> code = best_known(240, 8)
        >>> code.name, code.max_cosine
        ('E8 roots', 0.5)
    """
    if not 2 <= num_points <= MAX_POINTS:
        raise ValueError(f"num_points={num_points}: must be between 2 and {MAX_POINTS}")
    if dim < 2:
        raise ValueError(f"dim={dim}: must be at least 2")
    if num_points <= dim + 1:
        return _fitted(simplex(max(num_points - 1, 2)), num_points, dim)
    if num_points <= 2 * dim:
        return _fitted(cross_polytope(dim), num_points, dim)
    return _searched(num_points, dim)


def refinable(num_points: int, dim: int) -> SphericalCode:
    """Return the best construction in the form that gradient steps can probably improve the most.

    Codes that fill their space are local optima; codes with room around them are not. If codes in
    several orthogonal subspaces have the same max cosine as a single code, their points can spread into
    each other's dimensions. At best, this lowers a max cosine c to about ``c sqrt(used / d)``.

    Args:
        num_points: number of points n, from 2 to 2^31 - 1.
        dim: dimension d, at least 2.

    Returns:
        A code of exactly n points with the max cosine of :func:`best_known`.

    Raises:
        ValueError: ``num_points`` or ``dim`` is out of range.
    """
    best = best_known(num_points, dim)
    counts = [k for k in range(2, 5) if dim >= 2 * k and num_points >= 2 * k]
    found = [best, *(_copies(k, num_points, dim) for k in counts)]
    as_good = [code for code in found if code.max_cosine <= best.max_cosine + _EQUAL]
    return min(as_good, key=_used)


def _copies(count: int, num_points: int, dim: int) -> SphericalCode:
    part = best_known(-(-num_points // count), dim // count)
    return subset(direct_sum([part] * count, dim), num_points)


def _used(code: SphericalCode) -> int:
    """Return the dimension of the largest part."""
    return max(map(_used, code.parts)) if code.parts else code.dim


def _fitted(code: SphericalCode, num_points: int, dim: int) -> SphericalCode:
    return padded(subset(code, num_points), dim)


def _searched(num_points: int, dim: int) -> SphericalCode:
    used = min(dim, MAX_DIM)
    found = (
        *catalogue(),
        *restrictions(num_points, used),
        *puncturings(used),
        *polygons(num_points, used),
    )
    entries = [entry for entry in found if entry.dim <= used]
    levels = sorted({entry.max_cosine for entry in entries if entry.max_cosine < 1})
    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        if _packed(entries, levels[middle], used, num_points) is None:
            low = middle + 1
        else:
            high = middle
    chosen = _packed(entries, levels[low], used, num_points)
    assert chosen is not None
    return _assembled(chosen, num_points, dim)


def _packed(
    entries: list[SphericalCode], cosine: float, dim: int, num_points: int
) -> list[SphericalCode | None] | None:
    """Choose codes of at most this max cosine for orthogonal subspaces; None if too few points fit.

    In the list, None means one dimension that holds only its two unit vectors.
    """
    usable = [entry for entry in entries if entry.max_cosine <= cosine and entry.dim <= dim]
    largest = max(usable, key=lambda entry: entry.num_points)
    if largest.num_points >= num_points:
        enough = [entry for entry in usable if entry.num_points >= num_points]
        return [min(enough, key=lambda entry: (entry.max_cosine, entry.dim))]
    sizes = np.array([entry.num_points for entry in usable], np.int64)
    dims = np.array([entry.dim for entry in usable])
    most, choice = np.zeros(dim + 1, np.int64), np.full(dim + 1, -1)
    for d in range(1, dim + 1):
        most[d] = most[d - 1] + 2
        fitting = np.flatnonzero(dims <= d)
        totals = most[d - dims[fitting]] + sizes[fitting]
        if len(fitting) and totals.max() > most[d]:
            most[d] = totals.max()
            choice[d] = fitting[int(np.argmax(totals))]
    if most[dim] < num_points:
        return None
    chosen, d = [], dim
    while d > 0:
        entry = usable[choice[d]] if choice[d] >= 0 else None
        chosen.append(entry)
        d -= entry.dim if entry else 1
    return chosen


def _assembled(chosen: list[SphericalCode | None], num_points: int, dim: int) -> SphericalCode:
    counts = Counter(code for code in chosen if code)
    parts = [code for code, count in counts.items() for _ in range(count)]
    axes = sum(code is None for code in chosen)
    left = num_points - sum(part.num_points for part in parts)
    if axes and left > 0:
        parts.append(cross_polytope(axes))
    return subset(direct_sum(parts, dim), num_points)
