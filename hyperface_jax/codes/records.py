"""Records of small codes: the smallest max cosines that public tables list, without coordinates."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import NamedTuple

from hyperface_jax.codes.best import best_known

_AS_GOOD = 1e-9


class Record(NamedTuple):
    """A max cosine that others have reached.

    Attributes:
        num_points: number of points n of the code.
        dim: dimension d of the code.
        max_cosine: its max cosine, as the source states it. It is not checked here.
        source: where it is listed.
    """

    num_points: int
    dim: int
    max_cosine: float
    source: str


@cache
def records() -> tuple[Record, ...]:
    """Return the table: codes in 3 to 32 dimensions with at most 1,024 points, by dimension and size."""
    text = resources.files("hyperface_jax.codes").joinpath("records.json").read_text("utf-8")
    table = json.loads(text)
    rows = [(n, d, cosine, table["sources"][key]) for d, n, cosine, key in table["records"]]
    return tuple(Record(*row) for row in rows)


def record(num_points: int, dim: int) -> Record | None:
    """Return the best record that gives n points in d dimensions, if there is one.

    A code of more points or of fewer dimensions gives one, too.

    Args:
        num_points: number of points n.
        dim: dimension d.

    Returns:
        The entry of the table with the smallest max cosine among those with at least n points in at most
        d dimensions. It may still be worse than :func:`best_known`.

    Examples:
        >>> record(18, 3).max_cosine
        0.6486958323674945
        >>> record(2000, 128) is None
        True
    """
    fitting = [row for row in records() if row.num_points >= num_points and row.dim <= dim]
    return min(fitting, key=lambda row: row.max_cosine, default=None)


def better_record(num_points: int, dim: int) -> Record | None:
    """Return the best record for n points in d dimensions if it is below :func:`best_known`.

    Examples:
        >>> better_record(18, 3).max_cosine
        0.6486958323674945
        >>> better_record(24, 3) is None
        True
    """
    listed = record(num_points, dim)
    if listed and listed.max_cosine < best_known(num_points, dim).max_cosine - _AS_GOOD:
        return listed
    return None
