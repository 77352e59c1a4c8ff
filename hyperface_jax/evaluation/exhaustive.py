"""Exhaustive comparison of several images of many persons: rank-1 rate, and TAR at small FARs.

Ten-fold accuracy saturates on easy sets. Over all pairs, even small false accept rates can be measured.
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
    """Figures of a set of persons.

    Attributes:
        rank_1: rank-1 identification rate, with the first image of each person in the gallery and all
            other images as probes.
        num_persons: number of persons in the set.
        separation: separation of genuine and impostor pairs over all pairs of images.
    """

    rank_1: float
    num_persons: int
    separation: Separation

    def summary(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
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
    """Search for all later images among the first image of each person, and score all pairs.

    Args:
        embeddings: embeddings of the images, ``[n, d]``; they are normalized here.
        persons: person in each image, as a number, ``[n]``.

    Returns:
        The figures.

    Raises:
        InputError: the shapes differ, no person has two images, or there is only one person.

    Cost: O(n^2) memory and time, suitable for thousands of images.
    """
    unit = unit_rows(embeddings, "embeddings")
    labels = np.asarray(persons)
    if labels.shape != (len(unit),):
        raise InputError(f"persons: {labels.shape} for {len(unit)} embeddings; give one each")
    numbers, first = np.unique(labels, return_index=True)
    others = np.setdiff1d(np.arange(len(unit)), first)
    if len(numbers) < 2 or not len(others):
        raise InputError("persons: give two persons or more, at least one with two images")
    found = identify(unit[others], labels[others], unit[first], numbers)
    rows, columns = np.triu_indices(len(unit), 1)
    scores = (unit @ unit.T)[rows, columns]
    pairs = separation(scores, labels[rows] == labels[columns])
    return AllPairs(found.rank_rates[1], len(numbers), pairs)
