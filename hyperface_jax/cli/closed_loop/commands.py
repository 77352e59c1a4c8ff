"""``hyperface`` commands inside this process, as a user would type them."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_FOLDER = "jax_compilation_cache_dir"
_LEAST_SECONDS = "jax_persistent_cache_min_compile_time_secs"


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
def sharing_compilations() -> Iterator[None]:
    """Compile what several commands have in common once, unless the user keeps a cache already."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    if getattr(jax.config, _FOLDER):
        yield
        return
    least = getattr(jax.config, _LEAST_SECONDS)
    with tempfile.TemporaryDirectory(prefix="hyperface-") as folder:
        # JAX looks for a cache at its first compilation only.
        compilation_cache.reset_cache()
        jax.config.update(_FOLDER, folder)
        jax.config.update(_LEAST_SECONDS, 0.3)
        try:
            yield
        finally:
            jax.config.update(_FOLDER, None)
            jax.config.update(_LEAST_SECONDS, least)
            compilation_cache.reset_cache()


@contextmanager
def _as_typed(command: list[str]) -> Iterator[None]:
    """Let runs and cards record the command itself, not the one that contains it."""
    before = sys.argv
    sys.argv = ["hyperface", *command]
    try:
        yield
    finally:
        sys.argv = before
