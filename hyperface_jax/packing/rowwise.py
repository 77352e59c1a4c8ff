"""Split a state into the arrays that have one row per point, and the rest."""

from __future__ import annotations

from typing import Any

import jax

from hyperface_jax.meshes import has_rows


def split_rows(tree: Any, num_rows: int) -> tuple[list[Any], Any]:
    """Take the leaves with leading axis ``num_rows`` out of a tree; :func:`join_rows` undoes this."""
    leaves, structure = jax.tree.flatten(tree)
    is_rows = [has_rows(leaf, num_rows) for leaf in leaves]
    rows = [leaf for leaf, is_row in zip(leaves, is_rows, strict=True) if is_row]
    others = [leaf for leaf, is_row in zip(leaves, is_rows, strict=True) if not is_row]
    return rows, (others, is_rows, structure)


def join_rows(rows: list[Any], rest: Any) -> Any:
    """Put leaves back into the tree from which :func:`split_rows` took them."""
    others, is_rows, structure = rest
    rows_left, others_left = iter(rows), iter(others)
    leaves = [next(rows_left) if is_row else next(others_left) for is_row in is_rows]
    return jax.tree.unflatten(structure, leaves)
