"""The report of a closed loop: a self-contained HTML page."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.io.files import atomic_write_bytes, atomic_write_json, atomic_write_text
from hyperface_jax.io.images import encode
from hyperface_jax.reports.demo_plots import (
    accuracy_plot,
    leakage_plot,
    loss_plot,
    spread_plot,
)
from hyperface_jax.reports.page import Draw, both_sizes, data_uri, data_uris, render_page
from hyperface_jax.runs.demonstration import pictures
from hyperface_jax.runs.demonstration.arms import SYNTHETIC, TRAINED
from hyperface_jax.runs.demonstration.closed_loop import LEAKAGE, SYNTHESIS
from hyperface_jax.runs.demonstration.results import gather, training_curve

if TYPE_CHECKING:
    from hyperface_jax.runs.demonstration.closed_loop import ClosedLoop

REPORT, RESULTS, PERSONS = "report.html", "results.json", "persons.png"


def write_report(loop: ClosedLoop, seconds: dict[str, float]) -> dict[str, Any]:
    """Write ``results.json`` and ``report.html`` of a loop whose stages are done.

    Args:
        loop: the closed loop.
        seconds: time that each stage took in this process.

    Returns:
        The contents of ``results.json``.
    """
    found = gather(loop)
    persons = encode(pictures.persons_sheet(loop))
    atomic_write_bytes(loop.path / PERSONS, persons)
    page = render_page(
        "demo.html.j2",
        r=found,
        size={**asdict(loop.size), "crowd": loop.size.num_crowd},
        is_small=loop.size.is_small,
        seconds=seconds,
        figures=_figures(loop, found),
        gallery=data_uri(encode(pictures.gallery_sheet(loop))),
        persons=data_uri(persons),
        sheets={
            way: data_uri((loop.path / SYNTHESIS / way / "contact_sheet.png").read_bytes())
            for way in SYNTHETIC
        },
        ways=_WAYS,
        closest={way: data_uris(shown) for way, shown in pictures.closest_pairs(loop).items()},
        sheet_size=pictures.TILE,
        farthest=data_uris(pictures.off_target(loop)),
    )
    results = {**found, "seconds": seconds}
    atomic_write_json(loop.path / RESULTS, results)
    atomic_write_text(loop.path / REPORT, page)
    return results


_WAYS = {
    "packed": "Packed: our method, far apart and near the gallery",
    "paper": "Paper: Algorithm 1 of HyperFace",
    "unpacked": "Unpacked: random faces of the gallery",
}


def _figures(loop: ClosedLoop, found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    curves = {way: training_curve(loop, way) for way in TRAINED}
    with np.load(loop.path / LEAKAGE / "leakage.npz", allow_pickle=False) as archive:
        without, with_keep_out = archive["packed_before"], archive["keep-out_before"]
    draw: dict[str, Draw] = {
        "accuracy": lambda size: accuracy_plot(found["recognition"], size=size),
        "loss": lambda size: loss_plot(curves, size=size),
        "spread": lambda size: spread_plot(found["synthesis"], size=size),
        "leakage": lambda size: leakage_plot(without, with_keep_out, found["threshold"], size=size),
    }
    return both_sizes(draw)
