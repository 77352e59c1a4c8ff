"""``runs.compare``: means and errors of repetitions, one page, and what cannot be compared."""

import json
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.evaluation import verify_scores
from hyperface_jax.io.files import (
    atomic_save_npz,
    atomic_write_json,
    atomic_write_jsonl,
    read_json,
)
from hyperface_jax.reports.comparison import dots_plot

pytestmark = pytest.mark.draws_figures

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

N = 50


def write_pack(folder, max_cosine, gallery=0.5):
    folder.mkdir()
    nearest = np.linspace(max_cosine - 0.1, max_cosine, N).astype(np.float32)
    summary = {
        "num_ids": N,
        "dim": 8,
        "method": "annealed",
        "steps": 1,
        "seed": 0,
        "max_cosine": max_cosine,
        "mean_nearest_cosine": float(nearest.mean()),
        "min_angle_deg": 60.0,
        "lower_bound": 0.1,
        "lower_bound_name": "Levenshtein",
        "gap": max_cosine - 0.1,
        "gallery_mean_cosine": gallery,
        "gallery_min_cosine": gallery,
        "keep_out_violations": None,
        "seconds": 1.0,
        "pairs_per_second": None,
        "device": "cpu",
        "versions": {},
    }
    atomic_write_json(folder / "summary.json", summary)
    atomic_write_json(folder / "config.json", {})
    atomic_write_jsonl(folder / "history.jsonl", [{"step": 0, "max_cosine": max_cosine}])
    atomic_save_npz(folder / "diagnostics.npz", nearest_before=nearest, nearest_after=nearest)


def write_evaluation(folder, seed, digest="same"):
    folder.mkdir()
    rng = np.random.default_rng(seed)
    is_same = np.arange(400) % 2 == 0
    result = verify_scores(np.tanh(0.3 * rng.normal(size=400) + 0.5 * is_same), is_same)
    found = {"file_sha256": digest, **result.summary()}
    benchmarks = {"lfw": found, "cfp_fp": found}
    mean = {"accuracy": found["accuracy"]}
    atomic_write_json(folder / "evaluation.json", {"benchmarks": benchmarks, "mean": mean})


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in (("a-0", 0.30), ("a-1", 0.34), ("b-0", 0.50)):
        write_pack(Path(name), value)
    for name, seed in (("r-0", 0), ("r-1", 1), ("s-0", 2)):
        write_evaluation(Path(name), seed)
    write_evaluation(Path("other"), 3, "another file")


def settings(*names, **changes):
    paths = tuple(map(Path, names))
    return runs.Compare(**{"directories": paths, "out": Path("out"), **changes})


def test_runs_of_one_label_are_their_mean_and_its_error(folders, capsys):
    labels = ("ours", "ours", "theirs")
    config = settings("a-0", "a-1", "b-0", label=labels, threshold=(0.32,))
    result = runs.compare(config)
    assert result.summary == read_json(Path("out/comparison.json"))
    ours, theirs = (result.summary["groups"][label] for label in ("ours", "theirs"))
    assert (ours["num_runs"], theirs["num_runs"]) == (2, 1)
    assert ours["mean"]["max_cosine"] == pytest.approx(0.32)
    assert ours["error"]["max_cosine"] == pytest.approx(0.02)
    assert theirs["error"]["max_cosine"] is None
    with np.load("a-1/diagnostics.npz") as archive:
        share = float(np.mean(archive["nearest_after"] > 0.32))
    assert 0 < share < 1
    assert result.summary["runs"][1]["above 0.32"] == share
    assert ours["mean"]["above 0.32"] == pytest.approx(share / 2)
    assert "0.3200 ± 0.0200" in result.text
    page = Path("out/report.html").read_text()
    assert page.count("<svg") == 4
    assert "0.3200 ± 0.0200" in page
    assert "threshold 0.3200" in page
    assert "http" not in page.replace("http-equiv", "")
    assert capsys.readouterr() == ("", "")


def test_evaluations_are_compared_on_the_same_benchmarks(folders):
    result = runs.compare(settings("r-0", "r-1", "s-0", label=("r", "r", "s")))
    values = [
        read_json(Path(name) / "evaluation.json")["mean"]["accuracy"] for name in ("r-0", "r-1")
    ]
    assert result.summary["groups"]["r"]["mean"]["mean accuracy"] == pytest.approx(np.mean(values))
    assert result.summary["groups"]["s"]["mean"]["TAR@1e-03/lfw"] is None
    page = Path("out/report.html").read_text()
    assert page.count("<svg") == 4
    assert "standard error" in page


def test_without_labels_each_run_stands_by_itself(folders):
    result = runs.compare(settings("a-0", "b-0"))
    assert list(result.summary["groups"]) == ["a-0", "b-0"]
    assert "nothing tells how much of a difference is chance" in Path("out/report.html").read_text()


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["a-0"], {}, "`directories`: two or more"),
        (["a-0", "a-0"], {}, "a-0: is given twice"),
        (["a-0", "a-1"], {"label": ("x",)}, "`label`: 1 labels for 2 runs"),
        (["a-0", "r-0"], {}, "r-0: is of evaluate, and a-0 of pack"),
        (["a-0", "gone"], {}, "gone: holds no finished run"),
        (["a-0", "a-1"], {"threshold": (1.5,)}, r"`threshold=1\.5`"),
        (["r-0", "r-1"], {"threshold": (0.5,)}, "`threshold`: is for runs of pack"),
        (["r-0", "other"], {}, "other: was not measured on the benchmarks of r-0"),
        (["a-0", "a-1"], {"out": Path("b-0")}, "b-0: holds files of something else"),
    ],
)
def test_what_cannot_be_compared_is_named_and_nothing_is_written(folders, names, changes, message):
    with pytest.raises(runs.InputError, match=message):
        runs.compare(settings(*names, **changes))
    assert not Path("out").exists()


def test_a_damaged_evaluation_is_named(folders):
    path = Path("r-1/evaluation.json")
    path.write_text(json.dumps({"benchmarks": {"lfw": {}}}))
    with pytest.raises(runs.InputError, match=r"evaluation\.json: lacks 'accuracy'; run evaluate"):
        runs.compare(settings("r-0", "r-1"))


def test_dots_of_labels_stand_side_by_side_with_their_errors():
    groups = {
        "a": {"num_runs": 3, "mean": {"x": 0.1, "y": 0.2}, "error": {"x": 0.01, "y": 0.02}},
        "b": {"num_runs": 1, "mean": {"x": 0.1, "y": 0.2}, "error": {"x": None, "y": None}},
    }
    (axes,) = dots_plot(groups, {"x": "x", "y": "y"}, "Title").axes
    first, second = axes.containers
    assert not set(first[0].get_xdata()) & set(second[0].get_xdata())
    assert not second[2]
    (bars,) = first[2]
    heights = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
    assert heights == pytest.approx([0.02, 0.04])
