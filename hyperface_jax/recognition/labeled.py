"""Labeled face images at random access: what sources are, and the one of arrays.

Every source is a sequence of :class:`Sample`. It keeps its labels as 0..C-1 and goes to worker processes
by pickle.
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
    "expected a folder with one sub-folder of images an identity, .tar shards with KEY.jpg and KEY.cls"
    " (or a pattern such as 'train-{000..012}.tar'), .array_record files, or a .rec file with its .idx"
)
"""What training data on disk looks like."""


class Sample(NamedTuple):
    """An image, encoded or as uint8 RGB ``[h, w, 3]``, and its class, 0..C-1."""

    image: bytes | np.ndarray
    label: int


class Source(Protocol):
    """Labeled images at random access.

    Attributes:
        labels: int32 ``[n]`` in 0..C-1, each class used.
        classes: what the classes are called in the files, ``[C]``, sorted.
        fingerprint: the same for the same names, sizes and labels, wherever they lie.
        skipped: the files that are not read, and why.
    """

    labels: np.ndarray
    classes: np.ndarray
    fingerprint: str
    skipped: Sequence[Skipped]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...

    def name(self, index: int) -> str:
        """Return what reports call a sample."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of identities, C."""
        ...


class LabeledSource:
    """What the sources share: classes without gaps, and the fingerprint.

    Args:
        path: what messages call the source.
        labels: identity of each image, ``[n]``: whole numbers from 0, or names.
        content: further arrays that tell one source from another.
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
        """Leave out what a worker process has no use for."""
        return {name: value for name, value in self.__dict__.items() if name != "skipped"}

    @property
    def num_classes(self) -> int:
        """Number of identities, C."""
        return len(self.classes)


class ArraySource(LabeledSource):
    """Images in memory, or in a memory map.

    Args:
        images: uint8 RGB, ``[n, h, w, 3]``.
        labels: identity of each, ``[n]``: whole numbers from 0, or names.
        name: what messages call the source.

    Raises:
        InputError: the arrays are of other shapes or types, or do not fit together.
    """

    def __init__(self, images: np.ndarray, labels: ArrayLike, *, name: str = "images") -> None:
        labels = np.asarray(labels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise InputError(
                f"{name}: {images.dtype} of shape {images.shape}; give uint8 RGB, [n, h, w, 3]"
            )
        if labels.shape != images.shape[:1]:
            raise InputError(
                f"{name}: labels of shape {labels.shape} for {len(images)} images; give one each"
            )
        self._images, self._name = images, name
        super().__init__(name, labels, images)

    def name(self, index: int) -> str:
        """Return the name of the source and the number of an image."""
        return f"{self._name}/{index}"

    def __getitem__(self, index: int) -> Sample:
        """Return an image as it is."""
        return Sample(self._images[index], int(self.labels[index]))


def summary(source: Source) -> dict[str, int]:
    """Count what a report on training data names.

    Returns:
        The images, the identities, and the identities with one image only, which show a network no
        variation within an identity.
    """
    counts = np.bincount(source.labels)
    return {
        "num_images": len(source),
        "num_classes": source.num_classes,
        "num_single_image_classes": int(np.sum(counts == 1)),
    }
