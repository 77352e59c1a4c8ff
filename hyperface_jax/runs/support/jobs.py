"""Jobs of one or several processes: how they join, their devices and run directory, how they end."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import jax

from hyperface_jax import meshes, processes
from hyperface_jax.errors import InputError
from hyperface_jax.io.run_directory import RunDirectory
from hyperface_jax.runs.support.last_words import LastWords

if TYPE_CHECKING:
    from pathlib import Path

    from jax.sharding import Mesh

    from hyperface_jax.runs.support.watch import OpenProgress, Watch
    from hyperface_jax.typing import Update

T = TypeVar("T")

_LONGEST_SHARE = 0.1
"""Largest share of the time that saving checkpoints may take."""
_LOST_A_PEER = 3
_TIMES_LONGEST = 3
_FIRST_REPORTS = 2
"""Number of progress reports after which compilation, which takes longest, is over."""
_COMPILING_SECONDS = 900.0
"""Time without progress that is allowed at least while programs compile."""


def join_job(distributed: str) -> None:
    """Join the other processes of a job, if there are any; see :func:`.processes.initialize`.

    Args:
        distributed: ``auto``, or ``yes`` to join regardless of the environment.

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
    """Return the mesh of the first devices of a job, or of all devices; None for a single device.

    Raises:
        InputError: there are fewer devices than requested, or a process would be left without one.
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
        InputError: there are fewer devices than requested.
    """
    found = jax.local_devices()
    if count is not None and not 1 <= count <= len(found):
        raise InputError(f"`devices={count}`: must be between 1 and {len(found)}")
    return meshes.make_mesh(found[:count])


def run_together(
    function: Callable[[Watch], T], path: Path, watch: Watch, *, stall_seconds: float
) -> T:
    """Run ``function`` on every process of a job, and end this process if another is lost or stuck.

    Args:
        function: function to run; takes the watch that it reports progress to.
        path: the run directory.
        watch: the watch of the run.
        stall_seconds: seconds without progress after which another process counts as stuck; three times
            the longest time between two reports, if that is longer.
    """
    if jax.process_count() == 1:
        return function(watch)
    who = f"hyperface: error: process {jax.process_index()} of {jax.process_count()}"
    mend = f"{path} holds the last complete checkpoint: run the same command to go on"
    with LastWords(f"{who} was killed or lost touch with another one; {mend}") as last_words:

        def give_up(reason: str) -> None:
            print(f"{who} {reason}; {mend}", file=sys.stderr, flush=True)
            last_words.dismiss()
            # A normal exit would wait for the lost process.
            os._exit(_LOST_A_PEER)

        with Patience(stall_seconds, give_up) as patience:
            try:
                return function(replace(watch, progress=patience.noticing(watch.progress)))
            except jax.errors.JaxRuntimeError as error:
                reason = str(error).strip().splitlines()[0][:200]
                give_up(f"lost touch with another one ({reason})")
                raise


class Patience:
    """Give up when nothing has been reported for too long.

    Args:
        seconds: smallest number of seconds without a report after which to give up.
        give_up: called with the reason, in a separate thread.
    """

    def __init__(self, seconds: float, give_up: Callable[[str], None]) -> None:
        self._seconds, self._give_up = seconds, give_up
        self._longest, self._last, self._count = 0.0, time.monotonic(), 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._wait, daemon=True)

    def __enter__(self) -> Patience:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()

    def noticing(self, progress: OpenProgress) -> OpenProgress:
        """Return a progress whose updates also count as reports."""

        @contextmanager
        def opened(title: str, unit: str, total: float, done: float = 0) -> Iterator[Update]:
            with progress(title, unit, total, done) as update:

                def noticed(done: float, figure: str = "", /) -> None:
                    self.notice()
                    update(done, figure)

                yield noticed

        return opened

    def notice(self) -> None:
        """Note that a report arrived."""
        now = time.monotonic()
        self._count += 1
        if self._count > _FIRST_REPORTS:
            self._longest = max(self._longest, now - self._last)
        self._last = now

    def _wait(self) -> None:
        while not self._is_over.wait(min(self._seconds / 10, 5.0)):
            is_compiling = self._count <= _FIRST_REPORTS
            least = _COMPILING_SECONDS if is_compiling else _TIMES_LONGEST * self._longest
            limit = max(self._seconds, least)
            if time.monotonic() - self._last > limit:
                self._give_up(f"saw no progress for {limit:.0f} s: another one is stuck")
                return


class Saving:
    """Saves checkpoints at an interval, which is longer if saving itself takes long.

    Args:
        write: called with the step, the state and the notes of a checkpoint.
        interval: seconds between checkpoints, at least.
    """

    def __init__(self, write: Callable[[int, Any, dict[str, Any]], None], interval: float) -> None:
        self._write, self._interval = write, interval
        self._saved_at, self._took = time.monotonic(), 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        interval = max(self._interval, self._took / _LONGEST_SHARE)
        return time.monotonic() - self._saved_at >= interval

    def save(self, step: int, state: Any, notes: dict[str, Any]) -> None:
        """Save a checkpoint now."""
        start = time.monotonic()
        self._write(step, state, notes)
        self._saved_at = time.monotonic()
        self._took = self._saved_at - start
