"""How a run reports to a terminal or a log: remarks, warnings and progress."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TextIO

from rich import progress as bars
from rich.console import Console

from hyperface_jax.io.files import one_line
from hyperface_jax.runs.support.watch import Watch, no_progress
from hyperface_jax.typing import Update

_LINE_EVERY_SECONDS = 10.0


def make_watch(translate: Callable[[str], str], *, is_quiet: bool, is_json: bool) -> Watch:
    """Return a watch that prints; with JSON, nothing else goes to standard output."""

    def say(text: str) -> None:
        if not is_quiet:
            tell(translate(text), sys.stderr if is_json else sys.stdout)

    def warn(text: str) -> None:
        tell(f"hyperface: warning: {translate(text)}", sys.stderr)

    return Watch(say=say, warn=warn, progress=no_progress if is_quiet else show_progress)


def tell(text: str, stream: TextIO) -> None:
    """Print a text; if the reader is gone, continue without an error."""
    with suppress(BrokenPipeError):
        print(text, file=stream, flush=True)


@contextmanager
def show_progress(title: str, unit: str, total: float, done: float = 0) -> Iterator[Update]:
    """Show a bar on a terminal, or occasional lines elsewhere; see :class:`.OpenProgress`."""
    console = Console(stderr=True)
    title, is_bar = one_line(title), console.is_terminal
    bar = bars.Progress(*_columns(unit), console=console, disable=not is_bar, transient=not unit)
    log = _Log(title, unit, total, done)
    task = bar.add_task(title, total=total, completed=int(done), rate="", figure="")

    def update(done: float, figure: str = "", /) -> None:
        bar.update(task, completed=done, rate=log.rate(done), figure=figure)
        if not is_bar and log.is_due(done, figure):
            tell(log.line(done, figure), sys.stderr)

    with bar:
        yield update


def _columns(unit: str) -> list[bars.ProgressColumn]:
    text = partial(bars.TextColumn, markup=False)
    count = [bars.MofNCompleteColumn(), text("{task.fields[rate]}")]
    start = [text("{task.description}"), bars.BarColumn()]
    end = [bars.TimeRemainingColumn(), text("{task.fields[figure]}")]
    return [*start, *(count if unit else [bars.TaskProgressColumn()]), *end]


class _Log:
    """Lines at intervals, and one at the start; for steps, also after the first and the last."""

    def __init__(self, title: str, unit: str, total: float, start: float) -> None:
        self._title, self._unit, self._total, self._start = title, unit, total, start
        self._is_steps, self._seen = unit == "steps", set[bool]()
        self._opened = self._last_line = time.monotonic()

    def is_due(self, done: float, figure: str) -> bool:
        """Tell whether to print a line now."""
        now, has_moved = time.monotonic(), done > self._start
        is_first = has_moved not in self._seen
        self._seen.add(has_moved)
        is_start = is_first and not has_moved and bool(figure)
        is_end = self._is_steps and has_moved and (is_first or done == self._total)
        is_due = is_start or is_end or now >= self._last_line + _LINE_EVERY_SECONDS
        self._last_line = now if is_due else self._last_line
        return is_due

    def line(self, done: float, figure: str) -> str:
        """Return the line to print."""
        count = f"{done:.0f}/{self._total:.0f}" if self._unit else f"{done / self._total:.0%}"
        if done <= self._start:
            return f"{self._title}: {count}  {figure}".rstrip()
        left = max(self._total - done, 0) / self._speed(done)
        head = f"step {count}" if self._is_steps else f"{self._title}: {count}"
        rate = f"  {self.rate(done)}" if self._unit else ""
        return f"{head}{rate}  {left:.0f} s left  {figure}".rstrip()

    def rate(self, done: float) -> str:
        """Return the speed as text."""
        speed = self._speed(done)
        shown = f"{speed:.0f}" if speed >= 10 else f"{speed:.2g}"
        return f"{speed:.1f} steps/s" if self._is_steps else f"{shown} {self._unit}/s"

    def _speed(self, done: float) -> float:
        return (done - self._start) / max(time.monotonic() - self._opened, 1e-9)
