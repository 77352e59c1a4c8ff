"""Shape aliases for signatures.

Import this module under ``typing.TYPE_CHECKING`` only: jaxtyping is a development dependency, and
``import hyperface_jax`` loads jax and optax alone.
"""

from jaxtyping import Array, Bool, Float, Int, Key

Points = Float[Array, "n d"]
"""n unit vectors in R^d, one a row."""

Gallery = Float[Array, "m d"]
"""m unit vectors that stand for the face manifold."""

Rows = Float[Array, " n"]
Indices = Int[Array, " n"]
Mask = Bool[Array, " n"]
Scalar = Float[Array, ""]
PRNGKey = Key[Array, ""]
