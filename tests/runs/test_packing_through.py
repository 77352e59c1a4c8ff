"""``runs.pack`` through a generator: rounds of packing, drawing and learning."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.io.files import read_json
from hyperface_jax.runs.packing.through import cost, num_images
from hyperface_jax.runs.synthesis import stage as synthesis

SYNTHESIS = Path(__file__).parents[1] / "synthesis"
FACES = Path(__file__).parents[1] / "faces"


def _recognizer(path, size, dim):
    pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    arrays = {
        "matrix": rng.normal(size=(4 * 8 * 8, dim)).astype(np.float32),
        "bias": rng.normal(size=dim).astype(np.float32),
    }
    write = runpy.run_path(str(FACES / "tiny_onnx.py"))["write"]
    return write(path / "tiny.onnx", size=size, **arrays)


@pytest.fixture(autouse=True)
def with_the_fake_generator(monkeypatch):
    monkeypatch.syspath_prepend(str(SYNTHESIS))


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("through")
    rows = np.random.default_rng(1).standard_normal((30, 12)).astype(np.float32)
    np.save(tmp_path / "gallery.npy", rows)
    recognizer = _recognizer(tmp_path, 16, 12)

    def make(**changes):
        chosen = {
            "num_ids": 8,
            "gallery": tmp_path / "gallery.npy",
            "steps": 20,
            "through": "fake_generator:FAKE",
            "recognizer": recognizer,
            "rounds": 1,
            "probe_images": 2,
            "candidates": 2.0,
            "learning_steps": 50,
            "crop": "none",
            "devices": 1,
            "out": tmp_path / "whole",
        }
        return runs.Pack(**(chosen | changes))

    return make


def test_a_result_has_identities_and_the_figures_of_their_faces(settings):
    said = []
    result = runs.pack(settings(), watch=runs.Watch(say=said.append))
    assert any("draws 64 images" in line for line in said)
    x = np.load(result.path / "embeddings.npy")
    assert x.shape == (8, 12)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    assert result.summary == read_json(result.path / "summary.json")
    assert [row["round"] for row in result.summary["rounds"]] == [0, 1]
    assert -1 <= result.summary["faces_mean_nearest_cosine"] <= 1
    assert f"{result.summary['faces_mean_nearest_cosine']:.4f}" in result.text
    page = (result.path / "report.html").read_text()
    assert f"{result.summary['faces_mean_nearest_cosine']:.4g}"[:5] in page
    assert "round 1" in page
    (result.path / "report.html").unlink()
    runs.report(runs.Report(directory=result.path))
    assert (result.path / "report.html").read_text() == page
    with pytest.raises(runs.InputError, match="threshold"):
        runs.report(runs.Report(directory=result.path, threshold=0.3))
    # They are among the conditions whose faces were drawn.
    drawn = np.concatenate([np.load(path) for path in result.path.glob("round-*/conditions.npy")])
    assert np.max(x @ drawn.T, axis=1).min() > 1 - 1e-6
    again = runs.pack(settings())
    assert again.summary == result.summary
    assert "already finished" in again.text


def test_a_run_that_stops_in_the_middle_of_a_round_goes_on_to_the_same_end(
    settings, tmp_path, monkeypatch
):
    whole = runs.pack(settings())
    calls = iter(range(100))
    run_shards = synthesis.run_shards

    def interrupted(*arguments, **more):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return run_shards(*arguments, **more)

    monkeypatch.setattr(synthesis, "run_shards", interrupted)
    with pytest.raises(runs.Stopped) as stopped:
        runs.pack(settings(out=tmp_path / "run"))
    assert stopped.value.path == tmp_path / "run"
    assert (tmp_path / "run" / "round-1" / "conditions.npy").exists()
    assert not (tmp_path / "run" / "summary.json").exists()
    result = runs.pack(settings(out=tmp_path / "run"))
    for name in ("embeddings.npy", "round-1/conditions.npy"):
        np.testing.assert_array_equal(np.load(result.path / name), np.load(whole.path / name))


def test_the_cost_is_that_of_all_rounds(settings):
    config = settings(num_ids=10_000, rounds=3, probe_images=2, candidates=2.0)
    assert num_images(config) == 2 * (10_000 * 4 + 20_000)
    assert "11.1 hours at 3 images/s" in cost(config)


def test_arc2face_can_be_packed_through(tmp_path):
    write = runpy.run_path(str(SYNTHESIS / "tiny_arc2face.py"))["write_tiny_arc2face"]
    model = write(tmp_path / "model")
    np.save(
        tmp_path / "gallery.npy",
        np.random.default_rng(0).standard_normal((8, 32)).astype(np.float32),
    )
    result = runs.pack(
        runs.Pack(
            num_ids=3,
            gallery=tmp_path / "gallery.npy",
            steps=10,
            through=str(model),
            recognizer=_recognizer(tmp_path, 16, 32),
            rounds=1,
            probe_images=2,
            candidates=0.0,
            learning_steps=20,
            devices=1,
            out=tmp_path / "run",
        )
    )
    assert np.load(result.path / "embeddings.npy").shape == (3, 32)
    assert result.summary["num_images"] == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recognizer": None}, "`through` needs `recognizer`"),
        ({"gallery": None, "dim": 12}, "`through` needs `gallery`"),
        ({"through": None}, "`recognizer` is for `through`"),
        ({"keep_out": Path("x.npy"), "keep_out_cosine": 0.5}, "`keep_out` does not go with"),
        ({"probe_images": 1}, "probe_images=1"),
        ({"rounds": -1}, "rounds=-1"),
        ({"through": "fake_generator:NONE"}, "cannot be imported"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, tmp_path, changes, message):
    with pytest.raises(runs.InputError, match=message):
        runs.pack(settings(out=tmp_path / "run", **changes))
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.draws_figures
def test_no_two_curves_of_the_rounds_look_alike():
    from hyperface_jax.reports.page import inline_svg
    from hyperface_jax.reports.through import rounds_plot

    names = ("nearest_faces", "nearest_conditions", "target_cosine", "within_cosine")
    rounds = [{"round": i, **dict.fromkeys(names, 0.1 * i)} for i in range(3)]
    figure = rounds_plot(rounds)
    assert "<svg" in inline_svg(figure, "rounds")
    lines = [line for axes in figure.axes for line in axes.lines]
    assert len({(line.get_color(), line.get_label()) for line in lines}) == len(names)
    assert len({line.get_color() for line in lines}) == len(names)
