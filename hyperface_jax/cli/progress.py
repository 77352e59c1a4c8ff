"""Progress of a long run: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

_LINE_EVERY_SECONDS = 10.0


class StepProgress:
    """Show steps done, steps/s, the time left and the figure that matters."""

    def __init__(
        self, total: int, done: int = 0, *, label: str = "packing", is_silent: bool = False
    ) -> None:
        self._console = Console(stderr=True)
        self._is_silent = is_silent
        self._total, self._first, self._start = total, done, time.monotonic()
        self._last_line = 0.0
        self._bar = Progress(
            TextColumn(label),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figure]}"),
            console=self._console,
            disable=is_silent or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=done, rate="", figure="")

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

    def update(self, done: int, figure: str) -> None:
        """Report ``done`` steps and a figure such as ``max cosine 0.1008``."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        rate = (done - self._first) / elapsed
        self._bar.update(self._task, completed=done, rate=f"{rate:.1f} steps/s", figure=figure)
        is_due = time.monotonic() - self._last_line >= _LINE_EVERY_SECONDS or done == self._total
        if not self._is_silent and not self._console.is_terminal and is_due:
            self._last_line = time.monotonic()
            left = (self._total - done) / rate if rate else float("inf")
            line = f"step {done}/{self._total}  {rate:.1f} steps/s  {left:.0f} s left  {figure}"
            print(line, file=sys.stderr, flush=True)


class SweepProgress:
    """Show the share done of a sweep over all pairs, if it takes long."""

    def __init__(self, *, is_silent: bool = False) -> None:
        self._console = Console(stderr=True)
        self._is_silent = is_silent
        self._start = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("measuring all pairs"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=is_silent or not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=1.0)

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

    def update(self, share: float) -> None:
        """Report the share done."""
        self._bar.update(self._task, completed=share)
        now = time.monotonic()
        if (
            self._is_silent
            or self._console.is_terminal
            or now < self._last_line + _LINE_EVERY_SECONDS
        ):
            return
        self._last_line = now
        left = (now - self._start) * (1 - share) / share
        print(f"measuring all pairs: {share:.0%}  {left:.0f} s left", file=sys.stderr, flush=True)
