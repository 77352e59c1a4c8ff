"""Labelled codes: the classes of a code, each with a vertex of a simplex as its label.

Let points of one class have cosines of at most s, and of two classes at most t > s. With k classes, the
label takes the share ``u = g / (1 + g)`` of the squared norm, where ``g = (t - s) (k - 1) / k``. Both
kinds of pairs then have at most ``(1 - u) s + u``. Such a code is a mixed code: its last symbol has k
values.

The classes here are frames of the roots of E7, with s = 0 and t = 1/2, or cosets of binary codes. The
words of length 8 and even weight consist of 8 cosets of the Hamming code [8, 4, 4], again with 0 and
1/2; those of length 7 of 8 cosets of the code [7, 3, 4], with -1/7 and 3/7.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.codes.basic import simplex_points
from hyperface_jax.codes.code import SphericalCode, tabulated
from hyperface_jax.codes.unions import e7_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray


def labelled_codes() -> tuple[SphericalCode, ...]:
    """Return codes of 24 to 112 points in 8 to 14 dimensions, with max cosines of 0.17 to 0.3."""
    frames, words = "frames of E7", "cosets of [7, 3, 4]"
    return (
        *(_labelled(frames, e7_frames, (14, 7), k, 0, 1 / 2) for k in (2, 3, 4, 6)),
        *(
            _labelled(words, partial(even_cosets, 7), (8, 7), k, -1 / 7, 3 / 7)
            for k in (3, 5, 6, 7)
        ),
        *(
            _labelled("cosets of [8, 4, 4]", partial(even_cosets, 8), (16, 8), k, 0, 1 / 2)
            for k in (5, 6, 7)
        ),
    )


def _labelled(
    name: str,
    classes: Callable[[], Sequence[NDArray]],
    shape: tuple[int, int],
    count: int,
    within: float,
    between: float,
) -> SphericalCode:
    gap = (between - within) * (count - 1) / count
    share = gap / (1 + gap)
    return tabulated(
        count * shape[0],
        shape[1] + count - 1,
        (1 - share) * within + share,
        f"{count} labelled {name}",
        "elementary",
        lambda: _with_labels(classes()[:count], share),
    )


def _with_labels(classes: Sequence[NDArray], share: float) -> NDArray:
    labels = share**0.5 * simplex_points(len(classes))
    rows = [
        np.concatenate([(1 - share) ** 0.5 * points, np.tile(label, (len(points), 1))], axis=1)
        for points, label in zip(classes, labels, strict=True)
    ]
    return np.concatenate(rows)


def even_cosets(length: int) -> list[NDArray]:
    """Return the words of even weight of length 7 or 8 as unit vectors, in 8 cosets by their syndromes.

    The syndrome is the exclusive or of the numbers of the positions with a 1; they end with 7.
    """
    words = np.array(list(itertools.product((0, 1), repeat=length)))
    words = words[words.sum(1) % 2 == 0]
    positions = np.arange(8 - length, 8)
    syndromes = np.bitwise_xor.reduce(words * positions, axis=1)
    points = (1 - 2 * words) / length**0.5
    return [points[syndromes == syndrome] for syndrome in range(8)]
