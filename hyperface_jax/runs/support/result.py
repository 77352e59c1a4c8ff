"""What a stage returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """What a finished stage leaves.

    Attributes:
        path: of the folder or file that holds it; None if nothing was written.
        summary: its figures, in terms of JSON.
        text: the main ones in words, lines for people.
    """

    path: Path | None
    summary: dict[str, Any]
    text: str
