"""How a run reports what it does, and how it is asked to stop."""

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
        title: name of the work, such as ``embedding``.
        unit: unit that is counted, in the plural; if it is empty, progress is a share from 0 to 1.
        total: amount at the end.
        done: amount at the start.
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

    Only the main thread receives signals. In any other thread, this does nothing.
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
    """Callbacks that receive what a run reports, and that can ask it to stop.

    A run prints nothing by itself. Without a watch, it issues Python warnings, shows nothing else, and
    stops at a safe place on Ctrl-C and SIGTERM.

    Attributes:
        say: called with remarks that may be of interest, such as the step at which a run resumes.
        warn: called with warnings that a user should see, such as files that were skipped.
        progress: opens the progress of a piece of work.
        stopping: returns a context manager that is entered around work that can stop halfway and resume
            later; it yields a function that tells whether to stop.
    """

    say: Callable[[str], None] = _ignore
    warn: Callable[[str], None] = _warn
    progress: OpenProgress = no_progress
    stopping: Callable[[], AbstractContextManager[Callable[[], bool]]] = stop_on_signals

    def of_this_process(self) -> Watch:
        """Return the watch for this process of a job; all processes but the first are silent."""
        if processes.is_first_process():
            return self
        return replace(self, say=_ignore, progress=no_progress)


QUIET = Watch()
"""The default watch of a run that is called from Python."""
