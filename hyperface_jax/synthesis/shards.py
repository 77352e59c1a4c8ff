"""Shards of a data set: the images in each, the workers that write them, and their files.

dataset.json                    settings of the data set, which must be the same for all workers
shards/shard-000000.tar         images and labels, in format "webdataset"
images/000000/0000.png          identity and sample, in format "folder"
originals/                      images before cropping, in the same format, if they are kept
manifest/shard-000000.parquet   one row per image; written last, so it marks a finished shard
manifest.parquet                the rows of all shards, once every shard is finished
neighbors.npy                   nearest other identity of each, if faces are led away from it
.locks/                         one empty file per shard, never removed, for the kernel's locks

Many workers share the folder. The lock of a shard keeps two workers from writing it at the same time. It
is released when the process that holds it ends, so a killed worker does not block the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.claims import claim
from hyperface_jax.io.files import one_line, read_json, writing

Format = Literal["webdataset", "folder"]

SETTINGS = "dataset.json"
MANIFEST = "manifest.parquet"
_LOCKS = ".locks"


class ShardImages(NamedTuple):
    """The identities and samples of the images of a shard, int64 ``[n]`` each."""

    ids: np.ndarray
    samples: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """The assignment of images to shards.

    Images are numbered by identity, then by sample: image g is sample ``g % images_per_id`` of identity
    ``g // images_per_id``. Each shard holds ``shard_size`` consecutive images.

    Args:
        num_ids: number of identities.
        images_per_id: number of images for each identity.
        shard_size: number of images in each shard; the last may hold fewer.

    Raises:
        InputError: a number is below 1.

    Examples:
        >>> plan = ShardPlan(num_ids=3, images_per_id=2, shard_size=4)
        >>> plan.num_shards, plan.images(1).ids.tolist(), plan.images(1).samples.tolist()
        (2, [2, 2], [0, 1])
    """

    num_ids: int
    images_per_id: int
    shard_size: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise InputError(f"{name}={value}: must be 1 or more")

    @property
    def num_images(self) -> int:
        """Number of images in the data set."""
        return self.num_ids * self.images_per_id

    @property
    def num_shards(self) -> int:
        """Number of shards in the data set."""
        return -(-self.num_images // self.shard_size)

    def num_images_of(self, shard: int) -> int:
        """Return the number of images in a shard."""
        return min(self.shard_size, self.num_images - shard * self.shard_size)

    def images(self, shard: int) -> ShardImages:
        """Return the images of a shard in the order in which they are written.

        Raises:
            IndexError: there is no such shard.
        """
        if not 0 <= shard < self.num_shards:
            raise IndexError(f"shard {shard} of {self.num_shards}")
        start = shard * self.shard_size
        ids, samples = np.divmod(
            np.arange(start, start + self.num_images_of(shard)), self.images_per_id
        )
        return ShardImages(ids, samples)

    def shards_of(self, rank: int, world: int) -> range:
        """Return the shards of one of ``world`` workers, which are every ``world``-th one."""
        return range(rank, self.num_shards, world)

    def order(self, rank: int, world: int) -> list[int]:
        """Return all shards, starting with a worker's own, then those of the workers after it.

        A worker that has finished its own shards takes over those of others, so no shard has to wait
        for a worker that was killed or never started.
        """
        ranks = ((rank + offset) % world for offset in range(world))
        return [shard for other in ranks for shard in self.shards_of(other, world)]


class Worker(NamedTuple):
    """The number of this worker, counted from 0, and the number of all workers."""

    rank: int
    world: int


def rank_and_world(environ: Mapping[str, str]) -> Worker:
    """Return which worker this process is, from the environment variables of torchrun or Slurm.

    ``RANK`` and ``WORLD_SIZE`` take precedence, then a Slurm array, then the tasks of a Slurm job.

    Args:
        environ: the environment variables, such as ``os.environ``.

    Returns:
        The worker; ``(0, 1)`` outside of torchrun and Slurm.

    Raises:
        InputError: a variable is missing or invalid.

    Examples:
        >>> rank_and_world({"RANK": "1", "WORLD_SIZE": "4"})
        Worker(rank=1, world=4)
    """
    if "RANK" in environ:
        return _worker("RANK", _number(environ, "RANK"), _number(environ, "WORLD_SIZE"))
    if "SLURM_ARRAY_TASK_ID" in environ:
        return _array_worker(environ)
    if "SLURM_PROCID" in environ:
        # Slurm does not set SLURM_NTASKS in a batch job that does not request a number of tasks.
        world = _number(environ, "SLURM_NTASKS", default="1")
        return _worker("SLURM_PROCID", _number(environ, "SLURM_PROCID"), world)
    return Worker(0, 1)


def _array_worker(environ: Mapping[str, str]) -> Worker:
    name = "SLURM_ARRAY_TASK_ID"
    offset = _number(environ, name) - _number(environ, "SLURM_ARRAY_TASK_MIN", default="0")
    step = _number(environ, "SLURM_ARRAY_TASK_STEP", default="1")
    if step < 1:
        raise InputError(f"SLURM_ARRAY_TASK_STEP={step}: must be 1 or more")
    if offset % step:
        raise InputError(f"{name}={environ[name]}: no step of {step}; use an array such as 0-9")
    return _worker(name, offset // step, _number(environ, "SLURM_ARRAY_TASK_COUNT"))


def _worker(name: str, rank: int, world: int) -> Worker:
    if not 0 <= rank < world:
        raise InputError(
            f"{name}: says worker {rank} of {world}, counted from 0; number the workers without gaps, "
            "or unset it"
        )
    return Worker(rank, world)


def _number(environ: Mapping[str, str], name: str, *, default: str | None = None) -> int:
    text = environ.get(name, default)
    if text is None:
        raise InputError(f"{name}: is not set, though the rank is; set it to the number of workers")
    if not (text.isascii() and text.isdigit()):
        raise InputError(f"{name}={one_line(text)!r}: not a whole number; correct or unset it")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A folder that workers fill shard by shard. Call :meth:`claim` before writing anything.

    Args:
        path: the folder.
        plan: the assignment of images to shards.
        settings: all other settings that determine the images, such as the generator, digests and the
            seed, as JSON values.
        format: "webdataset" for .tar shards, or "folder" for one folder for each identity.
        has_originals: whether the images before cropping are kept in ``originals/``.
    """

    path: Path
    plan: ShardPlan
    settings: Mapping[str, Any]
    format: Format = "webdataset"
    has_originals: bool = False

    @property
    def roots(self) -> list[Path]:
        """The folder of the images, followed by that of the originals if they are kept."""
        images = self.path / ("shards" if self.format == "webdataset" else "images")
        return [images, self.path / "originals"] if self.has_originals else [images]

    def part(self, shard: int) -> Path:
        """Return the path of the manifest of a shard."""
        return self.path / "manifest" / f"{shard_name(shard)}.parquet"

    def lock_file(self, name: str) -> Path:
        """Return the path of a lock file."""
        return self.path / _LOCKS / name

    def is_finished(self, shard: int) -> bool:
        """Return whether a shard is finished, that is, its manifest and its .tar files exist."""
        files = [self.part(shard)]
        if self.format == "webdataset":
            files += [root / f"{shard_name(shard)}.tar" for root in self.roots]
        return all(file.exists() for file in files)

    def record(self) -> dict[str, Any]:
        """Return the content of ``dataset.json``, which is the settings and the plan."""
        own = {"format": self.format, "has_originals": self.has_originals}
        return json.loads(json.dumps({**self.settings, **asdict(self.plan), **own}))

    def claim(
        self,
        *,
        renamed: Mapping[str, str] = MappingProxyType({}),
        respelled: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        """Create the folders and write ``dataset.json``, or check that an existing one is the same.

        Args:
            renamed: maps names of settings in earlier versions to their new names.
            respelled: for each setting, maps its values in earlier versions to their new values.

        Raises:
            InputError: the folder cannot be written, or holds other files or another data set; the
                message names every field that differs.
        """
        with writing(self.path):
            (self.path / _LOCKS).mkdir(parents=True, exist_ok=True)
        with locked(self.lock_file(SETTINGS), wait=True):
            claim(
                self.path,
                SETTINGS,
                self.record(),
                renamed=renamed,
                respelled=respelled,
                own=[path.name for path in self.path.iterdir() if path.name.startswith(".")],
                kind="data set",
            )
        with writing(self.path):
            for folder in (*self.roots, self.path / "manifest"):
                folder.mkdir(exist_ok=True)


def read_data_set(path: Path) -> DataSet:
    """Return the data set whose settings :meth:`DataSet.claim` wrote to a folder.

    Raises:
        InputError: the folder holds no such settings.
    """
    settings = read_json(path / SETTINGS)
    try:
        plan = ShardPlan(**{item.name: settings.pop(item.name) for item in fields(ShardPlan)})
        own = {name: settings.pop(name) for name in ("format", "has_originals")}
    except KeyError as error:
        raise InputError(
            f"{one_line(path / SETTINGS)}: no field {error}; give a folder of `hyperface synthesize`"
        ) from error
    return DataSet(path=path, plan=plan, settings=settings, **own)


def shard_name(shard: int) -> str:
    """Return the name of a shard's files without the suffix."""
    return f"shard-{shard:06d}"


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock during the block. The kernel releases it if the process is killed.

    Args:
        path: an empty file, which is created if missing. It must never be removed, or a process that
            waits on the removed file and one that creates a new file could both hold the lock.
        wait: whether to wait until no other process holds the lock.

    Yields:
        Whether the lock is held; always True if ``wait``.

    Raises:
        InputError: the file system does not support locks.
    """
    with writing(path):
        file = path.open("ab")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            raise InputError(
                f"{one_line(path)}: cannot lock: {one_line(error.strerror)}; choose a folder on a file "
                "system with locks (Lustre: mount it with -o flock)"
            ) from error
        try:
            yield True
        finally:
            # Closing the file alone would leave the lock to child processes that inherited it.
            fcntl.flock(file, fcntl.LOCK_UN)


class StagedFile:
    """A file that is written under a hidden name and gets its final name when it is complete.

    The hidden name is always the same, so the next writer overwrites what a killed one left behind. The
    caller must hold the lock of the shard.

    Args:
        path: final path of the file.

    Raises:
        InputError: the disk is full or the path cannot be written; also raised by the methods.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.tmp")
        with writing(path):
            self.file = self._temporary.open("wb")

    def write(self, data: bytes | memoryview) -> None:
        """Append data to the file."""
        with writing(self.path):
            self.file.write(data)

    def finish(self) -> None:
        """Flush everything that was written to the disk, and close the file."""
        with writing(self.path):
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()

    def publish(self) -> None:
        """Rename the file to its final name, after :meth:`finish`."""
        with writing(self.path):
            self._temporary.replace(self.path)
        sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove what was written, unless it has been published."""
        with contextlib.suppress(OSError):
            # Closing flushes the rest of the buffer, which fails again on a full disk.
            self.file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable, on systems that allow opening a folder."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
