"""Aligned faces from photographs: detection, landmarks and a warp to ArcFace's template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from hyperface_jax.errors import InputError
from hyperface_jax.faces.detectors import landmarks_of
from hyperface_jax.faces.threads import ahead
from hyperface_jax.io.files import one_line
from hyperface_jax.io.images import TEMPLATE_SIZE, align, decode

if TYPE_CHECKING:
    import numpy as np

    from hyperface_jax.faces.detectors import Detector
    from hyperface_jax.faces.image_sets import ImageSet

NO_FACE = "no face was found"
_DEPTH = 64


class AlignedFace(NamedTuple):
    """The main face of an image, or the reason why there is none.

    Attributes:
        number: number of the image in its set.
        pixels: uint8 RGB, ``[size, size, 3]``, or None.
        landmarks: float64 ``[5, 2]`` in pixels of the image, or None.
        reason: why the image cannot be read or shows no face; empty if it does.
    """

    number: int
    pixels: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    reason: str = ""


def aligned_faces(
    image_set: ImageSet,
    detector: Detector,
    *,
    size: int = TEMPLATE_SIZE,
    indices: Sequence[int] | None = None,
) -> Iterator[AlignedFace]:
    """Find and align the main face of each image, in as many threads as there are cores.

    Args:
        image_set: the images.
        detector: a detector that threads may share, such as :class:`.ScrfdDetector`. Its published
            networks take one image at a time.
        size: height and width of the faces in pixels.
        indices: numbers of the images; None takes all.

    Yields:
        One result for each image, in their order.
    """
    chosen = range(len(image_set.names)) if indices is None else indices
    with closing(ahead(partial(_aligned, image_set, detector, size), chosen, _DEPTH)) as faces:
        yield from faces


def _aligned(image_set: ImageSet, detector: Detector, size: int, index: int) -> AlignedFace:
    name = image_set.names[index]
    try:
        image = decode(image_set.read(index), name=name)
        landmarks = landmarks_of(detector, image)
        if landmarks is None:
            return AlignedFace(index, reason=NO_FACE)
        return AlignedFace(index, align(image, landmarks, size), landmarks)
    except InputError as error:
        return AlignedFace(index, reason=str(error).removeprefix(f"{one_line(name)}: "))
