"""The ``report`` stage: it writes the page of a finished run again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hyperface_jax.errors import require
from hyperface_jax.io.files import read_json
from hyperface_jax.io.run_directory import SUMMARY
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import option
from hyperface_jax.runs.support.watch import QUIET, Watch


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the report.html page of a finished run of pack again."""

    directory: Path = option(is_positional=True)
    """Run directory of the packing."""
    threshold: float | None = None
    """Verification threshold of the recognizer, a cosine. The report marks it and counts the identities
    above it. Default: the one that pack was given."""


def report(config: Report, *, watch: Watch = QUIET) -> Result:
    """Write the page of a finished run again.

    Args:
        config: the settings.
        watch: unused, because nothing here takes long.

    Raises:
        InputError: the folder does not hold a finished run, or a setting cannot be used.
    """
    del watch
    is_cosine = -1 < (config.threshold or 0) < 1
    require(config, [("threshold", is_cosine, "between -1 and 1")])
    from hyperface_jax.reports.pack import write_report

    page = write_report(config.directory, threshold=config.threshold)
    return Result(page, read_json(config.directory / SUMMARY), f"report: {page}")
