"""The ``report`` stage: it writes the page of a finished run again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hyperface_jax.errors import InputError, require
from hyperface_jax.io.files import read_json
from hyperface_jax.io.run_directory import SUMMARY, THROUGH
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import option
from hyperface_jax.runs.support.watch import QUIET, Watch


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the report.html page of a finished run of pack again, also of one through a generator."""

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
    page = _rewritten(config)
    return Result(page, read_json(config.directory / SUMMARY), f"report: {page}")


def _rewritten(config: Report) -> Path:
    path = config.directory / SUMMARY
    summary = read_json(path) if path.exists() else {}
    if summary.get("method") != THROUGH:
        from hyperface_jax.reports.pack import write_report

        return write_report(config.directory, threshold=config.threshold)
    if config.threshold is not None:
        raise InputError(f"`threshold`: {path} is of a packing through a generator; leave it out")
    from hyperface_jax.reports.through import write_through_report

    return write_through_report(config.directory, summary)
