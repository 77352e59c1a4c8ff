"""Several images of each of many persons, all against all: rank 1, and TAR at small FARs.

The ten-fold accuracy flatters on easy sets; over all pairs even small false accept rates can be told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation.templates import identify
from hyperface_jax.evaluation.verification import Separation, separation, unit_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class AllPairs(NamedTuple):
    """The figures of a set of persons.

    Attributes:
        rank_1: share of the other images whose nearest first image is of their person.
        num_persons: in the set.
        separation: of all pairs of images.
    """

    rank_1: float
    num_persons: int
    separation: Separation

    def summary(self) -> dict[str, Any]:
        """Return the figures in terms of JSON."""
        return {
            "rank_1": self.rank_1,
            "num_persons": self.num_persons,
            "num_genuine": len(self.separation.genuine),
            "num_impostor": len(self.separation.impostor),
            "tar_at_far": {f"{far:.0e}": tar for far, tar in self.separation.tar_at_far.items()},
            "auc": self.separation.auc,
            "eer": self.separation.eer,
        }


def all_pairs(embeddings: ArrayLike, persons: ArrayLike) -> AllPairs:
    """Search the first image of each person for all others, and score all pairs of images.

    Args:
        embeddings: of the images, ``[n, d]``; normalized here.
        persons: number of each image's person, ``[n]``.

    Returns:
        The figures.

    Raises:
        InputError: the shapes differ, or no person has two images, or there is only one.

    Cost: O(n^2) memory and time: for thousands of images.
    """
    unit = unit_rows(embeddings, "embeddings")
    labels = np.asarray(persons)
    if labels.shape != (len(unit),):
        raise InputError(f"persons: {labels.shape} for {len(unit)} embeddings; give one each")
    numbers, first = np.unique(labels, return_index=True)
    others = np.setdiff1d(np.arange(len(unit)), first)
    if len(numbers) < 2 or not len(others):
        raise InputError("persons: two persons are needed, and one with two images")
    found = identify(unit[others], labels[others], unit[first], numbers)
    rows, columns = np.triu_indices(len(unit), 1)
    scores = (unit @ unit.T)[rows, columns]
    pairs = separation(scores, labels[rows] == labels[columns])
    return AllPairs(found.rank_rates[1], len(numbers), pairs)
