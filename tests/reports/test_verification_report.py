import numpy as np
import pytest
from scipy.special import ndtri

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation import separation, verify_scores
from hyperface_jax.io.files import atomic_write_json
from hyperface_jax.reports.verification import (
    det_plot,
    roc_plot,
    score_histogram,
    write_verification_report,
)

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
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


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


def test_many_results_differ_in_color_or_dashes(results):
    many = {f"set {i}": results["lfw"] for i in range(12)}
    (axes,) = roc_plot(many).axes
    looks = {(line.get_color(), str(line.get_linestyle())) for line in axes.lines}
    # Matplotlib calls both kinds of dashes by one name.
    assert len(looks) == 10


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
