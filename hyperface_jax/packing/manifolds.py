"""What stands for the face manifold near a point: the foot to which its distance is measured.

A gallery is a sample of the manifold. Its nearest row is the nearest *known* face; between faces, and
beyond them, the manifold is better described by several rows at once.

References:
    Nearest row: Otroshi Shahreza and Marcel, *HyperFace*, ICLR 2025, Algorithm 1. Local spans:
    Cevikalp and Triggs, *Face recognition based on image sets*, CVPR 2010, and the tangent spaces of
    Roweis and Saul, *Nonlinear dimensionality reduction by locally linear embedding*, Science 2000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp

from hyperface_jax import sphere
from hyperface_jax.typing import Points


@runtime_checkable
class Manifold(Protocol):
    """What the gallery term needs of a model of the manifold. Hashable: it is static in a problem."""

    @property
    def num_neighbors(self) -> int:
        """Gallery rows that describe the manifold near a point."""
        ...

    def foot(self, x: Points, rows: Any) -> Points:
        """Return the point of the manifold nearest to each point.

        Args:
            x: unit rows, ``[n, d]``.
            rows: gallery rows near each, the nearest first, ``[n, num_neighbors, d]``.

        Returns:
            Unit rows, ``[n, d]``. The pull treats them as constants, which is exact where the foot is
            the nearest point of a set that does not move with ``x``.
        """
        ...


@dataclass(frozen=True)
class NearestRow:
    """The gallery's rows alone, as in HyperFace."""

    @property
    def num_neighbors(self) -> int:
        """Return 1."""
        return 1

    def foot(self, x: Points, rows: Any) -> Points:
        """Return the nearest row."""
        del x
        return rows[:, 0]


NEAREST_ROW = NearestRow()


@dataclass(frozen=True)
class LocalSpan:
    """The linear span of the nearest rows: faces between and beyond those of the gallery count.

    The distance to it, one minus the cosine of the angle between a point and the span, becomes that of
    the nearest row for a single neighbor.

    Attributes:
        num_neighbors: k. More than the manifold has dimensions lets it wander off.
        ridge: added to the diagonal of the rows' Gram matrix; it keeps near-duplicates apart.

    Cost: ``k^2 d + k^3 / 3`` multiplications a point.
    """

    num_neighbors: int = 16
    ridge: float = 1e-3

    def __post_init__(self):
        if self.num_neighbors < 1:
            raise ValueError(f"num_neighbors={self.num_neighbors}: give at least 1")

    def foot(self, x: Points, rows: Any) -> Points:
        """Return the direction of the projection onto the span."""
        gram = jnp.einsum("nkd,nld->nkl", rows, rows, precision="highest")
        gram += self.ridge * jnp.eye(rows.shape[1], dtype=rows.dtype)[None]
        inner = jnp.einsum("nkd,nd->nk", rows, x, precision="highest")
        weight = jnp.linalg.solve(gram, inner[..., None])[..., 0]
        return sphere.normalize(jnp.einsum("nk,nkd->nd", weight, rows, precision="highest"))


def manifold_of(num_neighbors: int) -> Manifold:
    """Return the nearest row alone for 1, else the span of so many."""
    return NEAREST_ROW if num_neighbors == 1 else LocalSpan(num_neighbors)
