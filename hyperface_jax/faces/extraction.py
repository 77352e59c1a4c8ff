"""Extraction of unit embeddings from images, which threads decode ahead of the recognizer."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.faces.alignment import NO_FACE
from hyperface_jax.faces.detectors import landmarks_of
from hyperface_jax.faces.threads import ahead
from hyperface_jax.io.files import one_line
from hyperface_jax.io.images import TEMPLATE_SIZE, align, center_crop, decode
from hyperface_jax.io.resampling import resize_linear

if TYPE_CHECKING:
    from hyperface_jax.faces.detectors import Detector
    from hyperface_jax.faces.image_sets import ImageSet, Landmarks
    from hyperface_jax.faces.recognizer import Recognizer
    from hyperface_jax.typing import Update


class Extracted(NamedTuple):
    """The embeddings of a set of images.

    Attributes:
        embeddings: unit rows, float32 ``[n, d]``.
        names: name of each embedding's image, ``[n]``, in the order of the set.
        norms: norms of the embeddings before scaling, float32 ``[n]``.
        skipped: name of each image that could not be used, and the reason.
        num_unaligned: number of images that were cropped to the central square, without landmarks,
            although they do not have the size of aligned images.
    """

    embeddings: np.ndarray
    names: list[str]
    norms: np.ndarray
    skipped: list[tuple[str, str]]
    num_unaligned: int


class _Image(NamedTuple):
    """An image in the form that the recognizer expects, or the reason why there is none."""

    name: str
    pixels: np.ndarray | None
    is_aligned: bool = True
    reason: str = ""


class _Places(NamedTuple):
    """Where the landmarks of an image come from."""

    landmarks: Landmarks | None
    detector: Detector | None


class _Rows(NamedTuple):
    unit: np.ndarray
    norms: np.ndarray


def extract(
    image_set: ImageSet,
    recognizer: Recognizer,
    *,
    batch_size: int = 256,
    landmarks: Landmarks | None = None,
    detector: Detector | None = None,
    flip: bool = False,
    is_strict: bool = False,
    progress: Update | None = None,
) -> Extracted:
    """Embed images.

    With landmarks or a detector that finds them, each face is aligned to 112 x 112 pixels. With neither,
    each image is cropped to its central square. The result is resized to the recognizer's image size.

    Args:
        image_set: the images.
        recognizer: the recognizer.
        batch_size: number of images per step.
        landmarks: landmarks of each image by name, ``[5, 2]`` in pixels; images without landmarks are
            skipped. None crops all images, unless there is a detector.
        detector: finds the landmarks of the main face of each image, in several threads at the same
            time; images without a face are skipped. It is not used if ``landmarks`` are given.
        flip: whether to add the raw embedding of the mirrored image, as is usual in verification.
        is_strict: whether to raise an error if an image cannot be used, instead of skipping it.
        progress: called with the number of images done.

    Returns:
        The embeddings, and the images that were skipped.

    Raises:
        InputError: no image can be used, one image cannot be used and ``is_strict`` is set, or an
            embedding is not finite.
    """
    if batch_size < 1:
        raise InputError(f"`batch_size={batch_size}`: must be 1 or more")
    places = _Places(landmarks, detector)
    prepare = partial(_prepare, image_set, size=recognizer.image_size, places=places)
    parts: list[_Rows] = []
    names: list[str] = []
    skipped: list[tuple[str, str]] = []
    num_done = num_unaligned = 0
    with closing(ahead(prepare, range(len(image_set.names)), 2 * batch_size)) as images:
        while batch := list(islice(images, batch_size)):
            good, rows, bad = _embedded(batch, recognizer, flip)
            if bad and is_strict:
                raise InputError(_reason(bad[0]))
            parts += rows
            names += [image.name for image in good]
            skipped += bad
            num_unaligned += sum(not image.is_aligned for image in good)
            num_done += len(batch)
            if progress is not None:
                progress(num_done)
    if not names:
        raise InputError(_nothing_left(skipped))
    unit, norms = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    return Extracted(unit, names, norms, skipped, num_unaligned)


def _nothing_left(skipped: list[tuple[str, str]]) -> str:
    if not skipped:
        return "images: none; give one or more"
    return f"none of {len(skipped)} images can be used; the first, {_reason(skipped[0])}"


def _reason(skipped: tuple[str, str]) -> str:
    name, reason = skipped
    return f"{one_line(name)}: {reason}"


def _prepare(image_set: ImageSet, index: int, *, size: int, places: _Places) -> _Image:
    name = image_set.names[index]
    try:
        image = decode(image_set.read(index), name=name)
        if places.landmarks is None and places.detector is None:
            square = center_crop(image, min(image.shape[:2]))
            is_aligned = image.shape[:2] in ((TEMPLATE_SIZE,) * 2, (size,) * 2)
            return _Image(name, resize_linear(square, size, size), is_aligned)
        return _Image(name, resize_linear(align(image, _found(image, name, places)), size, size))
    except InputError as error:
        return _Image(name, None, reason=str(error).removeprefix(f"{one_line(name)}: "))


def _found(image: np.ndarray, name: str, places: _Places) -> np.ndarray:
    """Return the landmarks of an image."""
    if places.landmarks is not None:
        if name not in places.landmarks:
            raise InputError("has no landmarks; add them or remove it")
        return places.landmarks[name]
    found = None if places.detector is None else landmarks_of(places.detector, image)
    if found is None:
        raise InputError(NO_FACE)
    return found


def _embedded(
    batch: list[_Image], recognizer: Recognizer, flip: bool
) -> tuple[list[_Image], list[_Rows], list[tuple[str, str]]]:
    """Return the images with an embedding, the embeddings, and the images without one."""
    reasons = {i: image.reason for i, image in enumerate(batch) if image.pixels is None}
    parts = []
    if pixels := [image.pixels for image in batch if image.pixels is not None]:
        raw = _raw(np.stack(pixels), recognizer, flip)
        norms = np.linalg.norm(raw, axis=1)
        places = np.array([i for i in range(len(batch)) if i not in reasons])
        for i in places[~np.isfinite(norms)]:
            name = one_line(batch[i].name)
            raise InputError(f"{name}: its embedding is not finite; check the recognizer's weights")
        reasons |= dict.fromkeys(places[norms == 0].tolist(), "its embedding is zero; remove it")
        raw, norms = raw[norms > 0], norms[norms > 0]
        parts = [_Rows((raw / norms[:, None]).astype(np.float32), norms.astype(np.float32))]
    good = [image for i, image in enumerate(batch) if i not in reasons]
    return good, parts, [(batch[i].name, reasons[i]) for i in sorted(reasons)]


def _raw(pixels: np.ndarray, recognizer: Recognizer, flip: bool) -> np.ndarray:
    raw = recognizer(pixels).astype(np.float64)
    if flip:
        raw += recognizer(np.ascontiguousarray(pixels[:, :, ::-1]))
    return raw
