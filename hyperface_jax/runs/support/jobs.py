"""Jobs of one or several processes: joining them, their devices, their run directory, their end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import jax

from hyperface_jax import meshes, processes
from hyperface_jax.errors import InputError
from hyperface_jax.io.run_directory import RunDirectory
from hyperface_jax.runs.support.last_words import LastWords

if TYPE_CHECKING:
    from pathlib import Path

    from jax.sharding import Mesh

    from hyperface_jax.io.checkpoints import Checkpointer

T = TypeVar("T")

_LONGEST_SHARE = 0.1
"""Of the time, that saving may take."""
_LOST_A_PEER = 3


def join_job(distributed: str) -> None:
    """Join the other processes of a job, if there are any, see :func:`.processes.initialize`.

    Args:
        distributed: ``auto``, or ``yes`` to join whatever the environment says.

    Raises:
        InputError: the environment contradicts itself, or the others cannot be reached.
    """
    if jax.distributed.is_initialized():
        return
    try:
        processes.initialize(force=distributed == "yes")
    except (ValueError, RuntimeError) as error:
        raise InputError(f"cannot join the job: {error}") from error


def open_run(path: Path, needed_bytes: int) -> RunDirectory:
    """Open the run directory; the first process locks it and checks the space."""
    opened = processes.on_first_process(lambda: RunDirectory(path, needed_bytes=needed_bytes))
    return opened or RunDirectory(path, is_owner=False)


def job_mesh(count: int | None) -> Mesh | None:
    """Return the mesh of the first devices of a job, or of all; None for a single one.

    Raises:
        InputError: there are fewer, or some of several processes would have none.
    """
    found = jax.devices()
    count = len(found) if count is None else count
    if not 1 <= count <= len(found):
        raise InputError(f"`devices={count}`: this job has {len(found)} devices")
    if count < len(found) and jax.process_count() > 1:
        raise InputError("`devices` is for a single process: drop it")
    return meshes.make_mesh(found[:count]) if count > 1 else None


def local_mesh(count: int | None) -> Mesh:
    """Return the mesh of the first devices of this process, or of all of them.

    Raises:
        InputError: there are fewer.
    """
    found = jax.local_devices()
    if count is not None and not 1 <= count <= len(found):
        raise InputError(f"`devices={count}`: must be between 1 and {len(found)}")
    return meshes.make_mesh(found[:count])


def run_together(function: Callable[[], T], path: Path) -> T:
    """Run ``function`` on every process of a job, and end this one if another is lost.

    Args:
        function: what to run.
        path: the run directory.
    """
    if jax.process_count() == 1:
        return function()
    who = f"hyperface: error: process {jax.process_index()} of {jax.process_count()}"
    mend = f"{path} holds the last complete checkpoint: run the same command to go on"
    with LastWords(f"{who} was killed or lost touch with another one; {mend}") as last_words:
        try:
            return function()
        except jax.errors.JaxRuntimeError as error:
            reason = str(error).strip().splitlines()[0][:200]
            print(
                f"{who} lost touch with another one ({reason}); {mend}", file=sys.stderr, flush=True
            )
            last_words.dismiss()
            # A normal exit would wait for the lost process.
            os._exit(_LOST_A_PEER)


class Saving:
    """Checkpoints at an interval, longer where saving itself takes long."""

    def __init__(self, checkpointer: Checkpointer, interval: float) -> None:
        self._checkpointer, self._interval = checkpointer, interval
        self._saved_at, self._took = time.monotonic(), 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next one."""
        interval = max(self._interval, self._took / _LONGEST_SHARE)
        return time.monotonic() - self._saved_at >= interval

    def save(self, step: int, state: Any, notes: dict[str, Any]) -> None:
        """Save now."""
        start = time.monotonic()
        self._checkpointer.save(step, state, notes)
        self._saved_at = time.monotonic()
        self._took = self._saved_at - start
