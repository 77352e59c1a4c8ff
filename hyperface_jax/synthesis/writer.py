"""Writing a data set shard by shard: a shard is whole or it is not there, whoever is killed when.

Files of a shard under way have hidden names that follow from its number. Whoever holds its lock next
overwrites or removes them.
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
from hyperface_jax.io.files import one_line
from hyperface_jax.synthesis.manifest import ImageFigures, ManifestRows, Row
from hyperface_jax.synthesis.shards import (
    DataSet,
    ShardImages,
    StagedFile,
    locked,
    shard_name,
    sync_folder,
    writing,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Suffix = Literal["png", "jpg", "webp"]

_BLOCK = 512
_RECORD = 20 * _BLOCK
_PAGE = 4096
"""Bytes that file systems hand out at once."""
_OVERHEAD = _PAGE // 2
"""Bytes an image takes besides its own: headers in a .tar file, or the rest of a page on disc."""


class _Images(Protocol):
    """Where the images of one shard go."""

    def add(self, identity: int, sample: int, image: bytes, suffix: str) -> str:
        """Write an image and return its key."""
        ...

    def finish(self) -> None: ...

    def publish(self) -> None: ...

    def discard(self) -> None: ...


class _TarImages:
    """A .tar file in WebDataset's form, the same bytes for the same images.

    The headers are written here since ``tarfile`` keeps a kilobyte of each member in memory.
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
    """One folder an identity. The files wait in a hidden folder and move when the shard is whole."""

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
        """Remove what is left of the shard; images that moved may be dropped the next time."""
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
    """Yield those of the images that are there, in format "folder"."""
    for identity, sample in zip(images.ids.tolist(), images.samples.tolist(), strict=True):
        for suffix in get_args(Suffix):
            path = root / f"{identity:06d}" / f"{sample:04d}.{suffix}"
            if path.exists():
                yield path


class ShardWriter:
    """The images of one shard, in order; all of them or none. :func:`try_claim` makes it.

    It is a context manager that publishes the shard if the block succeeds and removes every trace if
    it raises.

    Attributes:
        shard: its number.
        images: those to :meth:`add` or :meth:`reject`, in this order.
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
            identity: of the next image of the shard.
            sample: of the next image of the shard.
            image: its file.
            suffix: of its format.
            figures: for the manifest.
            original: file of the image it was cut out of, in the same format; needed if the data set
                has originals.

        Raises:
            InputError: the disc is full or cannot be written.
            ValueError: another image is the next one, or the original does not fit the data set.
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
        """Note that the next image of the shard is dropped.

        Raises:
            ValueError: another image is the next one.
        """
        self._check_next(identity, sample)
        self._append(identity, sample, None, figures)

    def _check_next(self, identity: int, sample: int) -> None:
        ids, samples = self.images
        if self._count == len(ids):
            raise ValueError(f"shard {self.shard}: all of its {len(ids)} images are written")
        expected = int(ids[self._count]), int(samples[self._count])
        if (identity, sample) != expected:
            raise ValueError(
                f"shard {self.shard}: image {(identity, sample)} comes where {expected} is the next"
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
                f"shard {self.shard}: {self._count} of {len(self.images.ids)} images were written"
            )
        for store in self._stores:
            store.finish()
        part = StagedFile(self._data_set.part(self.shard))
        try:
            part.write(self._rows.parquet(self._data_set.record()))
            part.finish()
            for store in self._stores:
                store.publish()
            # The manifest comes last: it says that the shard is finished.
            part.publish()
        finally:
            part.discard()

    def _discard(self) -> None:
        for store in self._stores:
            store.discard()


def try_claim(data_set: DataSet, shard: int) -> ShardWriter | None:
    """Take a shard to write.

    Args:
        data_set: the data set, claimed.
        shard: number of the shard.

    Returns:
        Its writer, which holds the lock of the shard until its ``with`` block ends; None if the shard
        is finished or another worker writes it.

    Raises:
        InputError: the lock cannot be taken.
    """
    if data_set.is_finished(shard):
        return None
    with contextlib.ExitStack() as stack:
        is_held = stack.enter_context(locked(data_set.lock_file(shard_name(shard))))
        # Another worker may have finished it since.
        if not is_held or data_set.is_finished(shard):
            return None
        return ShardWriter(data_set, shard, stack.pop_all())


class ShardCounts(NamedTuple):
    """How many shards a worker wrote, found finished, and left to others that held them."""

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
    """Write shards, passing over those that are finished or held by another worker.

    Args:
        data_set: the data set, claimed.
        order: numbers of the shards, such as ``plan.order(rank, world)``.
        write_one: adds or rejects ``writer.images``, all of them in order.
        bytes_per_image: size of an image on disc, a guess until a shard is there to measure.

    Returns:
        What became of the shards.

    Raises:
        InputError: the disc is full or will be; whatever ``write_one`` raises.
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
    """Refuse to go on if the images left will clearly not fit on the disc.

    Args:
        data_set: the data set, claimed.
        bytes_per_image: size of an image, originals included, used if no shard is finished yet;
            without either nothing is checked.

    Raises:
        InputError: less than nine tenths of the space needed is free.
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
    # Shards differ in size, and a run that may just fit is worth trying: it resumes.
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
