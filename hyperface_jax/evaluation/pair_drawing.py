"""Pairs of images drawn at random for a verification benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


_MOST_LISTED = 16
"""All impostor pairs are listed if they are at most this many times the wanted ones."""


class DrawnPairs(NamedTuple):
    """Pairs of images by number, ``[n]`` each, and whether both show one person."""

    first: np.ndarray
    second: np.ndarray
    is_same: np.ndarray


def draw_pairs(labels: ArrayLike, num_pairs: int, *, seed: int, num_folds: int = 10) -> DrawnPairs:
    """Draw different pairs of images, half of them of one person, in folds as those of LFW.

    A genuine pair is of a random person who has several images, an impostor pair of two random persons;
    images are drawn among theirs. So a person with many images does not count more than another one.
    Each fold has its genuine pairs first. The same labels and seed give the same pairs.

    Args:
        labels: person of each image, ``[m]``.
        num_pairs: number of pairs, a multiple of ``2 num_folds``.
        seed: random seed.
        num_folds: number of folds.

    Returns:
        The pairs; no two are of the same two images.

    Raises:
        InputError: the number is no such multiple, or there are too few pairs of one kind.
    """
    if num_pairs < 1 or num_pairs % (2 * num_folds):
        raise InputError(f"`num={num_pairs}`: must be a multiple of {2 * num_folds}")
    people, places = np.unique(np.asarray(labels), return_inverse=True)
    order = np.argsort(places, kind="stable")
    images = np.split(order, np.cumsum(np.bincount(places))[:-1])
    counts = np.array([len(own) for own in images], np.int64)
    num_genuine = int(np.sum(counts * (counts - 1) // 2))
    num_impostor = (len(order) ** 2 - int(np.sum(counts**2))) // 2
    for kind, there in (("genuine", num_genuine), ("impostor", num_impostor)):
        if there < num_pairs // 2:
            raise InputError(
                f"`num={num_pairs}`: needs {num_pairs // 2} {kind} pairs; {len(people)} persons with "
                f"{len(order)} images have {there}: take a smaller one"
            )
    rng = np.random.default_rng(seed)
    genuine, impostor = (draw(rng, images, num_pairs // 2) for draw in (_genuine, _impostor))
    size = num_pairs // (2 * num_folds)
    both = np.stack([genuine.reshape(num_folds, size, 2), impostor.reshape(num_folds, size, 2)], 1)
    first, second = both.reshape(-1, 2).T
    return DrawnPairs(first, second, np.tile(np.repeat([True, False], size), num_folds))


def _genuine(rng: np.random.Generator, images: list[np.ndarray], num_pairs: int) -> np.ndarray:
    """Draw pairs of one person; a person all of whose pairs are drawn is not drawn again."""
    left = [own for own in images if len(own) > 1]
    found: dict[tuple[int, int], None] = {}
    drawn = dict.fromkeys((int(own[0]) for own in left), 0)
    while len(found) < num_pairs:
        place = int(rng.integers(len(left)))
        own = left[place]
        pair = _sorted(rng.choice(own, 2, replace=False))
        if pair in found:
            continue
        found[pair] = None
        drawn[int(own[0])] += 1
        if drawn[int(own[0])] == len(own) * (len(own) - 1) // 2:
            left[place] = left[-1]
            left.pop()
    return np.array(list(found))


def _impostor(rng: np.random.Generator, images: list[np.ndarray], num_pairs: int) -> np.ndarray:
    """Draw pairs of two persons, among all of them if there are few."""
    num_images, num_people = sum(map(len, images)), len(images)
    if num_images * (num_images - 1) // 2 <= _MOST_LISTED * num_pairs:
        people = np.empty(num_images, np.int64)
        for person, own in enumerate(images):
            people[own] = person
        first, second = np.triu_indices(num_images, 1)
        is_apart = people[first] != people[second]
        every = np.stack([first[is_apart], second[is_apart]], axis=1)
        return rng.permutation(every)[:num_pairs]
    found: dict[tuple[int, int], None] = {}
    while len(found) < num_pairs:
        one, other = (images[person] for person in rng.choice(num_people, 2, replace=False))
        found[_sorted((rng.choice(one), rng.choice(other)))] = None
    return np.array(list(found))


def _sorted(pair: Sequence[int] | np.ndarray) -> tuple[int, int]:
    low, high = sorted(map(int, pair))
    return low, high
