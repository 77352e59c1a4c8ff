"""``runs.frontier`` from Python: its packings, its rule, stopping and extending, bad input."""

import logging
import re
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.io.files import read_json
from hyperface_jax.packing import LocalSpan, NearestRow
from hyperface_jax.packing.figures import nearness_among
from hyperface_jax.reports.frontier import frontier_plot
from hyperface_jax.reports.page import inline_svg
from hyperface_jax.reports.style import LIGHT
from hyperface_jax.runs.alpha_frontier import recommend

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

STEPS = 200
"""Two chunks, so that a packing can stop halfway."""


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    """Rows near a three-dimensional subspace: nearness and separation are at odds. One is repeated."""
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(60, 8)) * np.r_[np.ones(3), np.full(5, 0.1)]
    rows[1] = rows[0]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    np.save("faces.npy", rows)
    np.save("few.npy", rows[:4])
    return rows


def settings(**changes):
    given = {"num_ids": 24, "gallery": Path("faces.npy"), "steps": STEPS, "alpha": (0.0, 4.0)}
    given["init"] = "uniform"  # the quickest to compile
    return runs.Frontier(**(given | {"out": Path("out"), "devices": 1} | changes))


def stopping_after(count):
    asked = iter(range(1, 10**9))

    @contextmanager
    def stopping():
        yield lambda: next(asked) >= count

    return stopping


def test_a_frontier_stops_in_its_second_packing_goes_on_and_grows(gallery, caplog):
    said, warned = [], []
    watch = runs.Watch(say=said.append, warn=warned.append)
    stopped = runs.Watch(warn=print, stopping=stopping_after(3))
    with (
        jax.log_compiles(),
        caplog.at_level(logging.WARNING, logger="jax"),
        pytest.raises(runs.Stopped, match=r"^out: stopped and saved"),
    ):
        runs.frontier(settings(), watch=stopped)
    compiled = re.findall(r"Finished XLA compilation of jit\((\w+)\)", caplog.text)
    # One program, whatever alpha is.
    assert compiled.count("advance") == 1
    assert not Path("out/summary.json").exists()

    summary = runs.frontier(settings(), watch=watch).summary
    assert any(line.startswith("out/alpha-4-neighbors-1: resuming at step") for line in said)
    assert warned == ["faces.npy: 1 rows repeat an earlier row"]
    assert summary == read_json(Path("out/summary.json"))
    none, strong = summary["points"]
    assert none["max_cosine"] < strong["max_cosine"]
    assert none["nearness"] < strong["nearness"]
    # With one neighbor nearness is that to the nearest row, which pack reports too.
    assert strong["nearness"] == pytest.approx(strong["gallery_mean_cosine"], abs=1e-5)

    wider = runs.frontier(settings(alpha=(16.0, 4.0)), watch=watch)
    assert wider.summary["points"][0] == strong
    assert wider.summary["recommended"]["folder"] == "out/alpha-16-neighbors-1"
    assert [line.endswith("<- recommended") for line in wider.text.splitlines()[:3]] == [0, 0, 1]
    page = Path("out/report.html").read_text()
    assert "--embeddings out/alpha-16-neighbors-1 --generator" in page
    with pytest.raises(runs.InputError, match=r"other settings: seed \(0 there, 1 now\)"):
        runs.frontier(settings(seed=1), watch=watch)


def test_the_nearness_of_a_gallery_leaves_each_row_out(gallery):
    cosines = gallery @ gallery.T
    np.fill_diagonal(cosines, -1)
    found = nearness_among(jax.numpy.asarray(gallery), manifold=NearestRow())
    np.testing.assert_allclose(found, cosines.max(axis=1), atol=1e-5)
    assert found[0] == pytest.approx(1, abs=1e-5)  # the repeated row

    spans = nearness_among(jax.numpy.asarray(gallery), manifold=LocalSpan(2, ridge=0), num_rows=5)
    for i in range(5):
        basis, _ = np.linalg.qr(gallery[np.argsort(-cosines[i])[:2]].T)
        if i > 1:  # the span of two equal rows has no basis
            assert spans[i] == pytest.approx(np.linalg.norm(basis.T @ gallery[i]), abs=1e-4)


def _points(*rows):
    names = ("neighbors", "alpha", "max_cosine", "nearness")
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_the_rule_takes_the_farthest_apart_of_those_that_are_near_enough():
    points = _points((1, 0.5, 0.1, 0.6), (1, 2, 0.3, 0.9), (4, 0.5, 0.05, 0.5), (4, 2, 0.25, 0.95))
    assert recommend(points, 0.8) == (3, True, (0.79, 1.3))
    # Nothing is near enough: the nearest one, and larger values to try.
    assert recommend(points, 0.99) == (3, False, (4, 8))
    # The smallest alpha is near enough already: smaller values to try, unless it is 0.
    assert recommend(points[3:], 0.8) == (0, True, (0.5, 1))
    assert recommend(_points((1, 0, 0.1, 0.9)), 0.8) == (0, True, ())
    # The next smaller alpha is so close that there is nothing to add.
    assert recommend(_points((1, 2, 0.3, 0.7), (1, 2.5, 0.4, 0.9)), 0.8) == (1, True, ())


@pytest.mark.draws_figures
def test_the_plot_names_alphas_rule_and_threshold():
    rows = _points((1, 0.5, 0.1, 0.6), (1, 2, 0.3, 0.9), (4, 0.5, 0.05, 0.5), (4, 2, 0.25, 0.95))
    points = [row | {"mean_nearest_cosine": row["max_cosine"] - 0.01} for row in rows]
    summary = {"points": points, "recommended": {"chosen": 3}, "needed_nearness": 0.8}
    figure = frontier_plot(summary | {"neighbors": 4, "threshold": 0.2})
    assert "<svg" in inline_svg(figure, "frontier")
    upper, lower = figure.axes
    assert [text.get_text() for text in upper.texts] == ["0.5", "2", "0.5", "2"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "packed near the nearest gallery row",
        "packed near the span of the nearest 4 gallery rows",
        "recommended",
        "near enough up to 36.9°",
        "threshold 0.2000",
    ]
    looks = {(line.get_color(), line.get_linestyle()) for line in upper.lines[:2]}
    assert len(looks) == 2
    assert "span of the nearest 4" in lower.get_xlabel()
    left, right = lower.get_xlim()
    assert left > 60 > 18.2 > right > 0  # degrees, the nearer the farther to the right
    far = frontier_plot(summary | {"neighbors": 4, "threshold": 0.9})
    assert not any(
        line.get_color() == LIGHT.warning and line.get_linestyle() == ":"
        for line in far.axes[0].lines
    )
    assert len(far.legends[0].get_texts()) == 4


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"alpha": ()}, "`alpha`: has no values; give one or more"),
        ({"alpha": (1.0, 2.0, 1)}, "`alpha`: 1 is given twice"),
        ({"alpha": (1.0, -1.0)}, "`alpha=-1.0`: must be 0 or more"),
        ({"neighbors": (0,)}, "`neighbors=0`: must be at least 1"),
        (
            {"neighbors": (1, 4), "gallery": Path("few.npy")},
            "few.npy: has 4 rows, but each is meas",
        ),
        ({"keep_out_cosine": 0.4}, "`keep_out` and `keep_out_cosine` go together"),
        ({"gallery": Path("none.npy")}, "none.npy: cannot read"),
    ],
)
def test_bad_input_names_the_field(gallery, changes, culprit):
    with pytest.raises(runs.InputError, match=culprit):
        runs.frontier(settings(**changes), watch=runs.Watch(warn=print))
    assert not Path("out").exists()
