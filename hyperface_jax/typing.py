"""Array types that state shapes in signatures.

With jaxtyping, which only developers need, shapes can be checked at run time, as the tests do.
Without it, the names stand for plain arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import jax

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Key
else:
    try:
        from jaxtyping import Array, Bool, Float, Int, Key
    except ImportError:

        class _AnyShape:
            """Stand in for a jaxtyping type; it matches any array."""

            def __class_getitem__(cls, item: Any) -> type:
                return jax.Array

        Array, Bool, Float, Int, Key = jax.Array, _AnyShape, _AnyShape, _AnyShape, _AnyShape

Points: TypeAlias = Float[Array, "n d"]
"""n unit vectors in R^d, one per row."""

Gallery: TypeAlias = Float[Array, "m d"]
"""m unit vectors that represent the face manifold."""

Frozen: TypeAlias = Float[Array, "f d"]
"""f unit vectors that do not move."""

RowsLike: TypeAlias = Any
"""Rows as callers may pass them: a JAX, NumPy or torch array, a memory map or a list, ``[n, d]``."""

PerRow: TypeAlias = Float[Array, " n"]
"""One number per row."""

Indices: TypeAlias = Int[Array, " n"]
Mask: TypeAlias = Bool[Array, " n"]
Scalar: TypeAlias = Float[Array, ""]
Number: TypeAlias = Any
"""A Python number on the host, or an array where it is traced or has a batch axis."""

PRNGKey: TypeAlias = Key[Array, ""]


@runtime_checkable
class Update(Protocol):
    """Receive how much of a task is done, and its most important figure, such as the max cosine."""

    def __call__(self, done: float, figure: str = "", /) -> Any: ...  # noqa: D102
