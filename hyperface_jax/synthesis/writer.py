"""Writing of a data set shard by shard, where each shard is either complete or absent.

This holds even if workers are killed. While a shard is being written, its files have hidden names that
depend only on its number, and the next worker to hold its lock overwrites or removes them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line, writing
from hyperface_jax.synthesis.manifest import ImageFigures, ManifestRows, Row
from hyperface_jax.synthesis.shards import (
    DataSet,
    ShardImages,
    StagedFile,
    locked,
    shard_name,
    sync_folder,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Suffix = Literal["png", "jpg", "webp"]

_BLOCK = 512
_RECORD = 20 * _BLOCK
_PAGE = 4096
"""Allocation unit of file systems in bytes."""
_OVERHEAD = _PAGE // 2
"""Extra bytes per image, for headers in a .tar file or the unused rest of a page on disk."""


class _Images(Protocol):
    """Storage for the images of one shard."""

    def add(self, identity: int, sample: int, image: bytes, suffix: str) -> str:
        """Write an image and return its key."""
        ...

    def finish(self) -> None: ...

    def publish(self) -> None: ...

    def discard(self) -> None: ...


class _TarImages:
    """A .tar file in WebDataset's layout, with the same bytes for the same images.

    The headers are written here, because ``tarfile`` keeps a kilobyte in memory for each member.
    """

    def __init__(self, root: Path, shard: int) -> None:
        self._file = StagedFile(root / f"{shard_name(shard)}.tar")
        self._size = 0

    def add(self, identity: int, sample: int, image: bytes, suffix: str) -> str:
        key = f"{identity:08d}_{sample:05d}"
        self._member(f"{key}.{suffix}", image)
        self._member(f"{key}.cls", str(identity).encode())
        return key

    def _member(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        padding = bytes(-len(content) % _BLOCK)
        for piece in (info.tobuf(tarfile.USTAR_FORMAT), content, padding):
            self._file.write(piece)
            self._size += len(piece)

    def finish(self) -> None:
        end = 2 * _BLOCK
        self._file.write(bytes(end + -(self._size + end) % _RECORD))
        self._file.finish()

    def publish(self) -> None:
        self._file.publish()

    def discard(self) -> None:
        self._file.discard()


class _FolderImages:
    """One folder for each identity.

    The files are written to a hidden folder, and moved when the shard is complete.
    """

    def __init__(self, root: Path, shard: int, images: ShardImages) -> None:
        self._root, self._images = root, images
        self._staging = root / f".{shard_name(shard)}"
        self._clear()
        with writing(self._staging):
            self._staging.mkdir()

    def add(self, identity: int, sample: int, image: bytes, suffix: str) -> str:
        key = f"{identity:06d}/{sample:04d}"
        path = self._staging / f"{key.replace('/', '_')}.{suffix}"
        with writing(path), path.open("wb") as file:
            file.write(image)
            file.flush()
            os.fsync(file.fileno())
        return key

    def finish(self) -> None:
        pass

    def publish(self) -> None:
        with writing(self._root):
            for staged in sorted(self._staging.iterdir()):
                identity, _, name = staged.name.partition("_")
                (self._root / identity).mkdir(exist_ok=True)
                staged.replace(self._root / identity / name)
            self._staging.rmdir()
        for folder in self._folders():
            sync_folder(folder)
        sync_folder(self._root)

    def discard(self) -> None:
        with contextlib.suppress(InputError):
            self._clear()

    def _clear(self) -> None:
        """Remove what an earlier try left, even moved images, since the next one may drop them."""
        with writing(self._root):
            if self._staging.exists():
                shutil.rmtree(self._staging)
            for file in image_files(self._root, self._images):
                file.unlink()

    def _folders(self) -> Iterator[Path]:
        for identity in range(int(self._images.ids[0]), int(self._images.ids[-1]) + 1):
            if (folder := self._root / f"{identity:06d}").exists():
                yield folder


def image_files(root: Path, images: ShardImages) -> Iterator[Path]:
    """Yield the paths of those images that exist, in format "folder"."""
    for identity, sample in zip(images.ids.tolist(), images.samples.tolist(), strict=True):
        for suffix in get_args(Suffix):
            path = root / f"{identity:06d}" / f"{sample:04d}.{suffix}"
            if path.exists():
                yield path


class ShardWriter:
    """A writer for the images of one shard, made by :func:`try_claim`.

    It is a context manager that publishes the whole shard if the block succeeds, and removes all of its
    files if the block raises an error.

    Attributes:
        shard: number of the shard.
        images: images that must be passed to :meth:`add` or :meth:`reject`, in this order.
    """

    def __init__(self, data_set: DataSet, shard: int, lock: contextlib.ExitStack) -> None:
        self.shard = shard
        self.images = data_set.plan.images(shard)
        self._data_set, self._lock, self._count = data_set, lock, 0
        self._stores: list[_Images] = []

    def __enter__(self) -> Self:
        try:
            self._rows = ManifestRows()
            for root in self._data_set.roots:
                self._stores.append(self._store(root))
        except BaseException:
            self._discard()
            self._lock.close()
            raise
        return self

    def _store(self, root: Path) -> _Images:
        if self._data_set.format == "webdataset":
            return _TarImages(root, self.shard)
        return _FolderImages(root, self.shard, self.images)

    def add(
        self,
        *,
        identity: int,
        sample: int,
        image: bytes,
        suffix: Suffix,
        figures: ImageFigures,
        original: bytes | None = None,
    ) -> None:
        """Write an image.

        Args:
            identity: identity of the image, which must be the next one of the shard.
            sample: number of the image within its identity.
            image: content of the image file.
            suffix: suffix of the image file.
            figures: figures for the manifest.
            original: content of the file of the image before cropping, in the same format; required
                exactly if the data set keeps originals.

        Raises:
            InputError: the disk is full or cannot be written.
            ValueError: this is not the next image, the suffix is unknown, or ``original`` is missing
                or not expected.
        """
        self._check_next(identity, sample)
        files = [image] if original is None else [image, original]
        if suffix not in get_args(Suffix) or len(files) != len(self._stores):
            raise ValueError(
                f"suffix {suffix!r}, {len(files)} files for {len(self._stores)} places"
            )
        keys = [
            store.add(identity, sample, file, suffix)
            for store, file in zip(self._stores, files, strict=True)
        ]
        self._append(identity, sample, keys[0], figures)

    def reject(self, *, identity: int, sample: int, figures: ImageFigures) -> None:
        """Record that the next image of the shard is dropped.

        Raises:
            ValueError: this is not the next image.
        """
        self._check_next(identity, sample)
        self._append(identity, sample, None, figures)

    def _check_next(self, identity: int, sample: int) -> None:
        ids, samples = self.images
        if self._count == len(ids):
            raise ValueError(f"shard {self.shard}: all {len(ids)} images have already been written")
        expected = int(ids[self._count]), int(samples[self._count])
        if (identity, sample) != expected:
            raise ValueError(
                f"shard {self.shard}: got image {(identity, sample)}, but {expected} is the next"
            )

    def _append(self, identity: int, sample: int, key: str | None, figures: ImageFigures) -> None:
        self._rows.append(Row(identity, sample, self.shard, key, *figures, key is not None))
        self._count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._commit()
        except BaseException:
            self._discard()
            raise
        else:
            if error is not None:
                self._discard()
        finally:
            self._lock.close()

    def _commit(self) -> None:
        if self._count != len(self.images.ids):
            raise ValueError(
                f"shard {self.shard}: only {self._count} of {len(self.images.ids)} images were written"
            )
        for store in self._stores:
            store.finish()
        part = StagedFile(self._data_set.part(self.shard))
        try:
            part.write(self._rows.parquet(self._data_set.record()))
            part.finish()
            for store in self._stores:
                store.publish()
            # The manifest comes last, because it marks the shard as finished.
            part.publish()
        finally:
            part.discard()

    def _discard(self) -> None:
        for store in self._stores:
            store.discard()


def try_claim(data_set: DataSet, shard: int) -> ShardWriter | None:
    """Claim a shard for writing, if it is free.

    Args:
        data_set: the data set, which must be claimed.
        shard: number of the shard.

    Returns:
        A writer, which holds the lock of the shard until its ``with`` block ends; None if the shard is
        finished or another worker is writing it.

    Raises:
        InputError: the lock cannot be taken.
    """
    if data_set.is_finished(shard):
        return None
    with contextlib.ExitStack() as stack:
        is_held = stack.enter_context(locked(data_set.lock_file(shard_name(shard))))
        # Another worker may have finished it in the meantime.
        if not is_held or data_set.is_finished(shard):
            return None
        return ShardWriter(data_set, shard, stack.pop_all())


class ShardCounts(NamedTuple):
    """The numbers of shards that a worker wrote, found finished, and left to other workers."""

    num_written: int
    num_finished: int
    num_held: int


def run_shards(
    data_set: DataSet,
    order: Iterable[int],
    write_one: Callable[[ShardWriter], None],
    *,
    bytes_per_image: float | None = None,
) -> ShardCounts:
    """Write shards, skipping those that are finished or being written by another worker.

    Args:
        data_set: the data set, which must be claimed.
        order: numbers of the shards, such as ``plan.order(rank, world)``.
        write_one: adds or rejects all of ``writer.images``, in order; its errors are passed on.
        bytes_per_image: estimated size of an image on disk, used until a shard can be measured.

    Returns:
        The numbers of shards by outcome.

    Raises:
        InputError: the disk is full, or too small for the rest of the images.
    """
    check_space(data_set, bytes_per_image)
    num_written = num_finished = num_held = 0
    for shard in order:
        writer = try_claim(data_set, shard)
        if writer is not None:
            with writer:
                write_one(writer)
            num_written += 1
            if num_written == 1:
                check_space(data_set)
        elif data_set.is_finished(shard):
            num_finished += 1
        else:
            num_held += 1
    return ShardCounts(num_written, num_finished, num_held)


def check_space(data_set: DataSet, bytes_per_image: float | None = None) -> None:
    """Raise an error if the remaining images will clearly not fit on the disk.

    Args:
        data_set: the data set, which must be claimed.
        bytes_per_image: estimated size of an image including its original, used if no shard is finished
            yet; None then skips the check.

    Raises:
        InputError: less than nine tenths of the required space is free.
    """
    plan = data_set.plan
    is_finished = [data_set.is_finished(shard) for shard in range(plan.num_shards)]
    num_left = sum(plan.num_images_of(s) for s, done in enumerate(is_finished) if not done)
    if any(is_finished):
        shard = is_finished.index(True)
        size = _size_on_disc(data_set, shard) / plan.num_images_of(shard)
    elif bytes_per_image is not None:
        size = bytes_per_image + _OVERHEAD
    else:
        return
    free, needed = shutil.disk_usage(data_set.roots[0]).free, num_left * size
    # Shards differ in size, and a run that may just fit is worth trying, since it can be resumed.
    if free < 0.9 * needed:
        raise InputError(
            f"{one_line(data_set.path)}: {free / 2**20:.0f} MiB are free and the {num_left} images left "
            f"need about {needed / 2**20:.0f} MiB; free some space or choose another folder"
        )


def _size_on_disc(data_set: DataSet, shard: int) -> int:
    files = [data_set.part(shard)]
    for root in data_set.roots:
        if data_set.format == "webdataset":
            files.append(root / f"{shard_name(shard)}.tar")
        else:
            files += image_files(root, data_set.plan.images(shard))
    return sum(-(-file.stat().st_size // _PAGE) * _PAGE for file in files)
