"""Rows and their indices, by which a sweep leaves out the diagonal and the padding."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hyperface_jax import sphere
from hyperface_jax.typing import Indices, Points

_ELSEWHERE = 2**31 - 2
_ABSENT = -1


class NumberedRows(NamedTuple):
    """A block of rows with their indices."""

    x: Points
    """Unit rows, or zeros where there is no point, ``[n, d]``."""
    ids: Indices
    """Index of each row in the whole set, -1 where there is no point, ``[n]``."""


def numbered(x: Points, first: Any = 0) -> NumberedRows:
    """Number the rows of a set from ``first``."""
    return with_ids(x, first + jnp.arange(x.shape[0], dtype=jnp.int32))


def as_rows(x: Points | NumberedRows) -> NumberedRows:
    """Number the rows of a set from 0, unless they have their indices already."""
    return x if isinstance(x, NumberedRows) else numbered(x)


def foreign(x: Points) -> NumberedRows:
    """Give the rows of another set an index that differs from all indices of this set."""
    return with_ids(x, jnp.int32(_ELSEWHERE))


def with_ids(x: Points, ids: Any) -> NumberedRows:
    """Give rows the indices ``ids``, except for padding."""
    return NumberedRows(x, jnp.where(sphere.is_point(x), ids, _ABSENT))


def first_rows(x: Points, num_rows: int, num_parts: int = 1) -> NumberedRows:
    """Select about ``num_rows`` rows, equally many from the beginning of each part."""
    part = x.shape[0] // num_parts
    count = min(-(-num_rows // num_parts), part)

    def first(a: Any) -> Any:
        return a.reshape(num_parts, part, *a.shape[1:])[:, :count].reshape(-1, *a.shape[1:])

    return jax.tree.map(first, numbered(x))


def blocked(rows: NumberedRows, block_size: int) -> NumberedRows:
    """Split rows into blocks, ``[blocks, block_size, ...]``, padded with absent rows."""
    padding = -rows.x.shape[0] % block_size
    x, ids = rows
    if padding:
        x = jnp.pad(x, ((0, padding), (0, 0)))
        ids = jnp.pad(ids, (0, padding), constant_values=_ABSENT)
    return NumberedRows(x.reshape(-1, block_size, x.shape[1]), ids.reshape(-1, block_size))


def take(tree: Any, i: Any) -> Any:
    """Select block ``i`` of every leaf."""
    return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False), tree)


def put(tree: Any, i: Any, block: Any) -> Any:
    """Overwrite block ``i`` of every leaf."""
    return jax.tree.map(lambda a, b: lax.dynamic_update_index_in_dim(a, b, i, axis=0), tree, block)
