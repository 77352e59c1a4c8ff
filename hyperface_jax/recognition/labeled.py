"""Labeled face images with random access: the interface of a source, and a source of arrays.

Every source is a sequence of :class:`Sample`. Its labels are numbered 0..C-1, and it can be pickled for
worker processes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line
from hyperface_jax.io.image_folders import Skipped, skipped_in_brackets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from hyperface_jax.io.files import StrPath

EXPECTED = (
    "expected a folder with one sub-folder of images for each identity, .tar shards with KEY.jpg and "
    "KEY.cls (or a pattern such as 'train-{000..012}.tar'), .array_record files, a .rec file with its "
    ".idx, or an .lmdb"
)
"""Layouts of training data that can be read, for error messages."""


class Sample(NamedTuple):
    """An image, either encoded or as uint8 RGB ``[h, w, 3]``, and its class in 0..C-1."""

    image: bytes | np.ndarray
    label: int


class Source(Protocol):
    """Labeled images with random access.

    Attributes:
        labels: class of each image, int32 ``[n]`` in 0..C-1, with at least one image in each class.
        classes: names of the classes in the files, ``[C]``, sorted.
        fingerprint: a hash of the names, sizes and labels that does not depend on their location.
        skipped: files that are ignored, with the reason for each.
    """

    labels: np.ndarray
    classes: np.ndarray
    fingerprint: str
    skipped: Sequence[Skipped]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...

    def name(self, index: int) -> str:
        """Return the name of a sample in messages."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of identities, C."""
        ...


class LabeledSource:
    """The base of all sources, which numbers the classes without gaps and computes the fingerprint.

    Args:
        path: name of the source in messages.
        labels: identity of each image, ``[n]``, as whole numbers from 0 or as names.
        content: further arrays that go into the fingerprint.
    """

    skipped: Sequence[Skipped] = ()

    def __init__(self, path: StrPath, labels: np.ndarray, *content: np.ndarray) -> None:
        if not len(labels):
            found = skipped_in_brackets(self.skipped)
            raise InputError(f"{one_line(path)}: no images{found}; {EXPECTED}")
        if labels.dtype.kind == "i" and labels.min() < 0:
            raise InputError(
                f"{one_line(path)}: label {labels.min()} of sample {labels.argmin()} is negative; "
                "number the identities from 0"
            )
        self.classes, inverse = np.unique(labels, return_inverse=True)
        self.labels = inverse.astype(np.int32)
        digest = hashlib.sha256(type(self).__name__.encode())
        for array in (self.labels, *content):
            digest.update(np.ascontiguousarray(array).tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the list of skipped files, which worker processes do not need."""
        return {name: value for name, value in self.__dict__.items() if name != "skipped"}

    @property
    def num_classes(self) -> int:
        """Number of identities, C."""
        return len(self.classes)


class ArraySource(LabeledSource):
    """A source of images in memory or in a memory map.

    Args:
        images: uint8 RGB, ``[n, h, w, 3]``.
        labels: identity of each image, ``[n]``, as whole numbers from 0 or as names.
        name: name of the source in messages.

    Raises:
        InputError: an array has the wrong shape or type, or the numbers of images and labels differ.
    """

    def __init__(self, images: np.ndarray, labels: ArrayLike, *, name: str = "images") -> None:
        labels = np.asarray(labels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise InputError(
                f"{name}: {images.dtype} of shape {images.shape}; give uint8 RGB, [n, h, w, 3]"
            )
        if labels.shape != images.shape[:1]:
            raise InputError(
                f"{name}: labels of shape {labels.shape} for {len(images)} images; give one per image"
            )
        self._images, self._name = images, name
        super().__init__(name, labels, images)

    def name(self, index: int) -> str:
        """Return the name of an image, made of the source's name and the image's number."""
        return f"{self._name}/{index}"

    def __getitem__(self, index: int) -> Sample:
        """Return an image unchanged, with its class."""
        return Sample(self._images[index], int(self.labels[index]))


def summary(source: Source) -> dict[str, int]:
    """Count the images and identities of a source, for reports.

    Returns:
        The numbers of images, of identities, and of identities with a single image, from which a
        network cannot learn how images of one identity vary.
    """
    counts = np.bincount(source.labels)
    return {
        "num_images": len(source),
        "num_classes": source.num_classes,
        "num_single_image_classes": int(np.sum(counts == 1)),
    }
