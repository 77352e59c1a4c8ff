"""What a run tells while it works, and how it is asked to stop."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Protocol

from hyperface_jax import processes
from hyperface_jax.typing import Update


class OpenProgress(Protocol):
    """Open the progress of one piece of work.

    Args:
        title: what is done, such as ``embedding``.
        unit: of what is counted, in the plural; an empty one means a share from 0 to 1.
        total: at the end.
        done: at the start.
    """

    def __call__(  # noqa: D102
        self, title: str, unit: str, total: float, done: float = 0
    ) -> AbstractContextManager[Update]: ...


@contextmanager
def no_progress(title: str, unit: str, total: float, done: float = 0) -> Iterator[Update]:
    """Show nothing."""
    del title, unit, total, done
    yield lambda done, figure="", /: None


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a request to stop at the next safe place.

    Signals reach the main thread alone: in another one nothing is asked for, and nothing is changed.
    """
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        asked.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, ask) for number in numbers} if is_main else {}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


def _ignore(text: str) -> None:
    del text


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What a run tells while it works, and how it is asked to stop.

    A run prints nothing by itself. Without a watch it warns by Python's warnings, shows nothing else,
    and stops at a safe place on Ctrl-C and SIGTERM.

    Attributes:
        say: takes what may be of interest, such as the step that a run resumes at.
        warn: takes what a user should know, such as files that were skipped.
        progress: opens the progress of a piece of work.
        stopping: entered round work that can stop halfway and go on later; gives a function that tells
            whether to stop.
    """

    say: Callable[[str], None] = _ignore
    warn: Callable[[str], None] = _warn
    progress: OpenProgress = no_progress
    stopping: Callable[[], AbstractContextManager[Callable[[], bool]]] = stop_on_signals

    def of_this_process(self) -> Watch:
        """Return the watch of this process of a job: all but the first are silent."""
        if processes.is_first_process():
            return self
        return replace(self, say=_ignore, progress=no_progress)


QUIET = Watch()
"""Of a run from Python that asks for nothing."""
