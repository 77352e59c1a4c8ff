import re
from itertools import combinations

import numpy as np
import pytest
from scipy.special import ndtri

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation import separation, verify_scores
from hyperface_jax.io.files import atomic_write_json
from hyperface_jax.reports.evaluation import write_evaluation_report
from hyperface_jax.reports.style import DARK, LIGHT, line_styles
from hyperface_jax.reports.verification import (
    det_plot,
    roc_plot,
    score_histogram,
    write_verification_report,
)

pytestmark = pytest.mark.draws_figures

pytest.importorskip("matplotlib")


def make_result(seed=0, num_pairs=2000):
    rng = np.random.default_rng(seed)
    is_same = rng.random(num_pairs) < 0.5
    return verify_scores(np.tanh(0.3 * rng.normal(size=num_pairs) + 0.6 * is_same), is_same)


@pytest.fixture(scope="module")
def result():
    return make_result()


@pytest.fixture(scope="module")
def results(result):
    return {"lfw": result.summary(), "cfp_fp": make_result(1).summary()}


@pytest.fixture
def perfect():
    is_same = np.arange(40) % 2 == 0
    return separation(0.75 * is_same, is_same).summary()


def lines_of(figure):
    (axes,) = figure.axes
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_histogram_shows_the_densities_of_both_kinds(results):
    figure = score_histogram(results["lfw"])
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("score", "density")
    impostor, _, genuine, _ = [patch.get_data() for patch in axes.patches]
    for drawn, name in ((impostor, "impostor"), (genuine, "genuine")):
        counts = np.asarray(results["lfw"]["histogram"][name])
        np.testing.assert_allclose(drawn.values / drawn.values.sum(), counts / counts.sum())
        assert np.sum(drawn.values * np.diff(drawn.edges)) == pytest.approx(1)
    first, second = legend_of(figure)
    assert first.startswith("impostor")
    assert second.startswith("genuine")


def test_the_roc_curves_carry_the_rates(results):
    figure = roc_plot(results)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("false accept rate", "true accept rate")
    assert {line.get_drawstyle() for line in axes.lines} == {"steps-post"}
    lines = lines_of(figure)
    assert list(lines) == legend_of(figure) == ["lfw", "cfp_fp"]
    for name, points in lines.items():
        expected = np.stack([results[name]["roc"]["far"], results[name]["roc"]["tar"]], axis=1)
        np.testing.assert_array_equal(points, expected[expected[:, 0] > 0])


def test_the_det_curves_carry_the_probits_and_rates_name_their_ticks(results):
    figure = det_plot(results)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("false accept rate", "false reject rate")
    points = lines_of(figure)["lfw"]
    expected = np.stack([results["lfw"]["det"][key] for key in ("far", "frr")], axis=1)
    np.testing.assert_array_equal(points, expected)
    for axis in (axes.xaxis, axes.yaxis):
        labels = [text.get_text() for text in axis.get_ticklabels()]
        rates = [float(label.removesuffix(" %")) / 100 for label in labels]
        assert len(rates) >= 3
        np.testing.assert_allclose(axis.get_ticklocs(), ndtri(rates))


def test_five_results_differ_in_color_and_in_dashes_and_25_in_one_of_them():
    for theme in (LIGHT, DARK):
        looks = [(style["color"], str(style["linestyle"])) for style in line_styles(25, theme)]
        assert len(set(looks)) == 25
        assert [len(set(parts)) for parts in zip(*looks[:5], strict=True)] == [5, 5]


# Machado, Oliveira and Fernandes 2009, severity 1, in linear RGB: no change, no green, no red.
VIEWS = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
    ]
)
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color):
    values = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    x = TO_XYZ @ np.clip(rgb, 0, 1) / TO_XYZ.sum(axis=1)
    x = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * x[1] - 16, 500 * (x[0] - x[1]), 200 * (x[1] - x[2])])


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_colors_of_lines_differ_also_without_red_or_green(theme):
    for view in VIEWS:
        seen = [lab(view @ linear(color)) for color in theme.lines]
        assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 25
    surface = 0.05 + TO_XYZ[1] @ linear(theme.surface)
    for color in theme.lines:
        ratio = (0.05 + TO_XYZ[1] @ linear(color)) / surface
        assert max(ratio, 1 / ratio) > 3


def test_a_result_without_errors_is_seen(perfect, results):
    (axes,) = roc_plot({"perfect": perfect}).axes
    assert axes.get_ylim()[1] > 1
    figure = det_plot({"perfect": perfect, **results})
    assert legend_of(figure)[0] == "perfect: no errors"
    (point,) = lines_of(figure)["perfect: no errors"]
    np.testing.assert_allclose(point, ndtri([1 / 20, 1 / 20]))
    assert figure.axes[0].lines[0].get_marker() == "o"


@pytest.mark.parametrize("num_pairs", [12, 20, 60])
def test_small_sets_have_ticks(num_pairs):
    small = {"small": make_result(3, num_pairs).summary()}
    for figure in (roc_plot(small), det_plot(small)):
        figure.draw_without_rendering()
        (axes,) = figure.axes
        for axis, (low, high) in (
            (axes.xaxis, axes.get_xlim()),
            (axes.yaxis, axes.get_ylim()),
        ):
            assert sum(low <= place <= high for place in axis.get_ticklocs()) >= 2


def test_the_legend_covers_no_curve(results):
    for figure in (score_histogram(results["lfw"]), roc_plot(results), det_plot(results)):
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert not box.overlaps(figure.axes[0].get_window_extent())
        assert 0 <= box.x0 < box.x1 <= figure.canvas.get_width_height()[0]


def test_a_report_is_one_file_a_benchmark_and_two_for_all(tmp_path, results, perfect):
    paths = write_verification_report(tmp_path, {**results, "a/b $x$": perfect})
    assert sorted(path.name for path in paths) == [
        "det.png",
        "roc.png",
        "scores-a_b__x_.png",
        "scores-cfp_fp.png",
        "scores-lfw.png",
    ]
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.mark.parametrize("draw", [roc_plot, det_plot])
def test_no_results_are_an_error(draw):
    with pytest.raises(InputError, match="results: none"):
        draw({})


def test_names_that_give_one_file_are_refused(tmp_path, results):
    clash = {"a b": results["lfw"], "a/b": results["lfw"]}
    with pytest.raises(InputError, match="two names give one file"):
        write_verification_report(tmp_path, clash)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("noise", [0.0, 1e-16, 1e-9])
def test_scores_that_are_all_alike_are_drawn(tmp_path, noise):
    is_same = np.arange(40) % 2 == 0
    scores = 1 + noise * np.random.default_rng(0).normal(size=40)
    plain = separation(scores, is_same).summary()
    assert sum(plain["histogram"]["genuine"]) == 20
    atomic_write_json(tmp_path / "result.json", plain)
    assert len(write_verification_report(tmp_path, {"lfw": plain})) == 3


def test_the_page_shows_the_benchmarks_and_only_rates_that_one_of_them_can_tell(tmp_path, results):
    summary = {
        "model": "<model>",
        "model_sha256": "0",
        "color": "rgb",
        "image_size": 112,
        "embedding_dim": 512,
        "is_flip_fused": True,
        "benchmarks": {name: {"num_pairs": 2000, **row} for name, row in results.items()},
        "mean": {"accuracy": 0.8},
        "device": "cpu",
        "versions": {},
    }
    page = write_evaluation_report(tmp_path, summary).read_text()
    assert page.count("<svg") == 4
    assert "&lt;model&gt;" in page
    assert "<model>" not in page
    assert f"{100 * results['lfw']['accuracy']:.3f} %" in page
    told = {far for row in results.values() for far, tar in row["tar_at_far"].items() if tar}
    heads = set(re.findall(r"<td>TAR@([^<]+)</td>", page))
    assert told <= heads < results["lfw"]["tar_at_far"].keys()
    assert "src=" not in page
