"""Rendering of faces: draw an image, crop the face, compare it with its target, and maybe try again.

The generator, the cropping and the recognizer are functions of arrays, so each can be replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.images import is_flat
from hyperface_jax.synthesis.conditions import Draws, Variation, draw
from hyperface_jax.synthesis.generators import guided

if TYPE_CHECKING:
    import jax

    from hyperface_jax.synthesis.generators import Generator
    from hyperface_jax.synthesis.negatives import Negatives

Crop = Callable[[np.ndarray], "np.ndarray | None"]
"""Crops the face from an image, uint8 ``[h, w, 3]``; returns None if there is none."""
Embed = Callable[[np.ndarray], np.ndarray]
"""Embeds faces, uint8 ``[b, s, s, 3]``; returns unit rows ``[b, d]``."""


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """The settings and functions that make an image.

    Args:
        generator: draws the images.
        key: random key of the data set.
        variation: settings for how conditions vary around the embeddings.
        crop: crops the face from an image; None keeps the whole image.
        embed: recognizer that embeds the faces; None does not embed them.
        min_target_cosine: smallest cosine between a face and its target; requires ``embed``.
        max_attempts: number of attempts at an image before it is dropped.

    Raises:
        InputError: the values do not fit together.
    """

    generator: Generator
    key: jax.Array
    variation: Variation
    crop: Crop | None = None
    embed: Embed | None = None
    min_target_cosine: float | None = None
    max_attempts: int = 1

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise InputError(f"max_attempts={self.max_attempts}: must be 1 or more")
        if self.min_target_cosine is not None and self.embed is None:
            raise InputError(
                "min_target_cosine: needs a recognizer to measure it; give one or leave it out"
            )


class Rendered(NamedTuple):
    """One image and its figures.

    Attributes:
        identity: number of the identity.
        sample: number of the image within its identity.
        attempt: number of the last attempt at the image, counted from 0.
        condition_cosine: cosine between the condition and the identity's embedding.
        target_cosine: cosine between the face's embedding and the identity's; None if not measured.
        original: the image as drawn by the generator, uint8 ``[h, w, 3]``.
        face: the face cropped from it; None if no face was found.
        embedding: unit embedding of the face, ``[d]``; None if not measured.
        is_kept: whether there is a face and it is close enough to its target.
        is_flat: whether the image or the face has a single color, a sign of a failing generator;
            ``face`` is then None.
    """

    identity: int
    sample: int
    attempt: int
    condition_cosine: float
    target_cosine: float | None
    original: np.ndarray
    face: np.ndarray | None
    embedding: np.ndarray | None
    is_kept: bool
    is_flat: bool = False


def render(
    renderer: Renderer,
    embeddings: np.ndarray,
    identities: np.ndarray,
    samples: np.ndarray,
    *,
    negatives: Negatives | None = None,
) -> list[Rendered]:
    """Draw a batch of images, with up to ``max_attempts`` attempts at each.

    Args:
        renderer: the settings and functions that make an image.
        embeddings: target of each image, unit rows ``[b, d]``.
        identities: number of each image's identity, ``[b]``.
        samples: number of each image within its identity, ``[b]``.
        negatives: what guidance leads each image away from; requires a
            :class:`~hyperface_jax.synthesis.generators.GuidedGenerator`.

    Returns:
        The images in the requested order.

    Raises:
        InputError: the generator takes no negatives or returns an array of the wrong type or shape, or
            the recognizer's embeddings have another dimension than the targets.
    """
    results: list[Any] = [None] * len(identities)
    pending = np.arange(len(identities))
    for attempt in range(renderer.max_attempts):
        rows = embeddings[pending], identities[pending], samples[pending]
        away = None if negatives is None else negatives.of(pending)
        for place, result in zip(pending, _attempt(renderer, *rows, attempt, away), strict=True):
            results[place] = result
        pending = np.array([i for i in pending if not results[i].is_kept], int)
        if not len(pending):
            break
    return results


def _attempt(
    renderer: Renderer,
    embeddings: np.ndarray,
    identities: np.ndarray,
    samples: np.ndarray,
    attempt: int,
    negatives: Negatives | None,
) -> list[Rendered]:
    draws = draw(
        renderer.key,
        embeddings,
        identities,
        samples,
        variation=renderer.variation,
        noise_shape=tuple(renderer.generator.noise_shape),
        attempts=attempt,
    )
    originals = _images(renderer.generator, draws, negatives)
    crops = [renderer.crop(image) if renderer.crop else image for image in originals]
    flat = [
        is_flat(image) or (face is not None and is_flat(face))
        for image, face in zip(originals, crops, strict=True)
    ]
    faces = [None if bad else face for face, bad in zip(crops, flat, strict=True)]
    looks = _looks(renderer, faces, embeddings)
    return [
        Rendered(
            int(identities[i]),
            int(samples[i]),
            attempt,
            float(draws.cosines[i]),
            looks[i].cosine,
            originals[i],
            faces[i],
            looks[i].embedding,
            faces[i] is not None and _is_close(renderer, looks[i].cosine),
            flat[i],
        )
        for i in range(len(originals))
    ]


def _images(generator: Generator, draws: Draws, negatives: Negatives | None) -> np.ndarray:
    if negatives is None:
        drawn = generator(draws.conditions, draws.noise)
    else:
        drawn = guided(generator)(draws.conditions, draws.noise, negatives=negatives)
    images = np.asarray(drawn)
    shape = (len(draws.conditions), generator.image_size, generator.image_size, 3)
    if images.dtype != np.uint8 or images.shape != shape:
        raise InputError(
            f"generator {generator.name}: returned {images.dtype} {images.shape}; return uint8 {shape}"
        )
    return images


class _Look(NamedTuple):
    embedding: np.ndarray | None = None
    cosine: float | None = None


def _looks(renderer: Renderer, faces: list[np.ndarray | None], targets: np.ndarray) -> list[_Look]:
    """Embed the faces, where there are any, and compare them with their targets."""
    looks = [_Look()] * len(faces)
    found = {i: face for i, face in enumerate(faces) if face is not None}
    if renderer.embed is None or not found:
        return looks
    unit = renderer.embed(np.stack(list(found.values())))
    if unit.shape[1] != targets.shape[1]:
        raise InputError(
            f"recognizer: embeds in {unit.shape[1]} dimensions and the targets have {targets.shape[1]}; "
            "use the recognizer of the gallery"
        )
    for i, row in zip(found, unit, strict=True):
        looks[i] = _Look(row, float(row @ targets[i]))
    return looks


def _is_close(renderer: Renderer, cosine: float | None) -> bool:
    least = renderer.min_target_cosine
    return least is None or (cosine is not None and cosine >= least)
