"""The exceptions that this package defines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class InputError(ValueError):
    """Input cannot be used; the message names the file or field and says how to fix it.

    Fields are in backquotes, with their value if the value is at fault: ```num_ids=1```.
    """


class PeerError(RuntimeError):
    """Another process of the job stopped on an error that it has reported itself."""


class Stopped(Exception):
    """A run was asked to stop and saved everything; the same call resumes it.

    Args:
        path: folder of the run.
        text: what is saved and how to resume, if the default message does not fit.
    """

    def __init__(self, path: Path, text: str = "") -> None:
        super().__init__(text or f"{path}: stopped and saved; run the same command to go on")
        self.path = path
