"""Exact search for the nearest neighbor of each row and for the most similar pairs of two sets.

One sweep over all pairs finds the nearest neighbors. The most similar pairs cost little more: at least k
pairs reach the k-th largest nearest-neighbor cosine, so the k most similar pairs are all in rows that
reach it, and only these rows are searched again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation.histograms import bin_edges
from hyperface_jax.pairwise import count_above, k_nearest, nearest, sweep_streamed
from hyperface_jax.sphere import normalize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from hyperface_jax.pairwise import RowSource, Sweep, SweepStore
    from hyperface_jax.typing import Update


MOST_PAIRS = 1000
"""Largest number of most similar pairs that can be searched for."""
NUM_BINS = 64
_SAME = 1e-6

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class ClosestPairs(NamedTuple):
    """Pairs of rows, the most similar first.

    Attributes:
        cosine: cosine of each pair, float64 ``[k]``.
        row: index of the row in the first set, ``[k]``.
        column: index of the row in the second set, ``[k]``; within one set, the larger index.
    """

    cosine: np.ndarray
    row: np.ndarray
    column: np.ndarray


class NearestPairs(NamedTuple):
    """The nearest neighbors of the rows of a set, in another set or in the same one.

    Attributes:
        cosine: cosine between each row and its nearest neighbor, float32 ``[n]``.
        nearest: index of that neighbor, ``[n]``.
        pairs: the most similar pairs.
    """

    cosine: np.ndarray
    nearest: np.ndarray
    pairs: ClosestPairs

    def summary(self, thresholds: Sequence[float]) -> dict[str, Any]:
        """Return the figures as JSON values, with the share of rows above each threshold."""
        return {
            "num_rows": len(self.cosine),
            **distribution(self.cosine),
            "above": shares_above(self.cosine, thresholds),
            "pairs": [
                {"cosine": cosine, "row": row, "column": column}
                for cosine, row, column in zip(*(p.tolist() for p in self.pairs), strict=True)
            ],
        }


class TargetMatch(NamedTuple):
    """How well faces match the embeddings that they were drawn for.

    Attributes:
        cosine: cosine between each face and its own target, float32 ``[n]``.
        rank: rank of the face's own target among all targets by cosine, counted from 1, ``[n]``.
    """

    cosine: np.ndarray
    rank: np.ndarray

    def summary(self, thresholds: Sequence[float]) -> dict[str, Any]:
        """Return the figures as JSON values, with the share of faces above each threshold."""
        return {
            "num_rows": len(self.cosine),
            **distribution(self.cosine),
            "above": shares_above(self.cosine, thresholds),
            "rank_1": float(np.mean(self.rank == 1)),
            "rank_10": float(np.mean(self.rank <= 10)),
            "mean_rank": float(self.rank.mean()),
            "max_rank": int(self.rank.max()),
        }


def nearest_pairs(
    x: RowSource,
    y: RowSource | None = None,
    *,
    num_pairs: int = 100,
    sweep: Sweep | None = None,
    progress: Update | None = None,
    store: SweepStore | None = None,
) -> NearestPairs:
    """Find the nearest neighbor of each row, and the most similar pairs.

    The result is the same as if all cosines were computed at once, up to float32 rounding: pairs with
    cosines that differ by less than about 2e-7 may be swapped, or dropped at the end of the list.

    Args:
        x: unit rows, float32 ``[n, d]``, in memory or in a file.
        y: set in which to search, unit rows ``[m, d]``; None searches in ``x``, leaving out each row
            itself.
        num_pairs: number of most similar pairs to find; all pairs are returned if there are fewer.
        sweep: order in which pairs are visited, and the devices to use.
        progress: called with the number of rows of ``x`` that are done, and the max cosine so far (of
            this call).
        store: keeps the state of the search, so that another call can go on with it.

    Returns:
        The neighbors and the pairs.

    Raises:
        InputError: the dimensions differ, there are no pairs, or ``num_pairs`` is not between 1 and
            ``MOST_PAIRS``.

    Cost: ``2 n m d`` FLOPs, or ``n^2 d`` within one set, plus those for about ``num_pairs`` rows to
        find the pairs. Memory for a few blocks of rows and the result.
    """
    _check(x, y, num_pairs)
    best, share_of_rows = -np.inf, x.shape[0] / count_pairs(x, y)

    def look(done: int, found: Any) -> None:
        nonlocal best
        best = max(best, float(np.max(found.cosine)))
        if progress:
            progress(round(done * share_of_rows), f"max cosine {best:.4f}")

    found = sweep_streamed(x, y, reduction=nearest(), sweep=sweep, on_block=look, store=store)
    return NearestPairs(
        found.cosine, found.column, _most_similar(x, y, found.cosine, num_pairs, sweep)
    )


def target_match(
    x: RowSource,
    targets: RowSource,
    own: np.ndarray,
    *,
    sweep: Sweep | None = None,
    progress: Update | None = None,
    store: SweepStore | None = None,
) -> TargetMatch:
    """Compare each face with the target that it was drawn for, and rank that target among all.

    Args:
        x: unit embeddings of faces, float32 ``[n, d]``.
        targets: unit embeddings that the faces were drawn for, ``[m, d]``.
        own: index of each face's own target, ``[n]``.
        sweep: order in which pairs are visited, and the devices to use.
        progress: called with the number of rows of ``x`` that are done, and the mean cosine between
            faces and their own targets.
        store: keeps the state of the ranking, so that another call can go on with it.

    Returns:
        Cosines and ranks. A target only counts as closer than a face's own one if its cosine is larger
        by more than 1e-6.

    Raises:
        InputError: the dimensions differ, or ``own`` does not hold one index of a target for each face.

    Cost: ``2 n m d`` FLOPs. Memory for the targets and two blocks of rows.
    """
    own = np.asarray(own)
    _check_dims(x, targets)
    if own.shape != (x.shape[0],) or own.dtype.kind not in "iu":
        raise InputError(f"own: {own.dtype} {own.shape} for {x.shape[0]} rows; give one index each")
    if own.min() < 0 or own.max() >= targets.shape[0]:
        raise InputError(
            f"own: rows {own.min()} to {own.max()} of {targets.shape[0]} targets; number them from 0"
        )
    cosine = _own_cosines(x, targets, own)
    figure, num_targets = f"mean cosine to target {cosine.mean():.4f}", targets.shape[0]

    def look(done: int, found: Any) -> None:
        del found
        if progress:
            progress(round(done / num_targets), figure)

    better = sweep_streamed(
        _Relative(x, cosine),
        _Relative(targets, np.full(targets.shape[0], -1, np.float32)),
        reduction=count_above(_SAME),
        sweep=sweep,
        ids=own.astype(np.int32),
        on_block=look,
        store=store,
    )
    return TargetMatch(cosine, better + 1)


def impostor_threshold(embeddings: ArrayLike, *, far: float) -> float:
    """Return the cosine that pairs of different persons exceed at a given rate.

    Pairs in :class:`NearestPairs` above this cosine may be considered the same person.

    Args:
        embeddings: one embedding of each person, ``[n, d]``; they are normalized here.
        far: false accept rate, the share of the pairs above the threshold.

    Returns:
        The threshold.

    Raises:
        InputError: there are too few pairs to measure that rate.

    Cost: O(n^2) memory and time, suitable for thousands of persons.
    """
    unit = np.asarray(normalize(jnp.asarray(embeddings, jnp.float32)))
    num_pairs = len(unit) * (len(unit) - 1) // 2
    if num_pairs * far < 1:
        raise InputError(f"far={far}: {num_pairs} pairs are too few for it; give more persons")
    scores = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.quantile(scores, 1 - far))


def distribution(values: np.ndarray) -> dict[str, Any]:
    """Summarize cosines as JSON values: mean, extremes, quantiles and a histogram."""
    counts, edges = np.histogram(values, bin_edges(values, NUM_BINS))
    return {
        "mean_cosine": float(np.mean(values, dtype=np.float64)),
        "min_cosine": float(values.min()),
        "max_cosine": float(values.max()),
        "quantiles": {f"{q:g}": float(np.quantile(values, q)) for q in _QUANTILES},
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def shares_above(values: np.ndarray, thresholds: Sequence[float]) -> list[dict[str, Any]]:
    """Return the number and the share of cosines above each threshold, as JSON values."""
    return [
        {
            "threshold": limit,
            "num": int(np.sum(values > limit)),
            "share": float(np.mean(values > limit)),
        }
        for limit in thresholds
    ]


class _Relative:
    """Rows with one more entry, so that ``[x, cosine]`` times ``[y, -1]`` is ``<x, y> - cosine``."""

    def __init__(self, rows: RowSource, last: np.ndarray) -> None:
        self._rows, self._last = rows, last
        self.shape = rows.shape[0], rows.shape[1] + 1

    def __getitem__(self, place: slice, /) -> np.ndarray:
        return np.concatenate([self._rows[place], self._last[place, None]], axis=1)


def _check_dims(x: RowSource, y: RowSource) -> None:
    if len(x.shape) != 2 or len(y.shape) != 2 or x.shape[1] != y.shape[1]:
        raise InputError(f"shapes {x.shape} and {y.shape}: [n, d] and [m, d] are needed")


def _check(x: RowSource, y: RowSource | None, num_pairs: int) -> None:
    _check_dims(x, x if y is None else y)
    if count_pairs(x, y) < 1:
        raise InputError(f"{x.shape[0]} rows: too few for a pair; give more")
    if not 1 <= num_pairs <= MOST_PAIRS:
        raise InputError(f"num_pairs: {num_pairs} must be between 1 and {MOST_PAIRS}")


def count_pairs(x: RowSource, y: RowSource | None = None) -> int:
    """Count the pairs between two sets, or within one set."""
    num_rows = x.shape[0]
    return num_rows * (num_rows - 1) // 2 if y is None else num_rows * y.shape[0]


def _most_similar(
    x: RowSource, y: RowSource | None, cosine: np.ndarray, num_pairs: int, sweep: Sweep | None
) -> ClosestPairs:
    # Within one set, the same pair may be the nearest for both of its rows.
    num_rows = 2 * num_pairs if y is None else num_pairs
    rows = np.sort(np.argsort(-cosine, kind="stable")[:num_rows])
    other = x if y is None else y
    found = sweep_streamed(
        _gather(x, rows),
        other,
        reduction=k_nearest(min(num_pairs, other.shape[0])),
        sweep=sweep,
        ids=rows.astype(np.int32) if y is None else None,
    )
    place, _ = is_pair = np.nonzero(found.cosine > -np.inf)
    row, column, scores = rows[place], found.column[is_pair], found.cosine[is_pair]
    if y is None:
        row, column = np.minimum(row, column), np.maximum(row, column)
        _, first = np.unique(row * len(cosine) + column, return_index=True)
        row, column, scores = row[first], column[first], scores[first]
    best = np.lexsort((column, row, -scores))[:num_pairs]
    row, column = row[best], column[best]
    exact = _exact_cosines(_gather(x, row), _gather(other, column))
    # Round, because the cosines of copies differ in their last bits.
    order = np.lexsort((column, row, -exact.round(12)))
    return ClosestPairs(exact[order], row[order], column[order])


def _gather(x: RowSource, rows: np.ndarray) -> np.ndarray:
    return np.concatenate([x[i : i + 1] for i in rows.tolist()])


def _exact_cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = x.astype(np.float64), y.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.minimum(np.einsum("ij,ij->i", x, y) / lengths, 1.0)


def _own_cosines(x: RowSource, targets: RowSource, own: np.ndarray) -> np.ndarray:
    cosine, step = np.empty(len(own), np.float32), 8192
    whole = np.asarray(targets[0 : targets.shape[0]])
    for start in range(0, len(own), step):
        part = slice(start, start + step)
        cosine[part] = _exact_cosines(np.asarray(x[part]), whole[own[part]])
    return cosine
