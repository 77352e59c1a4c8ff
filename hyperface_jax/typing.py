"""Shapes of arrays in signatures.

With jaxtyping installed they can be checked at run time (the tests do); without it, a dependency of
developers only, the names stand for plain arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import jax

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Key
else:
    try:
        from jaxtyping import Array, Bool, Float, Int, Key
    except ImportError:

        class _AnyShape:
            """Stands for a type of jaxtyping: any array."""

            def __class_getitem__(cls, item: Any) -> type:
                return jax.Array

        Array, Bool, Float, Int, Key = jax.Array, _AnyShape, _AnyShape, _AnyShape, _AnyShape

Points: TypeAlias = Float[Array, "n d"]
"""n unit vectors in R^d, one a row."""

Gallery: TypeAlias = Float[Array, "m d"]
"""m unit vectors that stand for the face manifold."""

Frozen: TypeAlias = Float[Array, "f d"]
"""f unit vectors that do not move."""

RowsLike: TypeAlias = Any
"""Rows as callers have them: a JAX, NumPy or torch array, a memory map or a list, ``[n, d]``."""

PerRow: TypeAlias = Float[Array, " n"]
"""One number a row."""

Indices: TypeAlias = Int[Array, " n"]
Mask: TypeAlias = Bool[Array, " n"]
Scalar: TypeAlias = Float[Array, ""]
Number: TypeAlias = Any
"""A Python number from the host, an array where it is traced or one of many."""

PRNGKey: TypeAlias = Key[Array, ""]


class Update(Protocol):
    """Take how much of a piece of work is done, and the figure that matters, such as its max cosine."""

    def __call__(self, done: float, figure: str = "", /) -> Any: ...  # noqa: D102
