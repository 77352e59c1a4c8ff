"""Models of the face manifold near a point: each gives the foot to which a distance is measured.

A gallery is a sample of the manifold. The gallery row nearest to a point is the nearest *known* face.
Between and beyond known faces, several rows together describe the manifold better.

References:
    Nearest row: Otroshi Shahreza and Marcel, *HyperFace*, ICLR 2025, Algorithm 1. Local spans:
    Cevikalp and Triggs, *Face recognition based on image sets*, CVPR 2010, and the tangent spaces of
    Roweis and Saul, *Nonlinear dimensionality reduction by locally linear embedding*, Science 2000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from hyperface_jax import sphere
from hyperface_jax.typing import Points


@runtime_checkable
class Manifold(Protocol):
    """Interface of a model of the manifold: hashable, or a pytree of arrays.

    A hashable one is static in a problem. The arrays of a pytree (of a NamedTuple, for example) are
    leaves of the problem, so other arrays of the same shapes do not compile again.
    """

    @property
    def num_neighbors(self) -> int:
        """Number of gallery rows that describe the manifold near a point."""
        ...

    def foot(self, x: Points, rows: Any) -> Points:
        """Return the foot of each row of ``x``: the nearest point of the manifold.

        Args:
            x: unit rows, ``[n, d]``.
            rows: gallery rows near each row of ``x``, the nearest first, ``[n, num_neighbors, d]``.

        Returns:
            Unit rows, ``[n, d]``. The gallery pull treats them as constants. That is exact if the foot
            is the nearest point of a set that does not move with ``x``.
        """
        ...


@dataclass(frozen=True)
class NearestRow:
    """The manifold consists of the gallery's rows alone, as in HyperFace."""

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
    """The manifold is the linear span of the nearest rows, so it extends between and beyond known faces.

    The distance is one minus the cosine of the angle between a point and the span. With a single
    neighbor, it equals the distance to the nearest row.

    Attributes:
        num_neighbors: number of rows k. If k exceeds the dimension of the manifold, points can leave
            it.
        ridge: number added to the diagonal of the rows' Gram matrix, which near-duplicates would
            otherwise make singular.

    Cost: ``k^2 d + k^3 / 3`` multiplications per point.
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


def split(manifold: Any) -> tuple[Any, Any]:
    """Return a manifold that is a pytree of arrays as ``(None, manifold)``, any other static, first."""
    is_static = jax.tree.structure(manifold) == jax.tree.structure(0)
    return (manifold, None) if is_static else (None, manifold)


def joined(static: Any, traced: Any) -> Any:
    """Return the manifold whose two halves :func:`split` returned."""
    return traced if static is None else static
