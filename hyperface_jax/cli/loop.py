"""What runs of steps share: directory, devices, a polite end on a signal, checkpoints in time."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from hyperface_jax import meshes, processes
from hyperface_jax.cli.last_words import LastWords
from hyperface_jax.errors import InputError
from hyperface_jax.io.run_directory import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path

    from jax.sharding import Mesh

    from hyperface_jax.io.checkpoints import Checkpointer

_LONGEST_SHARE = 0.1
"""Of the time, that saving may take."""

INTERRUPTED = 130
"""Exit code of a run that a signal stopped, with everything saved."""
_LOST_A_PEER = 3


def say(text: str) -> None:
    """Print a line, on the first process of a job alone."""
    if processes.is_first_process():
        print(text, flush=True)


def open_run(path: Path, needed_bytes: int) -> RunDirectory:
    """Open the run directory; the first process locks it and checks the space."""
    opened = processes.on_first_process(lambda: RunDirectory(path, needed_bytes=needed_bytes))
    return opened or RunDirectory(path, is_owner=False)


def job_mesh(count: int | None) -> Mesh | None:
    """Return the mesh of the first devices of a job, or of all; None for a single one.

    Raises:
        InputError: there are fewer, or some of several processes would have none.
    """
    devices = jax.devices()
    count = len(devices) if count is None else count
    if not 1 <= count <= len(devices):
        raise InputError(f"--devices {count}: this job has {len(devices)} devices")
    if count < len(devices) and jax.process_count() > 1:
        raise InputError("--devices is for a single process: drop it")
    return meshes.make_mesh(devices[:count]) if count > 1 else None


def run_together(function: Callable[[], int], path: Path) -> int:
    """Run ``function`` on every process of a job, and end this one if another is lost.

    Args:
        function: what to run; returns the exit code.
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


class StopRequest:
    """Turn Ctrl-C and SIGTERM into a request that the loop honors after the current scan."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: Any) -> None:
        del number, frame
        self.requested = True
