"""The histograms of leakage and diversity: whole counts, and a legend that covers no bar."""

import numpy as np
import pytest

from hyperface_jax.reports.leakage import cosine_histogram
from hyperface_jax.reports.style import NARROW, WIDE

pytestmark = pytest.mark.draws_figures

pytest.importorskip("matplotlib")


def found(cosines):
    counts, edges = np.histogram(cosines, 20)
    return {
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "mean_cosine": float(np.mean(cosines)),
        "max_cosine": float(np.max(cosines)),
    }


def drawn(cosines, size=WIDE):
    figure = cosine_histogram(found(cosines), "Cosines", size=size)
    figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize("cosines", [[0.1], [0.1, 0.5, 0.9], [0.3] * 5 + [0.4]])
def test_few_rows_have_whole_ticks_each_once(cosines):
    (axes,) = drawn(cosines).axes
    low, high = axes.get_ylim()
    ticks = [t for t in axes.get_yticks() if low <= t <= high]
    assert all(tick == round(tick) for tick in ticks)
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert len(labels) == len(set(labels)) > 1


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_legend_lies_outside_the_panel_and_inside_the_figure(size):
    figure = drawn([0.1, 0.5, 0.9], size)
    box = figure.legends[0].get_window_extent()
    assert not box.overlaps(figure.axes[0].get_window_extent())
    assert 0 <= box.x0 < box.x1 <= figure.canvas.get_width_height()[0]
