"""The exceptions of the package. Nothing else is raised for input that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class InputError(ValueError):
    """Input that cannot be used: the message names the file or field and how to mend it.

    Fields stand in backquotes, with the value where that is at fault: ```num_ids=1```.
    """


class PeerError(RuntimeError):
    """Another process of the job stopped on an error that it has reported itself."""


class Stopped(Exception):
    """A run that was asked to stop, with everything saved: the same call goes on.

    Args:
        path: of its folder.
        text: what is saved and how to go on, where that needs other words.
    """

    def __init__(self, path: Path, text: str = "") -> None:
        super().__init__(text or f"{path}: stopped and saved; run the same again to go on")
        self.path = path
