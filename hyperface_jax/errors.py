"""The exceptions that this package defines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
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


def require(settings: Any, checks: Sequence[tuple[str, bool, str]]) -> None:
    """Refuse the first invalid value.

    Args:
        settings: the settings to check.
        checks: the field, whether its value is valid, and what it must be, such as ``at least 1``.

    Raises:
        InputError: a value is invalid; the message names the field and the value.
    """
    for name, holds, needed in checks:
        if not holds:
            raise InputError(f"`{name}={getattr(settings, name)}`: must be {needed}")
