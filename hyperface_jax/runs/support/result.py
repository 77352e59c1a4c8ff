"""The result that a stage returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """The result of a finished stage.

    Attributes:
        path: path of the folder or file that was written; None if nothing was written.
        summary: the figures, as values that JSON can hold.
        text: the main figures as lines of text to read.
    """

    path: Path | None
    summary: dict[str, Any]
    text: str
