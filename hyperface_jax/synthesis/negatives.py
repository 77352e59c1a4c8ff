"""Negatives: guidance that leads a face away from the nearest other identity, not only from nobody.

Classifier-free guidance with scale g turns a prediction p into ``n + g (p - n)``, where n is what the
generator predicts without a condition. Here ``n = (1 - w) u + w q`` mixes that prediction u with the
prediction q for a negative, by its weight w. Predictions may be arrays of any library.

References:
    Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022.
    Caldeira, Damer and Boutros, "NegFaceDiff: The Power of Negative Context in Identity-Conditioned
    Diffusion for Synthetic Face Generation", 2025, arXiv 2508.09661. Their best negative was the
    farthest context, not the nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax.errors import InputError, require
from hyperface_jax.pairwise import Sweep, nearest


@dataclass(frozen=True, kw_only=True)
class Negatives:
    """What guidance leads a batch of images away from.

    Args:
        conditions: the negative of each image, unit rows, float32 ``[b, d]``.
        weight: weight of the negatives, from 0 (they change nothing) to 1 (they replace the prediction
            without a condition, which is then not computed).

    Raises:
        InputError: the weight is out of range.
    """

    conditions: np.ndarray
    weight: float

    def __post_init__(self) -> None:
        require(self, [("weight", 0 <= self.weight <= 1, "between 0 and 1")])

    def of(self, images: np.ndarray) -> Negatives:
        """Return those of some images of the batch, by their places in it."""
        return replace(self, conditions=self.conditions[images])


def branches(nobody: Any, negatives: Any, weight: float) -> list[Any]:
    """Return the conditions besides the wanted one that a generator has to make a prediction for.

    Args:
        nobody: the condition that stands for nobody.
        negatives: the conditions of the negatives; unused if the weight is 0.
        weight: weight of the negatives.
    """
    if weight == 0:
        return [nobody]
    return [negatives] if weight == 1 else [nobody, negatives]


def guide(predictions: Sequence[Any], *, guidance: float, weight: float) -> Any:
    """Combine the predictions of one step.

    Args:
        predictions: those for :func:`branches`, in that order, then the one for the wanted condition.
        guidance: scale of the guidance, g.
        weight: weight of the negatives, w.

    Returns:
        ``n + g (p - n)``.

    Examples:
        >>> guide([1.0, 2.0, 4.0], guidance=3.0, weight=0.5)
        9.0
    """
    *away, wanted = predictions
    negative = away[0] if len(away) == 1 else (1 - weight) * away[0] + weight * away[1]
    return negative + guidance * (wanted - negative)


def nearest_identities(points: np.ndarray) -> np.ndarray:
    """Find the nearest other row of each row, by one sweep over all pairs.

    Args:
        points: identities, unit rows ``[n, d]``; at least 2.

    Returns:
        Row numbers, int64 ``[n]``; of rows that are equally near, the first.

    Raises:
        InputError: there is only one row.

    Cost: ``n^2 d`` FLOPs and O(n d) memory.
    """
    if len(points) < 2:
        raise InputError("points: a single identity has no neighbor; give 2 or more")
    return np.asarray(_nearest(jnp.asarray(points)), np.int64)


@jax.jit  # Without it, the loop of a sweep would be compiled again at each call.
def _nearest(x: jax.Array) -> jax.Array:
    return Sweep()(x, reduction=nearest()).column
