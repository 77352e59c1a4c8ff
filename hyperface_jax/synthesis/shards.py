"""Which images a shard holds, who writes it, and where it lies.

dataset.json                    what the data set is; every worker must mean the same
shards/shard-000000.tar         images and labels, format "webdataset"
images/000000/0000.png          identity and sample, format "folder"
originals/                      what the images were cut out of, in the same format, if it is kept
manifest/shard-000000.parquet   one row an image; written last, so a shard that has one is finished
manifest.parquet                all of them, once every shard is finished
.locks/                         one empty file a shard, never removed: its lock is the kernel's

Many workers share the folder. The lock of a shard keeps two from writing it at once, and ends with the
process that holds it, so a killed worker blocks nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.claims import claim
from hyperface_jax.io.files import one_line, os_input_error

Format = Literal["webdataset", "folder"]

SETTINGS = "dataset.json"
MANIFEST = "manifest.parquet"
_LOCKS = ".locks"


class ShardImages(NamedTuple):
    """The images of a shard: identities and samples, int64 ``[n]`` each."""

    ids: np.ndarray
    samples: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """How images are dealt to shards: image g is sample ``g % images_per_id`` of identity ``g // ...``.

    Args:
        num_ids: identities.
        images_per_id: images an identity.
        shard_size: images a shard; the last may hold fewer.

    Raises:
        InputError: a number below 1.

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
        """Images of the data set."""
        return self.num_ids * self.images_per_id

    @property
    def num_shards(self) -> int:
        """Shards of the data set."""
        return -(-self.num_images // self.shard_size)

    def num_images_of(self, shard: int) -> int:
        """Images of one shard."""
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
        """Return the shards of one worker among ``world``: every ``world``-th."""
        return range(rank, self.num_shards, world)

    def order(self, rank: int, world: int) -> list[int]:
        """Return all shards, those of a worker first, then those of the workers after it.

        A worker that has come to the end of its own takes over what another has left, so that no shard
        waits for a worker that was killed or never started.
        """
        ranks = ((rank + offset) % world for offset in range(world))
        return [shard for other in ranks for shard in self.shards_of(other, world)]


class Worker(NamedTuple):
    """Which of the workers this process is, from 0, and how many there are."""

    rank: int
    world: int


def rank_and_world(environ: Mapping[str, str]) -> Worker:
    """Find out which worker this process is, from the variables of torchrun or Slurm.

    ``RANK`` and ``WORLD_SIZE`` come first, then a Slurm array, then the tasks of a Slurm job.

    Args:
        environ: such as ``os.environ``.

    Returns:
        The worker; ``(0, 1)`` outside of torchrun and Slurm.

    Raises:
        InputError: a variable is missing or makes no sense.

    Examples:
        >>> rank_and_world({"RANK": "1", "WORLD_SIZE": "4"})
        Worker(rank=1, world=4)
    """
    if "RANK" in environ:
        return _worker("RANK", _number(environ, "RANK"), _number(environ, "WORLD_SIZE"))
    if "SLURM_ARRAY_TASK_ID" in environ:
        return _array_worker(environ)
    if "SLURM_PROCID" in environ:
        # Slurm leaves SLURM_NTASKS out of a batch job that did not ask for a number of tasks.
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
        raise InputError(f"{name}={one_line(text)!r}: not a whole number; mend or unset it")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A folder that workers fill shard by shard. :meth:`claim` it before anything is written.

    Args:
        path: the folder.
        plan: which images there are.
        settings: what else the images depend on, in terms of JSON: generator, digests, seed, ...
        format: .tar shards, or one folder an identity.
        has_originals: whether ``originals/`` is kept.
    """

    path: Path
    plan: ShardPlan
    settings: Mapping[str, Any]
    format: Format = "webdataset"
    has_originals: bool = False

    @property
    def roots(self) -> list[Path]:
        """The folder of the images, then that of the originals if they are kept."""
        images = self.path / ("shards" if self.format == "webdataset" else "images")
        return [images, self.path / "originals"] if self.has_originals else [images]

    def part(self, shard: int) -> Path:
        """Return the path of the manifest of a shard."""
        return self.path / "manifest" / f"{shard_name(shard)}.parquet"

    def lock_file(self, name: str) -> Path:
        """Return the path of a lock."""
        return self.path / _LOCKS / name

    def is_finished(self, shard: int) -> bool:
        """Whether a shard is whole: its manifest is there, and its .tar files are."""
        files = [self.part(shard)]
        if self.format == "webdataset":
            files += [root / f"{shard_name(shard)}.tar" for root in self.roots]
        return all(file.exists() for file in files)

    def record(self) -> dict[str, Any]:
        """Return what ``dataset.json`` holds: the settings and the plan."""
        own = {"format": self.format, "has_originals": self.has_originals}
        return json.loads(json.dumps({**self.settings, **asdict(self.plan), **own}))

    def claim(
        self,
        *,
        renamed: Mapping[str, str] = MappingProxyType({}),
        respelled: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        """Make the folders and write ``dataset.json``, or check that it says the same.

        Args:
            renamed: new names of settings, by those that earlier versions wrote.
            respelled: new values by those that earlier versions wrote, by the name of the setting.

        Raises:
            InputError: the folder cannot be written, holds files of something else, or holds another
                data set; every field that differs is named.
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


def shard_name(shard: int) -> str:
    """Return what the files of a shard are called, without the suffix."""
    return f"shard-{shard:06d}"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating system error of the block into one line that names ``path``.

    Raises:
        InputError: the block raised such an error.
    """
    try:
        yield
    except OSError as error:
        raise os_input_error(path, "cannot write", error) from error


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock during the block. The kernel frees it if the process is killed.

    Args:
        path: an empty file, made if missing. It is never removed: a process that waits on a removed
            file and one that makes it anew would both hold the lock.
        wait: wait for another holder.

    Yields:
        Whether the lock is held; always if ``wait``.

    Raises:
        InputError: the file system has no locks.
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
    """A file that grows under a hidden name and takes its own when it is whole.

    The hidden name is always the same, so that the next writer overwrites what a killed one left. Hold
    the lock of the shard meanwhile.

    Args:
        path: the file.

    Raises:
        InputError: here and below, the disc is full or the path cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.tmp")
        with writing(path):
            self.file = self._temporary.open("wb")

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        with writing(self.path):
            self.file.write(data)

    def finish(self) -> None:
        """Bring all that was written to the disc."""
        with writing(self.path):
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()

    def publish(self) -> None:
        """Take the name, after :meth:`finish`."""
        with writing(self.path):
            self._temporary.replace(self.path)
        sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove what was written, unless it is published."""
        with contextlib.suppress(OSError):
            # Closing flushes what is left in the buffer, which fails again on a full disc.
            self.file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
