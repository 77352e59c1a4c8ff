"""The ``demo`` stage itself: it opens the folder, runs the stages in order and writes the report."""

from __future__ import annotations

import time
from dataclasses import asdict

from hyperface_jax.errors import Stopped
from hyperface_jax.io.claims import claim
from hyperface_jax.io.files import one_line, writing
from hyperface_jax.runs.demonstration.closed_loop import ClosedLoop
from hyperface_jax.runs.demonstration.estimate import MEASURED, estimate, in_words
from hyperface_jax.runs.demonstration.report import REPORT, write_report
from hyperface_jax.runs.demonstration.settings import Demo, folder_of, size_of
from hyperface_jax.runs.demonstration.stages import STAGES
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.watch import QUIET, Watch

_SETTINGS = "demo.json"
_RENAMED = {"neighbours": "neighbors"}
"""Names of settings in demonstrations of earlier versions, and their current names."""


def demo(config: Demo, *, watch: Watch = QUIET) -> Result:
    """Run the whole method in a world of toy faces, and write one report.

    The same call resumes an unfinished demonstration, and writes the report of a finished one again.

    Args:
        config: the settings.
        watch: receives messages and progress, and can stop the run.

    Returns:
        The figures of ``results.json``, and the folder.

    Raises:
        InputError: a setting cannot work, or the folder holds something else.
        Stopped: a stop was requested; everything is saved.
    """
    loop = open_loop(config)
    _announce(loop, watch)
    seconds: dict[str, float] = {}
    count = len(STAGES) + 1
    for i, (name, stage) in enumerate(STAGES.items(), start=1):
        watch.say(f"\n== {i} of {count}: {name}")
        start = time.perf_counter()
        try:
            stage(loop, watch)
        except Stopped as stopped:
            raise Stopped(loop.path) from stopped
        seconds[name] = time.perf_counter() - start
    watch.say(f"\n== {count} of {count}: report\n")
    results = write_report(loop, seconds)
    return Result(loop.path, results, f"open {one_line(loop.path / REPORT)} in a browser")


def open_loop(config: Demo) -> ClosedLoop:
    """Return the closed loop that the settings describe, and write them to its folder.

    Raises:
        InputError: a setting cannot work, or the folder holds something else.
    """
    loop = ClosedLoop(folder_of(config), size_of(config), config.seed)
    if not loop.path.exists():
        with writing(loop.path):
            loop.path.mkdir(parents=True)
    settings = {"seed": loop.seed, **asdict(loop.size)}
    claim(loop.path, _SETTINGS, settings, renamed=_RENAMED, kind="demonstration")
    return loop


def _announce(loop: ClosedLoop, watch: Watch) -> None:
    """Say how long the demonstration takes, and what its size cannot show."""
    watch.say(
        f"hyperface demo: takes about {in_words(estimate(loop.size))} on two idle cores, minus what is "
        f"already done (estimated from runs on {MEASURED.machine}); press Ctrl-C to stop, and run the "
        "same command to resume"
    )
    if loop.size.is_small:
        watch.say("This size shows the stages at work; it is too small to tell the ways apart.")
