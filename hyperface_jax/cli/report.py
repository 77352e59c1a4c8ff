"""``hyperface report``: draw a finished run again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Report:
    """Write report.html of a finished run again."""

    directory: tyro.conf.Positional[Path]
    """Run directory."""

    def run(self) -> int:
        """Write the page and print where it is."""
        from hyperface_jax.reports.pack import write_report

        print(f"report: {write_report(self.directory)}")
        return 0
