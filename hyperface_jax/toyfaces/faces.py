"""Toy faces as arrays: random ones for ``hyperface faces``, and persons with their embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np

from hyperface_jax import sphere
from hyperface_jax.toyfaces.population import (
    image_nuisance,
    persons_at,
    sample_identities,
    split_key,
)
from hyperface_jax.toyfaces.renderer import draw_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

SOURCE = "hyperface_jax.toyfaces.faces:random_faces"
"""The value for ``hyperface faces --source`` that draws toy faces."""
SIZE = 32
_BATCH = 512


class PersonFaces(NamedTuple):
    """Images of persons and their unit embeddings.

    Attributes:
        images: ``k`` images of each person, uint8 ``[n, k, s, s, 3]``.
        embeddings: unit embeddings of the images, ``[n, k, d]``.
    """

    images: np.ndarray
    embeddings: np.ndarray

    def directions(self) -> np.ndarray:
        """Return the mean direction of each person's embeddings, unit rows ``[n, d]``."""
        return np.asarray(sphere.normalize(jnp.asarray(self.embeddings.mean(axis=1))))


def random_faces(seed: int, indices: ArrayLike, *, size: int = SIZE) -> np.ndarray:
    """Draw one image of each of the given persons, who all have the role of the gallery.

    Args:
        seed: seed of the toy world.
        indices: numbers of the persons, ``[n]``.
        size: height and width of the images, in pixels.

    Returns:
        uint8 RGB images, ``[n, size, size, 3]``.
    """
    key, person = split_key(seed, "gallery"), np.asarray(indices)
    nuisance = image_nuisance(key, person, np.zeros_like(person), preset="easy")
    return np.concatenate([*draw_batches(persons_at(key, person).latents, nuisance, size=size)])


def draw_persons(
    seed: int, role: str, num: int, images_per_id: int, *, preset: str, size: int = SIZE
) -> np.ndarray:
    """Draw images of the first persons of a role.

    Args:
        seed: seed of the toy world.
        role: one of :data:`hyperface_jax.toyfaces.ROLES`.
        num: number of persons.
        images_per_id: number of images for each person.
        preset: name of the circumstances.
        size: height and width of the images, in pixels.

    Returns:
        uint8 RGB images, ``[num, images_per_id, size, size, 3]``.
    """
    key = split_key(seed, role)
    latents = sample_identities(key, num).latents
    person = np.repeat(np.arange(num), images_per_id)
    picture = np.tile(np.arange(images_per_id), num)
    nuisance = image_nuisance(key, person, picture, preset=preset)
    images = np.concatenate([*draw_batches(latents[person], nuisance, size=size)])
    return images.reshape(num, images_per_id, size, size, 3)


def embed_persons(
    recognizer: Callable[[np.ndarray], np.ndarray], images: np.ndarray
) -> PersonFaces:
    """Embed the images of persons.

    Args:
        recognizer: function that returns raw embeddings ``[b, d]`` of uint8 images ``[b, s, s, 3]``.
        images: images from :func:`draw_persons`.

    Returns:
        The images and their unit embeddings.
    """
    flat = images.reshape(-1, *images.shape[2:])
    starts = range(0, len(flat), _BATCH)
    raw = np.concatenate([recognizer(flat[start : start + _BATCH]) for start in starts])
    unit = np.asarray(sphere.normalize(jnp.asarray(raw)))
    return PersonFaces(images, unit.reshape(*images.shape[:2], -1))
