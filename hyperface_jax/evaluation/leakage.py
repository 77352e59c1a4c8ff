"""Do synthetic identities repeat real ones? The nearest real embedding of each, and how near."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.pairwise import Nearest, Sweep, nearest
from hyperface_jax.sphere import normalize

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Leakage(NamedTuple):
    """How near synthetic identities come to real ones.

    Attributes:
        cosine: of each to its nearest real one, ``[n]``.
        nearest: that real one, ``[n]``.
        threshold: cosine from which two count as one person.
    """

    cosine: np.ndarray
    nearest: np.ndarray
    threshold: float

    def summary(self) -> dict[str, Any]:
        """Return the figures in terms of JSON."""
        is_near = self.cosine > self.threshold
        return {
            "num_identities": len(self.cosine),
            "mean_cosine": float(self.cosine.mean()),
            "max_cosine": float(self.cosine.max()),
            "threshold": self.threshold,
            "num_above": int(is_near.sum()),
            "share_above": float(is_near.mean()),
        }


def leakage(synthetic: ArrayLike, real: ArrayLike, *, threshold: float) -> Leakage:
    """Find the nearest real embedding of each synthetic one.

    Args:
        synthetic: embeddings of synthetic identities or images, ``[n, d]``; normalized here.
        real: of the people that the generator was trained on, ``[m, d]``, by the same recognizer.
        threshold: cosine from which two count as one person, such as from
            :func:`impostor_threshold`.

    Returns:
        The nearest cosines.

    Raises:
        InputError: the dimensions differ, or a set is empty.

    Cost: ``2 n m d`` FLOPs, memory of the inputs and one block.
    """
    x, y = (jnp.asarray(part, jnp.float32) for part in (synthetic, real))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not (len(x) and len(y)):
        raise InputError(
            f"synthetic, real: shapes {x.shape} and {y.shape}; [n, d] and [m, d] are needed, not empty"
        )
    found = _nearest(x, y)
    return Leakage(np.asarray(found.cosine), np.asarray(found.column), threshold)


@jax.jit  # Outside of one, the loop of a sweep is compiled anew at each call.
def _nearest(x: jax.Array, y: jax.Array) -> Nearest:
    return Sweep()(normalize(x), normalize(y), reduction=nearest())


def impostor_threshold(embeddings: ArrayLike, *, far: float) -> float:
    """Return the cosine that two different persons exceed at a given rate.

    Args:
        embeddings: one of each person, ``[n, d]``; normalized here.
        far: share of the pairs above the threshold.

    Raises:
        InputError: too few pairs to tell that rate.

    Cost: O(n^2) memory and time: for thousands of persons.
    """
    unit = np.asarray(normalize(jnp.asarray(embeddings, jnp.float32)))
    num_pairs = len(unit) * (len(unit) - 1) // 2
    if num_pairs * far < 1:
        raise InputError(f"far={far}: {num_pairs} pairs are too few to tell it; give more persons")
    scores = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.quantile(scores, 1 - far))
