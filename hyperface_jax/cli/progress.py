"""Progress of long work: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from hyperface_jax.io.files import one_line

_LINE_EVERY_SECONDS = 10.0


class _Progress:
    """A bar with these columns on a terminal, and lines elsewhere; nothing if it is silent."""

    def __init__(
        self,
        *columns: ProgressColumn,
        total: float,
        done: int = 0,
        is_silent: bool = False,
        is_transient: bool = False,
        **fields: Any,
    ) -> None:
        console = Console(stderr=True)
        self._has_lines = not is_silent and not console.is_terminal
        self._start = self._last_line = time.monotonic()
        self._bar = Progress(
            *columns,
            console=console,
            disable=is_silent or not console.is_terminal,
            transient=is_transient,
        )
        self._task = self._bar.add_task("", total=total, completed=done, **fields)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return max(time.monotonic() - self._start, 1e-9)

    def _show(self, line: str, done: float, *, is_due: bool = False, **fields: Any) -> None:
        """Move the bar, or print the line if the last one is old enough or it ``is_due``."""
        self._bar.update(self._task, completed=done, **fields)
        now = time.monotonic()
        if self._has_lines and (is_due or now >= self._last_line + _LINE_EVERY_SECONDS):
            self._last_line = now
            print(line, file=sys.stderr, flush=True)


class StepProgress(_Progress):
    """Show steps done, steps/s, the time left and the figure that matters."""

    def __init__(
        self, total: int, done: int = 0, *, label: str = "packing", is_silent: bool = False
    ) -> None:
        self._total, self._first, self._is_first = total, done, True
        super().__init__(
            TextColumn(label),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figure]}"),
            total=total,
            done=done,
            is_silent=is_silent,
            rate="",
            figure="",
        )

    def update(self, done: int, figure: str) -> None:
        """Report ``done`` steps and a figure such as ``max cosine 0.1008``."""
        rate = (done - self._first) / self.seconds
        left = (self._total - done) / rate if rate else float("inf")
        line = f"step {done}/{self._total}  {rate:.1f} steps/s  {left:.0f} s left  {figure}"
        is_due = self._is_first or done == self._total
        self._is_first = False
        self._show(line, done, is_due=is_due, rate=f"{rate:.1f} steps/s", figure=figure)


class SweepProgress(_Progress):
    """Show the share done of a sweep over all pairs, if it takes long."""

    def __init__(self, *, is_silent: bool = False) -> None:
        super().__init__(
            TextColumn("measuring all pairs"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            total=1.0,
            is_silent=is_silent,
            is_transient=True,
        )

    def update(self, share: float) -> None:
        """Report the share done."""
        left = self.seconds * (1 - share) / share
        self._show(f"measuring all pairs: {share:.0%}  {left:.0f} s left", share)


class CountProgress(_Progress):
    """Show how many are done, how many a second, the time left and a figure."""

    def __init__(
        self, title: str, unit: str, total: int, done: int = 0, *, is_silent: bool = False
    ) -> None:
        self._title, self._unit, self._total, self._first = one_line(title), unit, total, done
        super().__init__(
            TextColumn("{task.fields[title]}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figure]}"),
            total=total,
            done=done,
            is_silent=is_silent,
            title=self._title,
            rate="",
            figure="",
        )

    def update(self, done: int, figure: str = "") -> None:
        """Report the number done, and a figure such as ``cosine to target 0.8``."""
        rate = (done - self._first) / self.seconds
        speed = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
        speed = f"{speed} {self._unit}/s"
        left = max(self._total - done, 0) / rate if rate else float("inf")
        line = f"{self._title}: {done}/{self._total}  {speed}  {left:.0f} s left  {figure}"
        self._show(line.rstrip(), done, rate=speed, figure=figure)


class ImageProgress(CountProgress):
    """Show images done, images/s, the time left and a figure."""

    def __init__(self, title: str, total: int, done: int = 0, *, is_silent: bool = False) -> None:
        super().__init__(title, "images", total, done, is_silent=is_silent)
