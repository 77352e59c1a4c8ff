"""``hyperface`` commands inside this process, as a user would type them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """A command that did not end well, with its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run(*words: object) -> None:
    """Run ``hyperface WORDS``.

    Raises:
        Stopped: it ended with another code than 0, and has said why.
    """
    from hyperface_jax.cli.main import main

    command = [str(word) for word in words]
    print(f"$ {shlex.join(['hyperface', *command])}", flush=True)
    with _as_typed(command):
        code = main(command)
    if code:
        raise Stopped(code)


@contextmanager
def _as_typed(command: list[str]) -> Iterator[None]:
    """Let runs and cards record the command itself, not the one that contains it."""
    before = sys.argv
    sys.argv = ["hyperface", *command]
    try:
        yield
    finally:
        sys.argv = before
