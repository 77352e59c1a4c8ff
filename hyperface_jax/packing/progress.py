"""A callback that prints the progress of a run in plain lines."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from hyperface_jax.packing.api import Progress


class PrintProgress:
    """Print the rate, the time left and the best max cosine now and then; for ``solve(callback=...)``.

    Args:
        every: seconds between two lines; there is always a line for the last step.
        file: where to print; None means standard error.
    """

    def __init__(self, every: float = 5.0, file: TextIO | None = None) -> None:
        self._every, self._file = every, file
        self._started = self._printed = time.monotonic()
        self._first: int | None = None

    def __call__(self, progress: Progress) -> None:
        """Print a line if it is time for one."""
        now = time.monotonic()
        if self._first is None:
            # The first chunk includes compilation, so the rate is measured from its end.
            self._first, self._started = progress.step, now
        is_last = progress.step == progress.num_steps
        if not is_last and now - self._printed < self._every:
            return
        self._printed = now
        steps, seconds = progress.step - self._first, now - self._started
        rate = steps / seconds if steps and seconds else 0.0
        left = (progress.num_steps - progress.step) / rate if rate else 0.0
        timing = f", {rate:.1f} steps/s, {left:.0f} s left" if rate else ""
        print(
            f"step {progress.step} of {progress.num_steps}: "
            f"max cosine {progress.max_cosine:.5f}{timing}",
            file=self._file or sys.stderr,
            flush=True,
        )
