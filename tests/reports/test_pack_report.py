import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.cli.main import parse
from hyperface_jax.errors import InputError
from hyperface_jax.io.files import (
    atomic_save_npz,
    atomic_write_json,
    atomic_write_jsonl,
    read_json,
)
from hyperface_jax.reports import page, plots
from hyperface_jax.reports.pack import write_report
from hyperface_jax.reports.plots import convergence_plot, gallery_histogram, nearest_histogram
from hyperface_jax.reports.style import DARK, LIGHT, NARROW, WIDE, number

pytestmark = pytest.mark.draws_figures

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

N, STEPS = 40, 300
HOSTILE = "<script>alert('x')</script> & \"$x^{$\""


def make_summary(**changes):
    summary = {
        "num_ids": N,
        "dim": 8,
        "method": "annealed",
        "steps": STEPS,
        "seed": 4294967295,
        "max_cosine": 0.25,
        "mean_nearest_cosine": 0.24,
        "min_angle_deg": 75.5225,
        "lower_bound": 0.125,
        "lower_bound_name": "Levenshtein",
        "gap": 0.125,
        "best_step": 290,
        "gallery_mean_cosine": 0.51,
        "gallery_min_cosine": 0.31,
        "keep_out_violations": None,
        "seconds": 83.0,
        "pairs_per_second": 5.21e9,
        "device": "cpu",
        "versions": {"jax": "0.10.1"},
    }
    return {**summary, **changes}


def make_history(gallery=True):
    return [
        {
            "step": i,
            "seconds": i / 10,
            "max_cosine": 0.25 + 0.7 * 0.97**i,
            "gallery_mean_cosine": 0.5 + 0.4 * 0.97**i if gallery else None,
        }
        for i in range(STEPS)
    ]


def make_diagnostics(gallery=True):
    rng = np.random.default_rng(0)
    names = ["nearest_before", "nearest_after"]
    names += ["gallery_before", "gallery_after"] if gallery else []
    return {name: rng.uniform(0.1, 0.25, N).astype(np.float32) for name in names}


def write_run(run, *, gallery=True, command="hyperface pack --num-ids 40", **changes):
    run.mkdir()
    if not gallery:
        changes = {"gallery_mean_cosine": None, "gallery_min_cosine": None, **changes}
    atomic_write_json(run / "summary.json", make_summary(**changes))
    atomic_write_json(run / "config.json", {"alpha": 0.5, "init": None, "command": command})
    atomic_write_jsonl(run / "history.jsonl", make_history(gallery))
    atomic_save_npz(run / "diagnostics.npz", **make_diagnostics(gallery))
    return run


@pytest.fixture
def make_run(tmp_path):
    return lambda **changes: write_run(tmp_path / "run", **changes)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Path of a report with every figure, written once."""
    return write_report(write_run(tmp_path_factory.mktemp("report") / "run"))


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the figures out of the page: rendering them takes nearly all of the time."""
    monkeypatch.setattr(page, "inline_svg", lambda figure, prefix: "")


class Page(HTMLParser):
    """Collect ids, attributes and text, and check that elements are closed in order."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, html):
        super().__init__()
        self.open, self.ids, self.attributes, self.text, self.tags = [], [], [], "", []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += " ".join(data.split()) + " "


def test_the_page_shows_the_run(report):
    assert report.name == "report.html"
    page = Page(report.read_text())
    for text in (
        "40 identities in 8 dimensions",
        "75.52° apart, at cosine 0.2500",
        "Largest cosine 0.2500",
        "Lower bound 0.1250 Levenshtein",
        "Cosine to gallery 0.5100",
        "Time 1 min 23 s cpu",
        "pairs per second 5.21 × 10⁹",
        "seed 4294967295",
        "init not set",
        "hyperface pack --num-ids 40",
        "jax 0.10.1",
        "Levenshtein bound 0.1250",
    ):
        assert text in page.text
    assert "keep out violations" not in page.text
    assert page.tags.count("svg") == 6


def test_the_page_needs_nothing_but_itself(report):
    html = report.read_text()
    assert html.startswith("<!doctype html>")
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert "http" not in html.replace("http-equiv", "")
    assert "@import" not in html
    targets = re.findall(r"url\(([^)]*)\)", html)
    targets += [
        value for _, name, value in page.attributes if name in {"href", "xlink:href", "src"}
    ]
    assert targets
    assert len(page.ids) == len(set(page.ids))
    assert {target.removeprefix("#") for target in targets} <= set(page.ids)


def test_the_figures_take_their_colors_from_the_page(report):
    html = report.read_text()
    figures = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert "var(--after)" in figures
    assert set(re.findall(r"#[0-9a-f]{6}\b", figures)) == set()
    for color in (*vars(LIGHT).values(), *vars(DARK).values()):
        assert color in html


def test_text_is_escaped(make_run):
    run = make_run(
        lower_bound_name=HOSTILE, device=HOSTILE, command=["pack", HOSTILE], note=HOSTILE
    )
    atomic_write_json(run / "config.json", {HOSTILE: HOSTILE, "command": ["pack", HOSTILE]})
    html = write_report(run).read_text()
    page = Page(html)
    assert "script" not in page.tags
    assert page.text.count("alert('x')") >= 6
    assert f"{HOSTILE} bound" in page.text


@pytest.mark.parametrize(
    ("changes", "present", "absent"),
    [
        ({"gallery": False}, "Gap to the bound 0.1250", "allery"),
        ({}, "out of reach for these", "Gap to the bound"),
        ({}, "Lower panel: higher", "near to the bound as possible"),
        ({"best_known": 0.2, "best_known_name": "x"}, "Lower bound", "Best construction"),
        ({"gallery": False, "best_known": 0.3, "best_known_name": "x"}, "Best c", "better than"),
        ({"gallery": False, "record": 0.3, "record_source": "a table"}, "Record", "new record"),
        ({"record": 0.3, "record_source": "a table"}, "Lower bound", "a table"),
        ({"gallery": False, "is_new_record": True}, "a new record", "better than"),
        (
            {"gallery": False, "num_frozen": 3},
            "also keep to the frozen points.",
            "Gap to the bound",
        ),
        ({"threshold": 0.2}, "identities lie above the verification threshold", "lies above"),
        ({"threshold": 0.99}, "0 of 40 identities lie above", "lies above"),
        ({"num_ids": 500}, "A panel that shows a sample", "lies"),
        ({"random_max_cosine": 0.4}, "drawn uniformly on the sphere", "Upper panel: Lower"),
        ({"keep_out_violations": 0}, "Keep-out violations 0", "protected"),
        ({"keep_out_violations": 1}, "1 of the identities lies within", "identities lie within"),
        ({"keep_out_violations": 12}, "12 of the identities lie within", "lies within"),
        ({"gallery": False, "gap": 2e-9}, "That is the lower bound itself", "can have a largest"),
        ({"command": None}, "Versions", "Command"),
        ({"best_step": None}, "can pass. Lower panel", "the dot"),
        ({"pairs_per_second": None}, "Result", "pairs per second"),
        ({"extra_field": [1, 2]}, "extra field [1, 2]", "None"),
    ],
)
def test_what_the_page_says_follows_the_run(make_run, undrawn, changes, present, absent):
    page = Page(write_report(make_run(**changes)).read_text())
    assert present in page.text
    assert absent not in page.text


def test_a_run_without_steps_has_no_convergence(make_run, undrawn):
    run = make_run(steps=0)
    atomic_write_jsonl(run / "history.jsonl", [])
    page = Page(write_report(run).read_text())
    assert "Convergence" not in page.text
    assert page.tags.count("figure") == 2


def test_a_better_code_comes_with_the_command_that_writes_it(make_run, undrawn):
    run = make_run(gallery=False, best_known=0.2, best_known_name="a code")
    page = Page(write_report(run).read_text())
    assert "a code, is better than this run" in page.text
    (words,) = re.findall(r"hyperface pack (--num-ids 40 --dim 8 .*?-code)", page.text)
    found = parse(["pack", *words.split()])
    assert (found.num_ids, found.dim, found.init, found.steps) == (40, 8, "code", 0)
    assert found.out.name == "run-code"


def test_a_threshold_can_be_given_to_a_finished_run(make_run, undrawn):
    run = make_run()
    result = runs.report(runs.Report(directory=run, threshold=0.2))
    nearest = make_diagnostics()["nearest_after"]
    count = np.count_nonzero(nearest > 0.2)
    assert f"{count} of 40 identities" in Page(result.path.read_text()).text
    with pytest.raises(InputError, match=r"`threshold=1\.5`: must be between -1 and 1"):
        runs.report(runs.Report(directory=run, threshold=1.5))


def test_a_torn_history_is_drawn(make_run, undrawn):
    run = make_run()
    with (run / "history.jsonl").open("a") as file:
        file.write('{"step": 300, "max_c')
    assert write_report(run).exists()


def test_writing_again_gives_the_same_page_and_no_global_state(report):
    first, settings = report.read_bytes(), dict(matplotlib.rcParams)
    report.unlink()
    assert write_report(report.parent).read_bytes() == first
    assert dict(matplotlib.rcParams) == settings


FILES = ("summary.json", "config.json", "history.jsonl", "diagnostics.npz")


def assert_refused(run, message):
    with pytest.raises(InputError) as caught:
        write_report(run)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    # The path of the run holds the name of the test, which may hold the message.
    assert re.search(message, text.replace(str(run), run.name))
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("name", FILES)
def test_missing_files(make_run, name):
    run = make_run()
    (run / name).unlink()
    assert_refused(run, rf"run: {name} is missing, so the run is not finished; run the same")


@pytest.mark.parametrize("name", FILES)
def test_damaged_files(make_run, name):
    run = make_run()
    content = (run / name).read_bytes()
    half = content[: len(content) // 2]
    (run / name).write_bytes(half + (b"\n{}\n" if name == "history.jsonl" else b""))
    assert_refused(run, rf"{name}: .*(not JSON|damaged|not a JSON)")


def test_missing_directory(tmp_path):
    assert_refused(tmp_path / "none", "none: no such run directory; check the path")


@pytest.mark.parametrize("field", sorted(make_summary().keys() - {"best_step"}))
def test_every_summary_field_is_needed(make_run, field):
    run = make_run()
    summary = read_json(run / "summary.json")
    del summary[field]
    atomic_write_json(run / "summary.json", summary)
    assert_refused(run, rf"summary\.json: field '{field}' is missing; delete the file and run")


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("max_cosine", None, "a number"),
        ("dim", "8", "a number"),
        ("steps", True, "a number"),
        ("seconds", [1], "a number"),
        ("gallery_mean_cosine", "x", "a number or null"),
        ("device", 3, "text"),
        ("versions", "1", "an object"),
    ],
)
def test_summary_fields_have_their_type(make_run, field, value, what):
    message = rf"summary\.json: field '{field}' is {re.escape(json.dumps(value))}, not {what}"
    assert_refused(make_run(**{field: value}), message)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"max_cosine": 0.1}, "line 2 needs the numbers 'step' and 'max_cosine'"),
        ({"step": 1}, "line 2 needs"),
        ({"step": 1, "max_cosine": "x"}, "line 2 needs"),
    ],
)
def test_bad_history_rows(make_run, row, message):
    run = make_run()
    atomic_write_jsonl(run / "history.jsonl", [{"step": 0, "max_cosine": None}, row])
    assert_refused(run, rf"history\.jsonl: {message}")


def test_an_empty_history_of_a_run_with_steps(make_run):
    run = make_run()
    atomic_write_jsonl(run / "history.jsonl", [])
    assert_refused(run, r"history\.jsonl: has no rows")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nearest_before": None}, "'nearest_before' is missing"),
        ({"gallery_after": None}, "'gallery_after' is missing"),
        ({"nearest_after": np.zeros((2, 2), np.float32)}, "'nearest_after' is not a row of floats"),
        ({"nearest_after": np.zeros(0, np.float32)}, "'nearest_after' is not a row of floats"),
        ({"nearest_after": np.arange(3)}, "'nearest_after' is not a row of floats"),
        ({"nearest_after": np.array([np.nan])}, "'nearest_after' has NaN"),
    ],
)
def test_bad_diagnostics(make_run, change, message):
    run = make_run()
    arrays = {**make_diagnostics(), **change}
    kept = {name: values for name, values in arrays.items() if values is not None}
    atomic_save_npz(run / "diagnostics.npz", **kept)
    assert_refused(run, rf"diagnostics\.npz: array {message}.*; run the packing again")


def test_pickled_diagnostics_are_not_loaded(make_run):
    run = make_run()
    np.savez(run / "diagnostics.npz", nearest_before=np.array([{}]), nearest_after=np.zeros(3))
    assert_refused(run, r"diagnostics\.npz: damaged \(Object arrays cannot be loaded")


# Figures


def texts(figure):
    return [item.get_text() for item in figure.findobj(matplotlib.text.Text)]


def test_convergence_draws_history_and_bound():
    history = make_history()
    figure = convergence_plot(history, make_summary())
    descent, gallery = figure.axes
    line, bound, dot = descent.lines
    np.testing.assert_array_equal(line.get_xdata(), np.arange(STEPS))
    np.testing.assert_array_equal(line.get_ydata(), [row["max_cosine"] for row in history])
    np.testing.assert_array_equal(bound.get_ydata(), [0.125, 0.125])
    assert dot.get_xdata() == [290]
    assert descent.get_ylim()[0] < 0.125
    np.testing.assert_array_equal(
        gallery.lines[0].get_ydata(), [row["gallery_mean_cosine"] for row in history]
    )
    assert "Levenshtein bound 0.1250" in texts(figure)


@pytest.mark.parametrize(("decay", "scale"), [(0.5, "symlog"), (0.99, "linear")])
def test_an_early_descent_is_drawn_on_a_log_axis(decay, scale):
    history = [{"step": i, "max_cosine": 0.2 + 0.7 * decay**i} for i in range(400)]
    figure = convergence_plot(history, make_summary())
    assert [axes.get_xscale() for axes in figure.axes] == [scale]
    assert ("logarithmic" in figure.axes[0].get_xlabel()) == (scale == "symlog")


@pytest.mark.parametrize(("known", "is_drawn"), [(0.2, True), (0.126, False), (1.5, False)])
def test_the_best_known_code_is_a_line_where_it_can_be_read(known, is_drawn):
    free = make_summary(best_known=known, gallery_mean_cosine=None)
    labels = levels(convergence_plot(make_history(), free))
    assert (f"best construction {known:.4f}" in labels) == is_drawn
    assert any(label.startswith("Levenshtein bound") for label in labels)
    held = levels(convergence_plot(make_history(), free | {"gallery_mean_cosine": 0.5}))
    assert not any("construction" in label for label in held)


def levels(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize(
    ("changes", "label", "is_drawn"),
    [
        ({"random_max_cosine": 0.6}, "random points 0.6000", True),
        ({"random_max_cosine": 1.1}, "random points 1.1000", True),
        ({"random_max_cosine": 2.0}, "random points 2.0000", False),
        ({"threshold": 0.391}, "threshold 0.3910", True),
        ({"threshold": 0.391, "random_max_cosine": 0.4}, "random points 0.4000", False),
    ],
)
def test_random_points_and_a_threshold_are_lines_inside_the_axis(changes, label, is_drawn):
    figure = convergence_plot(make_history(), make_summary(**changes))
    assert (label in levels(figure)) == is_drawn
    low, high = figure.axes[0].get_ylim()
    drawn = [line.get_ydata()[0] for line in figure.axes[0].lines[1:]]
    assert all(low < value < high for value in drawn)


def test_null_is_a_gap_in_the_line():
    history = [{"step": i, "max_cosine": None if i % 2 else 0.5} for i in range(6)]
    (axes,) = convergence_plot(history, make_summary()).axes
    np.testing.assert_array_equal(np.isnan(axes.lines[0].get_ydata()), [False, True] * 3)
    with pytest.raises(InputError, match="history: no row has a max_cosine"):
        convergence_plot([{"step": 0, "max_cosine": None}], make_summary())


@pytest.mark.parametrize("draw", [nearest_histogram, gallery_histogram])
def test_histograms_hold_every_identity(draw):
    before, after = np.random.default_rng(0).uniform(-0.2, 1, (2, 500)).astype(np.float32)
    figure = draw(before, after, make_summary())
    for axes, values in zip(figure.axes, (before, after), strict=True):
        outline = axes.patches[0].get_xy()
        edges, index = np.unique(outline[:, 0], return_index=True)
        counts = np.array([outline[outline[:, 0] == edge, 1].max() for edge in edges])
        assert edges[0] <= values.min()
        assert edges[-1] >= values.max()
        expected = np.histogram(values, edges)[0]
        assert expected.sum() == values.size
        assert counts.max() == expected.max()
        assert index.size == plots._NUM_BINS + 1


def test_start_and_result_that_are_the_same_are_one_panel():
    values = np.linspace(0, 0.2, 5, dtype=np.float32)
    (axes,) = nearest_histogram(values, values, make_summary(num_ids=5)).axes
    assert axes.get_title("left") == "Result, the same as the start"


def test_a_sample_says_of_how_many_identities_it_is():
    before, after = np.full(5, 0.2, np.float32), np.full(20, 0.1, np.float32)
    first, second = nearest_histogram(before, after, make_summary(num_ids=20)).axes
    assert first.get_title("left") == "Start, 5 of 20 identities"
    assert second.get_title("left") == "Result"


def test_counts_are_whole_and_each_once():
    values = np.array([0.1, 0.2, 0.3], np.float32)
    figure = nearest_histogram(values + 0.1, values, make_summary())
    figure.draw_without_rendering()
    for axes in figure.axes:
        labels = [text.get_text() for text in axes.get_yticklabels()]
        assert len(labels) == len(set(labels)) > 1


def test_histogram_marks():
    values = np.full(5, 0.2, np.float32)
    figure = nearest_histogram(values, values + 0.01, make_summary(threshold=0.3))
    for axes in figure.axes:
        assert [line.get_xdata()[0] for line in axes.lines] == [0.25, 0.125, 0.3]
    assert {"max 0.2500", "Levenshtein bound 0.1250", "threshold 0.3000"} <= set(texts(figure))
    figure = gallery_histogram(values, values, make_summary())
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [0.51]
    assert gallery_histogram(values, values, {}).axes[0].lines[:] == []


def boxes(figure):
    figure.draw_without_rendering()
    shown = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text().strip()]
    return {text.get_text(): text.get_window_extent() for text in shown if text.get_visible()}


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize(
    ("bound", "largest"), [(0.1, 0.2), (0.2, 0.2), (-1.0, 1.0), (0.199, 0.2), (0.999, 1.0)]
)
def test_labels_stay_inside_and_apart(size, bound, largest):
    summary = make_summary(
        lower_bound=bound, max_cosine=largest, lower_bound_name="Rankin orthoplex"
    )
    values = np.linspace(0.1, 0.9, 50)
    figure = nearest_histogram(values, np.full(50, largest), summary, size=size)
    extents = boxes(figure)
    labels = [extents[f"Rankin orthoplex bound {number(bound)}"]]
    labels += [extents[f"max {number(largest)}"], extents["Start"]]
    width, height = figure.canvas.get_width_height()
    for i, label in enumerate(labels):
        assert 0 <= label.x0 < label.x1 <= width
        assert 0 <= label.y0 < label.y1 <= height
        assert not any(label.overlaps(other) for other in labels[i + 1 :])
    assert all(axes.get_position().width > 0.75 for axes in figure.axes)


@pytest.mark.filterwarnings("error")
def test_degenerate_runs_can_be_drawn():
    summary = make_summary(max_cosine=-1.0, lower_bound=-1.0)
    one = np.array([-1.0], np.float32)
    for theme in (LIGHT, DARK):
        for figure in (
            nearest_histogram(one, one, summary, theme=theme),
            gallery_histogram(one, one, summary, theme=theme),
            convergence_plot([{"step": 0, "max_cosine": -1.0}], summary, theme=theme),
        ):
            figure.draw_without_rendering()
            assert matplotlib.colors.to_hex(figure.get_facecolor()) == theme.surface


def test_libraries_are_imported_late_and_pyplot_never():
    code = (
        "import sys, hyperface_jax.reports as r\n"
        "assert not {'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "r.convergence_plot([{'step': 0, 'max_cosine': 1}], {'lower_bound': 0,"
        " 'lower_bound_name': ''})\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_libraries_name_the_extra(make_run, monkeypatch):
    run = make_run()
    for library in ("matplotlib.figure", "jinja2"):
        page._environment.cache_clear()
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            assert_refused(run, r"need.*pip install '\.\[cli\]' in a checkout")
