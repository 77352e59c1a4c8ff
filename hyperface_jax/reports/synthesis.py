"""The report on a data set of drawn faces: a self-contained HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperface_jax.io.files import plain_json
from hyperface_jax.reports.page import data_uri, data_uris, write_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Shown = Sequence[tuple[str, bytes]]


def write_synthesis_report(
    folder: Path,
    summary: Mapping[str, Any],
    *,
    settings: Mapping[str, Any],
    command: str,
    sheet: bytes,
    farthest: Shown = (),
    closest: Shown = (),
) -> Path:
    """Write the ``report.html`` page of a data set.

    Args:
        folder: an existing folder for the page.
        summary: the contents of summary.json, as ``hyperface synthesize`` writes it.
        settings: the settings that the images depend on.
        command: the command line.
        sheet: the contact sheet, a PNG file.
        farthest: captions and PNG files of the images that are farthest from their targets.
        closest: captions and PNG files of the pairs of identities that are closest.

    Returns:
        The path of the page.

    Raises:
        InputError: the page cannot be written, or a library of the ``cli`` extra is not installed.
    """
    return write_page(
        folder,
        "synthesize.html.j2",
        s=plain_json(summary),
        settings_of_run=plain_json(settings),
        command=command,
        title=folder.resolve().name,
        sheet_uri=data_uri(sheet),
        farthest=data_uris(farthest),
        closest=data_uris(closest),
    )
