"""One process of a job: runs commands, given as JSON, and writes their exit codes and errors."""

import contextlib
import functools
import io
import json
import os
import sys
from pathlib import Path

import jax

from hyperface_jax import processes
from hyperface_jax.cli.main import main


class Errors(io.StringIO):
    """Keeps what it passes on: a process that is ended can write no results."""

    def write(self, text):
        sys.__stderr__.write(text)
        return super().write(text)


def run(commands):
    """Return the exit code and the errors of each command."""
    said = []
    for words in commands:
        with contextlib.redirect_stderr(Errors()) as errors:
            code = main(words)
        said.append((code, errors.getvalue()))
    return said


if __name__ == "__main__":
    processes._HEARTBEAT_SECONDS = int(os.environ.get("HEARTBEAT_SECONDS", "5"))
    # A job is joined once, however many commands it runs.
    jax.distributed.initialize = functools.cache(jax.distributed.initialize)
    given, results = sys.argv[1:]
    said = run(json.loads(given))
    Path(f"{results}.{os.environ['JAX_PROCESS_ID']}.json").write_text(json.dumps(said))
    sys.exit(said[-1][0])
