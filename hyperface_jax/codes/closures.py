"""New codes from given ones: fewer points, more dimensions, or several in orthogonal subspaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from hyperface_jax.codes.code import SphericalCode

if TYPE_CHECKING:
    from hyperface_jax.typing import Indices, Points


def subset(code: SphericalCode, num_points: int) -> SphericalCode:
    """Return the first points of a code."""
    if not 0 < num_points <= code.num_points:
        raise ValueError(f"{code.name} has {code.num_points} points, not {num_points}")
    return replace(code, num_points=num_points)


def padded(code: SphericalCode, dim: int) -> SphericalCode:
    """Return a code in more dimensions, padded with zeros."""
    return code if dim == code.dim else direct_sum([code], dim)


def direct_sum(codes: Sequence[SphericalCode], dim: int) -> SphericalCode:
    """Return the union of codes in orthogonal subspaces of a space with ``dim`` dimensions.

    Its max cosine is that of the worst code, but at least 0 if there are several codes.
    """
    dims = [code.dim for code in codes]
    if sum(dims) > dim:
        raise ValueError(f"dim={dim}: {' + '.join(map(str, dims))} dimensions do not fit")
    starts = np.cumsum([0, *(code.num_points for code in codes)])
    offsets = np.cumsum([0, *dims])
    cosine = max(code.max_cosine for code in codes)

    def rows(index: Indices) -> Points:
        points = jnp.zeros((index.shape[0], dim), jnp.float32)
        for code, start, stop, offset in zip(codes, starts, starts[1:], offsets, strict=False):
            inside = (index >= start) & (index < stop)
            own = code.rows(jnp.clip(index - start, 0, code.num_points - 1))
            own = jnp.pad(own, ((0, 0), (int(offset), dim - int(offset) - code.dim)))
            points = jnp.where(inside[:, None], own, points)
        return points

    return SphericalCode(
        int(starts[-1]),
        dim,
        cosine if len(codes) == 1 else max(cosine, 0.0),
        " + ".join(dict.fromkeys(_counted(codes))),
        "; ".join(dict.fromkeys(code.reference for code in codes)),
        rows,
        parts=tuple(codes),
    )


def _counted(codes: Sequence[SphericalCode]) -> list[str]:
    names = [code.name for code in codes]
    return [f"{names.count(name)} x {name}" if names.count(name) > 1 else name for name in names]
