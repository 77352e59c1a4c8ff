"""The dense sweep: the whole score matrix at once. The oracle of every test, and fine for small n."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from hyperface_jax.pairwise.reductions import Reduction, masked, scores

if TYPE_CHECKING:
    from hyperface_jax.typing import Gallery, Points


def symmetric(x: Points, reduction: Reduction) -> Any:
    """Reduce over all pairs of ``x`` with itself, the diagonal excluded; O(n^2) memory."""
    index = jnp.arange(x.shape[0], dtype=jnp.int32)
    return _reduced(x, x, reduction, masked(scores(x, x), index, index, x.shape[0]))


def rectangular(x: Points, y: Gallery, reduction: Reduction) -> Any:
    """Reduce over all pairs of a row of ``x`` and a row of ``y``; O(n m) memory."""
    return _reduced(x, y, reduction, scores(x, y))


def _reduced(x: Points, y: Gallery, reduction: Reduction, values: Any) -> Any:
    carry = reduction.init(x.shape[0], x.shape[1], x.dtype)
    carry = reduction.update(
        carry, reduction.tile(values), y, jnp.arange(y.shape[0], dtype=jnp.int32)
    )
    return reduction.finalize(carry)
