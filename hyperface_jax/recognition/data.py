"""Batches of training images from grain: the same for any number of workers, and resumed bit for bit.

A batch depends only on the seed and its number. Grain reshuffles the indices in each epoch, and the
random generator of an augmentation is seeded by the position of the image in the run. The whole state of
a :class:`Loader` is therefore the number of the next batch. A run can resume from it with any number of
workers, and with any number of processes as long as the global batch size stays the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import grain
import numpy as np
from absl import flags

from hyperface_jax.errors import InputError
from hyperface_jax.io import images
from hyperface_jax.io.files import one_line
from hyperface_jax.recognition.augment import NO_AUGMENTATION, Augmentation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from numpy.typing import DTypeLike

    from hyperface_jax.io.images import Color
    from hyperface_jax.recognition.labeled import Source

MAX_BAD_SHARE = 0.1
"""Largest share of unreadable images among those drawn; a run with more stops."""
_MIN_DRAWN = 1000
_MAX_TRIES = 20
_MAX_LISTED = 1000
_READ = grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)
_WORKER_BUFFER = 2


class Batch(NamedTuple):
    """One process's images of a batch, with their classes.

    Attributes:
        images: ``[b, h, w, 3]``, float32 in [-1, 1] or uint8, in the requested color order.
        labels: class of each image, int32 ``[b]``.
    """

    images: np.ndarray
    labels: np.ndarray


class _Drawn(NamedTuple):
    """A sample, the index that was drawn first, and the number of bad images before the sample."""

    image: np.ndarray
    label: Any
    first: Any
    num_bad: Any


@dataclass(frozen=True)
class _Read:
    """Reads, resizes and augments one sample. It is pickled and sent to the worker processes."""

    source: Source
    image_size: int
    seed: int
    augmentation: Augmentation
    process: int
    num_processes: int

    def __call__(self, place: int, index: int) -> _Drawn:
        index = int(index)
        image, label, num_bad = self._first_good(index)
        # The global position, so that the number of processes does not change the images.
        rng = np.random.default_rng([self.seed, place * self.num_processes + self.process])
        image = self.augmentation(image, rng)
        return _Drawn(image, np.int32(label), np.int64(index), np.int64(num_bad))

    def _first_good(self, index: int) -> tuple[np.ndarray, int, int]:
        for num_bad, candidate in enumerate(_candidates(index, len(self.source))):
            try:
                image, label = _decoded(self.source, candidate)
            except InputError:
                continue
            return center_square(image, self.image_size), label, num_bad
        # The loader raises the error, because one raised here may not survive the trip from a worker.
        return np.zeros((self.image_size, self.image_size, 3), np.uint8), 0, _MAX_TRIES


def _decoded(source: Source, index: int) -> tuple[np.ndarray, int]:
    image, label = source[index]
    if isinstance(image, bytes):
        image = images.decode(image, name=source.name(index))
    return image, label


def _candidates(index: int, size: int) -> list[int]:
    """List a sample and its replacements, spaced far apart because bad images come in runs."""
    stride = max(int(size * 0.618), 1)
    while math.gcd(stride, size) != 1:
        stride += 1
    return [(index + i * stride) % size for i in range(_MAX_TRIES)]


def center_square(image: np.ndarray, size: int) -> np.ndarray:
    """Cut the largest square from the middle and scale it to ``[size, size, 3]``."""
    return images.resize(images.center_crop(image, min(image.shape[:2])), size)


class Loader:
    """An iterator over the batches of one process, made by :func:`make_loader`.

    Attributes:
        source: the labeled images.
        batch_size: number of images in a batch of this process.
        steps_per_epoch: number of batches in an epoch.
        num_steps: total number of batches; None if the iterator is endless.
    """

    def __init__(
        self,
        source: Source,
        batches: grain.MapDataset,
        *,
        settings: dict[str, Any],
        batch_size: int,
        num_steps: int | None,
        color: Color,
        dtype: DTypeLike,
        num_workers: int,
    ) -> None:
        self.source = source
        self.batch_size = batch_size
        self.steps_per_epoch: int = len(source) // settings["global_batch_size"]
        self.num_steps = num_steps
        self._batches = batches
        self._settings = settings
        self._color: Color = color
        self._dtype = np.dtype(dtype)
        self._num_workers = num_workers
        self._iterator: Any = None
        self._step = self._num_drawn = self._num_bad = 0
        self._bad: set[int] = set()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """Return the next batch.

        Raises:
            InputError: more than a tenth of the images drawn cannot be read.
            StopIteration: the requested epochs or steps are done.
        """
        if self.num_steps is not None and self._step >= self.num_steps:
            raise StopIteration
        if self._iterator is None:
            self._iterator = self._started()
        drawn = next(self._iterator)
        self._step += 1
        self._note(drawn)
        return self._finished(drawn)

    def _started(self) -> Any:
        dataset = self._batches[self._step :].to_iter_dataset(_READ)
        if self._num_workers:
            if not flags.FLAGS.is_parsed():  # Grain reads absl flags when it starts its workers.
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(self._num_workers, _WORKER_BUFFER)
            )
        return iter(dataset)

    def _finished(self, drawn: _Drawn) -> Batch:
        if self._dtype == np.uint8:
            pixels = np.array(images.in_color(drawn.image, self._color), order="C")
        else:
            pixels = np.asarray(images.normalize(drawn.image, self._color), order="C")
        # Copy the labels (the pixels are copied above) to free the worker's scarce shared memory.
        return Batch(pixels, np.array(drawn.label))

    def _note(self, drawn: _Drawn) -> None:
        """Count the bad images, and raise an error if there are too many."""
        self._num_drawn += len(drawn.first) + int(drawn.num_bad.sum())
        self._num_bad += int(drawn.num_bad.sum())
        for i in np.flatnonzero(drawn.num_bad):
            tried = _candidates(int(drawn.first[i]), len(self.source))[: drawn.num_bad[i]]
            self._bad.update(tried[: _MAX_LISTED - len(self._bad)])
        enough = min(_MIN_DRAWN, self.steps_per_epoch * self.batch_size)
        many = self._num_drawn >= enough and self._num_bad > MAX_BAD_SHARE * self._num_drawn
        if many or np.any(drawn.num_bad == _MAX_TRIES):
            raise InputError(
                f"{self._num_bad} of {self._num_drawn} images cannot be read, such as: "
                f"{self.skipped()[0]}"
            )

    @property
    def num_skipped(self) -> int:
        """Number of times that a bad image was drawn and replaced by another."""
        return self._num_bad

    def skipped(self) -> list[str]:
        """Say what is wrong with each bad image that this process has drawn, at most 1000 of them."""
        return [_fault(self.source, index) for index in sorted(self._bad)]

    def get_state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, a small dictionary of numbers, strings and a list.

        Everything in it except the record of bad images is the same on every process.
        """
        account = {"num_drawn": self._num_drawn, "num_bad": self._num_bad, "bad": sorted(self._bad)}
        return {"step": self._step, **self._settings, **account}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Resume from a state, with the batch that comes after it.

        Args:
            state: from :meth:`get_state`, on this or another process, with any number of workers.

        Raises:
            InputError: the state belongs to other data, another seed or another batch size.
        """
        for field, value in self._settings.items():
            if state.get(field) != value:
                raise InputError(
                    f"data state: {field} was {state.get(field)} and is {value} now; resume with "
                    "the same data, seed and batch size, or start a new run"
                )
        self.seek(int(state["step"]))
        self._num_drawn, self._num_bad = int(state["num_drawn"]), int(state["num_bad"])
        self._bad = set(map(int, state["bad"]))

    def seek(self, step: int) -> None:
        """Continue with batch ``step``, counted from 0."""
        if step != self._step:
            self.close()
            self._step = step

    def close(self) -> None:
        """Stop the workers; the next batch starts them again."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None


def _fault(source: Source, index: int) -> str:
    try:
        _decoded(source, index)
    except InputError as error:
        return str(error)
    return f"{one_line(source.name(index))}: could not be read before, but can be now"


def make_loader(
    source: Source,
    *,
    batch_size: int,
    image_size: int = images.TEMPLATE_SIZE,
    seed: int = 0,
    augmentation: Augmentation = NO_AUGMENTATION,
    color: Color = "rgb",
    dtype: DTypeLike = np.float32,
    num_epochs: int | None = None,
    num_steps: int | None = None,
    num_workers: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> Loader:
    """Shuffle, read, augment and batch a source.

    Each epoch has a new order, and drops the few images at its end that do not fill a global batch. An
    image that cannot be read is replaced by another one, which is always the same.

    Args:
        source: the labeled images, the same on every process.
        batch_size: number of images in a batch of this process.
        image_size: height and width of the images in pixels; others are cropped to a square and resized.
        seed: seed of the order and the augmentations, below 2^32.
        augmentation: augmentation that is applied to each image, with new draws in each epoch.
        color: channel order that the network expects.
        dtype: float32 for images in [-1, 1], or uint8 for a quarter of the bytes, to be passed to
            :func:`hyperface_jax.io.images.normalize` on the device.
        num_epochs: number of epochs; None sets no limit.
        num_steps: number of batches; None sets no limit.
        num_workers: number of processes that read images; 0 reads in threads of this process. A script
            that uses them needs the usual ``if __name__ == "__main__":``.
        shard: index of this process, and the number of processes.

    Returns:
        The iterator.

    Raises:
        InputError: a setting is out of range, the source has only one class, or it has fewer images
            than one batch.
    """
    process, num_processes = shard
    counts = {"batch_size": batch_size, "image_size": image_size}
    counts |= {"num_epochs": num_epochs, "num_steps": num_steps}
    _check_settings(counts, seed=seed, dtype=dtype, shard=shard, num_workers=num_workers)
    images.in_color(np.zeros((1, 3)), color)
    _check_source(source, batch_size, num_processes)
    global_batch_size = batch_size * num_processes
    num_used = len(source) // global_batch_size * global_batch_size
    order = grain.MapDataset.range(len(source)).shuffle(seed=seed)[:num_used]
    order = order[process::num_processes].repeat(num_epochs)
    read = _Read(source, image_size, seed, augmentation, process, num_processes)
    batches = order.map_with_index(read).batch(batch_size, drop_remainder=True)
    if num_steps is not None:
        batches = batches[:num_steps]
    is_endless = num_steps is None and num_epochs is None
    return Loader(
        source,
        batches,
        settings={
            "seed": seed,
            "global_batch_size": global_batch_size,
            "num_images": len(source),
            "fingerprint": source.fingerprint,
        },
        batch_size=batch_size,
        num_steps=None if is_endless else len(batches),
        color=color,
        dtype=dtype,
        num_workers=num_workers,
    )


def _check_settings(
    counts: dict[str, int | None],
    *,
    seed: int,
    dtype: DTypeLike,
    shard: tuple[int, int],
    num_workers: int,
) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"{name}: {count}; use at least 1")
    if not 0 <= seed < 1 << 32:
        raise InputError(f"seed: {seed}; use 0 to 2^32 - 1")
    if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.uint8)):
        raise InputError(f"dtype: {np.dtype(dtype)}; use float32 or uint8")
    if not 0 <= shard[0] < shard[1]:
        raise InputError(f"shard: process {shard[0]} of {shard[1]}; count the processes from 0")
    if num_workers < 0:
        raise InputError(f"num_workers: {num_workers}; use 0 or more")


def _check_source(source: Source, batch_size: int, num_processes: int) -> None:
    if source.num_classes < 2:
        raise InputError(
            f"{one_line(source.name(0))} and the other images are of one identity; "
            "training needs two or more"
        )
    needed = batch_size * num_processes
    if len(source) < needed:
        raise InputError(
            f"batch_size: {batch_size} on {num_processes} processes needs {needed} images, but "
            f"there are {len(source)}; lower the batch size"
        )
