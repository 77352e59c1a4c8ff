"""Blockwise passes over all pairs of unit rows in torch, without autograd.

The score matrix is never held: one panel of a few hundred rows at a time, in a buffer that is
reused. Passes that are symmetric in the pair visit each pair once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

MASKED = -torch.inf


class Panel(NamedTuple):
    """Cosines of rows ``start:stop`` with rows ``first:``, the diagonal at minus infinity."""

    start: int
    stop: int
    scores: Tensor


class Panels:
    """Score panels of one matrix after another.

    Args:
        reuse: Keep one buffer, which makes a panel valid until the next one only.
    """

    def __init__(self, reuse: bool = True) -> None:
        self._reuse = reuse
        self._buffer = torch.empty(0)

    def _scores(self, rows: Tensor, columns: Tensor) -> Tensor:
        if not self._reuse:
            return torch.mm(rows, columns.T)
        size = len(rows) * len(columns)
        if self._buffer.numel() < size or self._buffer.device != rows.device:
            self._buffer = torch.empty(size, dtype=rows.dtype, device=rows.device)
        out = self._buffer[:size].view(len(rows), len(columns))
        return torch.mm(rows, columns.T, out=out)

    def triangle(self, x: Tensor) -> Iterator[Panel]:
        """Visit each pair once: rows ``start:stop`` against ``start:``, n^2 d FLOPs in all.

        Only the square at the left end of a panel holds its pairs twice.
        """
        for start, stop in _blocks(x):
            scores = self._scores(x[start:stop], x[start:])
            scores[:, : stop - start].fill_diagonal_(MASKED)
            yield Panel(start, stop, scores)

    def rows(self, x: Tensor) -> Iterator[Panel]:
        """Visit every row against all others, 2 n^2 d FLOPs in all."""
        for start, stop in _blocks(x):
            scores = self._scores(x[start:stop], x)
            scores[:, start:stop].fill_diagonal_(MASKED)
            yield Panel(start, stop, scores)


def _blocks(x: Tensor) -> Iterator[tuple[int, int]]:
    n = len(x)
    block = 8192 if x.is_cuda else 256 if n < 4096 else 512
    for start in range(0, n, block):
        yield start, min(start + block, n)


def triangle_flops(x: Tensor) -> float:
    """FLOPs of the matrix products of :meth:`Panels.triangle`."""
    n, d = x.shape
    return sum(2.0 * (stop - start) * (n - start) * d for start, stop in _blocks(x))


def force_flops(x: Tensor) -> float:
    """FLOPs of the products that turn the weights of a triangle into a force on each row."""
    squares = sum(2.0 * (stop - start) ** 2 * x.shape[1] for start, stop in _blocks(x))
    return 2 * triangle_flops(x) - squares


def max_cosine(x: Tensor, panels: Panels) -> float:
    """Return the exact max cosine over pairs of rows."""
    return float(torch.stack([scores.amax() for _, _, scores in panels.triangle(x)]).max())


def closest_pair(x: Tensor, panels: Panels) -> tuple[int, int, float]:
    """Return the indices of the closest pair and its cosine."""
    best = (0, 1, -torch.inf)
    for start, _, scores in panels.triangle(x):
        # A row maximum is vectorized in torch, an argmax over the whole panel is not.
        value, row = scores.amax(dim=1).max(dim=0)
        if float(value) > best[2]:
            column = scores[row].argmax()
            best = (start + int(row), start + int(column), float(value))
    return best


def nearest(x: Tensor, panels: Panels) -> tuple[Tensor, Tensor]:
    """Return the cosine ``[n]`` and the index ``[n]`` of each row's nearest other row."""
    cosines = torch.empty(len(x), dtype=x.dtype, device=x.device)
    indices = torch.empty(len(x), dtype=torch.int64, device=x.device)
    for start, stop, scores in panels.rows(x):
        indices[start:stop] = _argmax_rows(scores)
        cosines[start:stop] = scores.gather(1, indices[start:stop, None])[:, 0]
    return cosines, indices


def nearest_among(x: Tensor, others: Tensor) -> Tensor:
    """Return the index ``[n]`` of the nearest of some other rows, 2 n m d FLOPs."""
    return torch.cat([_argmax_rows(x[start:stop] @ others.T) for start, stop in _blocks(x)])


def _argmax_rows(scores: Tensor) -> Tensor:
    if scores.is_cuda:
        return scores.argmax(dim=1)
    return torch.from_numpy(scores.numpy().argmax(axis=1))


def pair_force(
    x: Tensor, weight_: Callable[[Tensor], Tensor], panels: Panels
) -> tuple[Tensor, float]:
    """Return ``sum_j w(c_ij) x_j / mean_i sum_j w(c_ij)`` for each row, and the exact max cosine.

    Args:
        x: Unit rows ``[n, d]``.
        weight_: Maps a panel of cosines to weights, in place; what it makes of the masked
            diagonal is discarded.
        panels: The panel buffer. Costs 3 n^2 d FLOPs.
    """
    force = torch.zeros_like(x)
    totals, maxima = [], []
    for start, stop, scores in panels.triangle(x):
        maxima.append(scores.amax())
        weights = weight_(scores)
        square, rest = weights[:, : stop - start], weights[:, stop - start :]
        square.fill_diagonal_(0)
        totals.append(2 * weights.sum() - square.sum())
        force[start:stop].addmm_(weights, x[start:])
        force[stop:].addmm_(rest.T, x[start:stop])
    force *= len(x) / torch.stack(totals).sum()
    return force, float(torch.stack(maxima).max())
