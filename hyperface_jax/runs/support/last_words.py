"""A message for a process that can no longer print one: it was killed, or JAX ended it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from types import TracebackType
from typing import Self

_LISTENER = """
import signal, sys
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
if sys.stdin.read() != "done":
    print(sys.argv[1], file=sys.stderr, flush=True)
"""


class LastWords:
    """Print ``message`` to standard error if this process ends before it leaves the block.

    A child process prints it: the runtime of JAX aborts a process when its coordinator is gone, and
    then no handler in that process can say what to do next.
    """

    def __init__(self, message: str) -> None:
        self._message = message

    def __enter__(self) -> Self:
        command = [sys.executable, "-S", "-c", _LISTENER, self._message]
        self._listener = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.dismiss()

    def dismiss(self) -> None:
        """Tell the child process that all is well, or that the message was already printed."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._listener.communicate("done")
