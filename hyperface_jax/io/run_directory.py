"""A run on disk: its settings, its progress and its results.

config.json       the settings, with defaults resolved and input files given by content hash
history.jsonl     one line per step
checkpoints/      the optimizer state (orbax), written asynchronously
embeddings.npy    the packing; written second to last
summary.json      the figures; its presence means that the run is finished
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from hyperface_jax.errors import InputError
from hyperface_jax.io.claims import claim
from hyperface_jax.io.files import (
    atomic_write_jsonl,
    os_input_error,
    read_json,
    read_jsonl,
)

CONFIG = "config.json"
SUMMARY = "summary.json"
HISTORY = "history.jsonl"
EMBEDDINGS = "embeddings.npy"
DIAGNOSTICS = "diagnostics.npz"
REPORT = "report.html"
CHECKPOINTS = "checkpoints"

THROUGH = "through"
"""The method that the summary of a packing through a generator names."""


class RunDirectory:
    """A folder that belongs to one run, locked against a second process while it is open.

    Args:
        path: the folder; it and its parents are created if they are missing.
        needed_bytes: space that the run will take.
        is_owner: whether this process writes the run; the other processes of a job only read it.

    Raises:
        InputError: if the folder cannot be written, is too full, is in use, or holds other files.
    """

    def __init__(self, path: Path, *, needed_bytes: int = 0, is_owner: bool = True) -> None:
        self.path = path
        self._lock: IO[str] | None = None
        if not is_owner:
            return
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(path)
            free = shutil.disk_usage(path).free
        except OSError as error:
            raise os_input_error(path, "write the run directory", error) from error
        if free < needed_bytes:
            raise InputError(
                f"{path}: {free / 2**20:.0f} MiB are free and the run needs "
                f"{needed_bytes / 2**20:.0f} MiB: free some space or choose another `out`"
            )

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def close(self) -> None:
        """Release the lock."""
        if self._lock:
            self._lock.close()

    @property
    def is_finished(self) -> bool:
        """Whether the summary, the last file of a run, exists."""
        return (self / SUMMARY).exists()

    def summary(self) -> dict[str, Any]:
        """Return the summary of a finished run."""
        return read_json(self / SUMMARY)

    def stored_config(self) -> dict[str, Any]:
        """Return the settings of the run on disk; empty if there is none."""
        return read_json(self / CONFIG) if (self / CONFIG).exists() else {}

    def claim(
        self,
        config: Mapping[str, Any],
        *,
        ignore: tuple[str, ...] = (),
        renamed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Write the settings of a new run, or check that they are those of the run on disk.

        Args:
            config: the settings.
            ignore: fields that may differ because they do not change the result.
            renamed: current names of fields, by the names that earlier versions wrote.

        Raises:
            InputError: another run is on disk; the message names every field that differs.
        """
        claim(self.path, CONFIG, config, ignore=ignore, renamed=renamed, own=(_LOCK,))

    def truncate_history(self, num_steps: int) -> list[dict[str, Any]]:
        """Drop the history lines from step ``num_steps`` on, which a resumed run writes again."""
        path = self / HISTORY
        rows = read_jsonl(path) if path.exists() else []
        kept = [row for row in rows if row["step"] < num_steps]
        atomic_write_jsonl(path, kept)
        return kept


_LOCK = ".lock"


def _locked(path: Path) -> IO[str]:
    # The process holds the lock, so a killed run leaves no stale lock behind.
    lock = (path / _LOCK).open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise InputError(
            f"{path}: another process is writing this run: wait for it or choose another `out`"
        ) from error
    except OSError:
        lock.close()
        raise
    os.set_inheritable(lock.fileno(), False)
    return lock
