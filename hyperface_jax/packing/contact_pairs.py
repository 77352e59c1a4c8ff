"""The pairs of points that come close, and how their cosines depend on the coordinates of the points.

An interior-point step needs three things: which pairs are close, the slopes of their cosines in tangent
coordinates, and the matrix ``S^T W S`` of these slopes. It is the same whether every point moves by
itself (:class:`AllPairs`) or whole orbits move with their representatives
(:class:`~hyperface_jax.packing.orbits.OrbitPairs`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_BLOCK_ROWS = 1024


@runtime_checkable
class Pairs(Protocol):
    """Which pairs count, and which rows move.

    A pair is a row ``i`` of ``x`` and a point ``j`` among the points that ``x`` stands for. A block is
    a row that moves; blocks have the order of the rows.
    """

    @property
    def num_blocks(self) -> int:
        """Number of rows that move."""
        ...

    def points(self, x: Array) -> Array:
        """Return all points, ``[n, d]``, for the rows ``x``, ``[k, d]``."""
        ...

    def moved(self, x: Array, moves: Array) -> Array:
        """Return the rows after tangent moves, ``[k, d]`` each."""
        ...

    def highest(self, points: Array) -> float:
        """Return the largest cosine of a pair."""
        ...

    def above(self, points: Array, threshold: float) -> tuple[Array, Array, Array]:
        """Return the pairs ``(rows, columns)`` above a cosine, in row-major order, and their cosines."""
        ...

    def sides(self, x: Array, rows: Array, columns: Array) -> tuple[Array, Array, Array, Array]:
        """Return the blocks that each pair moves, ``[p]`` twice, and its gradients there, ``[p, d]``.

        A block of -1 does not move. Gradients need not be tangent.
        """
        ...


@dataclass(frozen=True)
class AllPairs:
    """All pairs ``i < j`` of n points with at least one that is not frozen; the frozen come first."""

    num_points: int
    num_frozen: int = 0

    @property
    def num_blocks(self) -> int:
        """Number of points that move."""
        return self.num_points - self.num_frozen

    def points(self, x: Array) -> Array:
        """Return the rows themselves."""
        return x

    def moved(self, x: Array, moves: Array) -> Array:
        """Move the rows that are not frozen."""
        moved = unit_rows(x + moves)
        moved[: self.num_frozen] = x[: self.num_frozen]
        return moved

    def highest(self, points: Array) -> float:
        """Find the largest cosine in O(n^2 d) time and O(n) memory."""
        return max(float(block.max(initial=-np.inf)) for _, _, block in self._blocks(points))

    def above(self, points: Array, threshold: float) -> tuple[Array, Array, Array]:
        """Find pairs above a threshold in O(n^2 d) time, one block of rows at a time."""
        found: list[tuple[Array, Array, Array]] = []
        for start, first, cosines in self._blocks(points):
            rows, columns = np.nonzero(cosines > threshold)
            found.append((rows + start, columns + first, cosines[rows, columns]))
        rows, columns, cosines = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return rows, columns, cosines

    def _blocks(self, points: Array) -> Iterator[tuple[int, int, Array]]:
        """Yield the first row and column of blocks of cosines, which are -inf where no pair counts."""
        for start in range(0, len(points), _BLOCK_ROWS):
            first = max(start + 1, self.num_frozen)  # skip pairs of two frozen rows
            cosines = points[start : start + _BLOCK_ROWS] @ points[first:].T
            cosines[np.tri(cosines.shape[0], cosines.shape[1], start - first, dtype=bool)] = -np.inf
            yield start, first, cosines

    def sides(self, x: Array, rows: Array, columns: Array) -> tuple[Array, Array, Array, Array]:
        """Return both points of each pair, each with the other as gradient."""
        first = np.maximum(rows - self.num_frozen, -1)
        return first, columns - self.num_frozen, x[columns], x[rows]


def carried(
    values: Array,
    old: tuple[Array, Array],
    new: tuple[Array, Array],
    num_points: int,
    absent: Array | float,
) -> Array:
    """Return the values of old pairs for new ones, ``absent`` for those that are new.

    Args:
        values: values of the old pairs, ``[p]``.
        old: rows and columns of the old pairs, in row-major order, ``[p]`` each.
        new: rows and columns of the new pairs, ``[q]`` each.
        num_points: number of points.
        absent: value of a pair that is not among the old ones, or one for each new pair.
    """
    old_keys, keys = (rows * num_points + columns for rows, columns in (old, new))
    place = np.minimum(np.searchsorted(old_keys, keys), len(old_keys) - 1)
    return np.where(old_keys[place] == keys, values[place], absent)


def unit_rows(x: Array) -> Array:
    """Scale rows to unit length."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@dataclass(frozen=True)
class Slopes:
    """Derivatives of the slacks ``bound - cosine`` of p pairs, by tangent coordinates and the bound.

    Attributes:
        bases: tangent bases of the blocks, ``[m, d, d-1]``.
        num_rows: number of rows of ``x``, of which the last m move.
        blocks: the blocks that each pair moves, ``[2, p]``; -1 for none.
        gradients: gradients of the cosines in these blocks, ``[2, p, d-1]``.
    """

    bases: Array
    num_rows: int
    blocks: Array
    gradients: Array

    @cached_property
    def _by_block(self) -> Any:
        """Sum values of sides, ``[2 p, ...]``, over the sides of each block: sparse ``[m, 2 p]``."""
        return _sums(self.blocks.ravel(), len(self.bases))

    def pulled(self, values: Array) -> Array:
        """Return ``S^T values``: ``[m (d-1) + 1]``, the bound's coordinate last."""
        weighted = self.gradients * values[None, :, None]
        found = self._by_block @ weighted.reshape(-1, weighted.shape[-1])
        return np.append(-found.ravel(), values.sum())

    def pushed(self, z: Array) -> Array:
        """Return ``S z``, the changes of the slacks, ``[p]``."""
        moves = np.vstack([z[:-1].reshape(len(self.bases), -1), np.zeros(self.bases.shape[2])])
        return z[-1] - np.einsum("spk,spk->p", self.gradients, moves[self.blocks])

    def moves(self, z: Array) -> Array:
        """Return the moves of all rows of ``x``, ``[k, d]``."""
        moves = np.zeros((self.num_rows, self.bases.shape[1]))
        inner = z[:-1].reshape(len(self.bases), -1)
        moves[self.num_rows - len(self.bases) :] = np.einsum("mdk,mk->md", self.bases, inner)
        return moves

    def squares(self, weights: Array) -> Array:
        """Return the blocks of ``S^T W S`` on the diagonal, but for pairs within a block."""
        width = self.bases.shape[2]
        sides = self.gradients.reshape(-1, width)
        outer = (np.tile(weights, 2)[:, None] * sides)[:, :, None] * sides[:, None, :]
        return (self._by_block @ outer.reshape(len(sides), -1)).reshape(-1, width, width)

    def crosses(self, weights: Array) -> tuple[Array, Array, Array]:
        """Return the blocks of ``S^T W S`` for two sides, and their places ``i <= j``."""
        both = np.flatnonzero(self.blocks.min(axis=0) >= 0)
        first, second = self.blocks[:, both]
        left, right = self.gradients[:, both]
        is_turned = (first > second)[:, None]
        left, right = np.where(is_turned, right, left), np.where(is_turned, left, right)
        outer = (weights[both, None] * left)[:, :, None] * right[:, None, :]
        keys = np.minimum(first, second) * len(self.bases) + np.maximum(first, second)
        places, inverse = np.unique(keys, return_inverse=True)
        if len(places) == len(keys):  # then np.unique has only sorted them
            found = np.empty_like(outer)
            found[inverse] = outer
        else:
            flat = outer.reshape(len(keys), -1)
            found = (_sums(inverse, len(places)) @ flat).reshape(-1, *outer.shape[1:])
        return *np.divmod(places, len(self.bases)), found


def slopes(x: Array, pairs: Pairs, rows: Array, columns: Array) -> Slopes:
    """Differentiate the slacks of pairs at unit rows ``x``, ``[k, d]``."""
    bases = _tangent_bases(x[len(x) - pairs.num_blocks :])
    first, second, left, right = pairs.sides(x, rows, columns)
    gradients = [
        np.einsum("pdk,pd->pk", bases[blocks], toward)
        for blocks, toward in ((first, left), (second, right))
    ]
    return Slopes(bases, len(x), np.stack([first, second]), np.stack(gradients))


def normal_matrix(found: Slopes, weights: Array, damping: float) -> Array:
    """Return ``S^T W S`` with damping on all coordinates but the bound's, its upper triangle only."""
    num_blocks, _, width = found.bases.shape
    size = num_blocks * width
    normal = np.zeros((size + 1, size + 1))
    normal[:, size] = found.pulled(weights)
    down, right = normal.strides
    blocks = np.lib.stride_tricks.as_strided(
        normal, (num_blocks, num_blocks, width, width), (width * down, width * right, down, right)
    )
    i, j, crossed = found.crosses(weights)
    blocks[i, j] = crossed
    own, turned = np.arange(num_blocks), crossed[i == j].transpose(0, 2, 1)
    blocks[i[i == j], j[i == j]] += turned
    blocks[own, own] += found.squares(weights)
    normal[np.arange(size), np.arange(size)] += damping
    return normal


def _sums(groups: Array, num_groups: int) -> Any:
    """Return the sparse ``[num_groups, len(groups)]`` matrix that sums over groups; -1 is left out."""
    from scipy.sparse import csr_array

    kept = np.flatnonzero(groups >= 0)
    entries = (np.ones(len(kept)), (groups[kept], kept))
    return csr_array(entries, shape=(num_groups, len(groups)))


def _tangent_bases(x: Array) -> Array:
    """Return orthonormal tangent bases ``[m, d, d-1]`` from Householder reflections of ``+-e_1``."""
    normal = x.copy()
    normal[:, 0] += np.where(x[:, 0] >= 0, 1.0, -1.0)
    scaled = 2 * normal / np.sum(normal**2, axis=1, keepdims=True)
    return np.eye(x.shape[1])[:, 1:] - scaled[:, :, None] * normal[:, None, 1:]
