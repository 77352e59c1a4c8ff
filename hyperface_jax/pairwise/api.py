"""One entrance to all-pairs sweeps: the caller names the statistic, the sweep picks the visit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from hyperface_jax.pairwise import blockwise, reference
from hyperface_jax.pairwise.reductions import Reduction

if TYPE_CHECKING:
    from hyperface_jax.typing import Gallery, Points

Implementation = Literal["reference", "blockwise"]

_DENSE_PAIRS = 512 * 512


def sweep(
    x: Points,
    y: Gallery | None = None,
    *,
    reduction: Reduction,
    block_size: int | None = None,
    implementation: Implementation | None = None,
) -> Any:
    """Reduce the cosines of all pairs to one statistic a row of ``x``.

    Args:
        x: unit rows, ``[n, d]``.
        y: unit rows to pair them with, ``[m, d]``. None pairs ``x`` with itself and leaves out the
            diagonal.
        reduction: what to collect; see :mod:`hyperface_jax.pairwise.reductions`.
        block_size: rows of a tile. None chooses at most 512.
        implementation: ``"reference"`` holds all scores in memory, ``"blockwise"`` one tile. None
            takes the dense one while the scores fit a single tile.

    Returns:
        What the reduction's ``finalize`` returns, each leaf with leading axis ``n``.

    Raises:
        NotImplementedError: for an unknown ``implementation``.

    Cost: ``n^2 d`` FLOPs for the scores of ``x`` with itself (each tile serves its rows and its
    columns), ``2 n m d`` with ``y``, plus what the reduction adds; O((n + m) d) memory.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hyperface_jax.pairwise import nearest, sweep
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> sweep(x, reduction=nearest()).column.tolist()
        [2, 2, 1]
    """
    num_pairs = x.shape[0] * (x if y is None else y).shape[0]
    if implementation is None:
        implementation = "reference" if num_pairs <= _DENSE_PAIRS else "blockwise"
    if implementation == "reference":
        if y is None:
            return reference.symmetric(x, reduction)
        return reference.rectangular(x, y, reduction)
    if implementation == "blockwise":
        block_size = block_size or blockwise.default_block_size(x.shape[0])
        if y is None:
            return blockwise.symmetric(x, reduction, block_size=block_size)
        return blockwise.rectangular(x, y, reduction, block_size=block_size)
    raise NotImplementedError(
        f"implementation={implementation!r}: choose 'reference', 'blockwise' or None"
    )
