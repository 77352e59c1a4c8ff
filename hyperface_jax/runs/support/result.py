"""The result that a stage returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperface_jax.io.files import plain_json


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "summary", plain_json(self.summary))
