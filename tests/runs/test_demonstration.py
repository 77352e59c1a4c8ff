"""The demonstration to its report: all files, every stage stopped and resumed, the same again."""

import json
import re
import shutil
from contextlib import chdir, contextmanager
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.runs.demonstration import pictures, stages
from hyperface_jax.runs.demonstration.arms import DRAWN, TRAINED, Arm
from hyperface_jax.runs.demonstration.closed_loop import (
    EVALUATION,
    GALLERY,
    LEAKAGE,
    PACKING,
    RECOGNITION,
    SYNTHESIS,
)
from hyperface_jax.runs.demonstration.estimate import MEASURED, estimate, in_words
from hyperface_jax.runs.demonstration.report import write_report
from hyperface_jax.runs.demonstration.settings import Demo, folder_of, size_of
from hyperface_jax.runs.demonstration.sizes import DEFAULT, FULL, QUICK
from hyperface_jax.runs.demonstration.stage import open_loop

pytestmark = pytest.mark.in_order
ROOT = Path(__file__).parents[2]
SMALL = {
    "quick": True,
    "num_ids": 6,
    "images_per_id": 4,
    "gallery": 64,
    "epochs": 2,
    "pairs": 40,
    "test_ids": 12,
    "reference_ids": 64,
}
SETS = ("easy", "cross-pose", "cross-age", "frontal-profile", "mixed")
FOLDERS = (GALLERY, PACKING, SYNTHESIS, RECOGNITION, EVALUATION, LEAKAGE)
LAST = len(FOLDERS)
PAGE = ("results.json", "persons.png", "report.html")
EXPECTED = [
    "1-gallery/gallery.npz",
    "1-gallery/reference.npz",
    "1-gallery/threshold.json",
    *(f"1-gallery/faces/{i:06d}.png" for i in range(64)),
    *(
        f"2-packing/{w}/{f}"
        for w in DRAWN
        for f in ("embeddings.npy", "summary.json", "report.html")
    ),
    *(f"3-synthesis/{w}/shards/shard-000000.tar" for w in DRAWN),
    *(
        f"3-synthesis/{w}/{f}"
        for w in DRAWN
        for f in ("manifest.parquet", "README.md", "contact_sheet.png", "summary.json")
    ),
    *(f"4-recognition/{w}/{f}" for w in TRAINED for f in ("model.safetensors", "summary.json")),
    *(f"5-evaluation/sets/{name}/{name}.txt" for name in SETS),
    *(f"5-evaluation/{w}/{f}" for w in TRAINED for f in ("evaluation.json", "all_pairs.json")),
    "6-leakage/leakage.json",
    "6-leakage/leakage.npz",
]
REPEATABLE = (".png", ".tar", ".safetensors", ".npz", ".npy")
FOREIGN = re.compile(r"^[IWEF]\d{4} |^WARNING|Warning:|SIGILL|Traceback", re.MULTILINE)


def settings(out, **changes):
    return Demo(out=out, **{**SMALL, **changes})


class Undisturbed:
    """A demonstration that is never stopped, and goes as far as a test needs it."""

    def __init__(self, folder):
        self.loop, self.done = open_loop(settings(folder / "demo")), 0

    def until(self, number):
        for stage in [*stages.STAGES.values()][self.done : number]:
            stage(self.loop, runs.Watch())
            self.done += 1
        return self.loop

    def copy_before(self, number, folder):
        """Copy what there was before the stage of that number."""
        self.until(number - 1)
        loop = open_loop(settings(folder / "demo"))
        for name in FOLDERS[: number - 1]:
            shutil.copytree(self.loop.path / name, loop.path / name)
        return loop


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def finished(undisturbed):
    loop = undisturbed.until(LAST)
    if not (loop.path / "report.html").exists():
        write_report(loop, dict.fromkeys(stages.STAGES, 1.0))
    return loop


def interrupted(start, number):
    """Return a watch that raises as a run says so many times what starts so."""
    said = []

    def say(text):
        said.extend([text] * text.startswith(start))
        if len(said) == number and said[-1] == text:
            raise KeyboardInterrupt

    return runs.Watch(say=say)


def stopped(number):
    """Return a watch that asks the run of that number, of those that can stop halfway, to stop."""
    entered = []

    @contextmanager
    def stopping():
        entered.append(None)
        count = len(entered)
        yield lambda: count == number

    return runs.Watch(stopping=stopping)


STOPS = {
    "make gallery": (interrupted("$ hyperface embed", 1), KeyboardInterrupt),
    "pack": (stopped(3), runs.Stopped),
    "synthesize": (stopped(2), runs.Stopped),
    "train": (stopped(3), runs.Stopped),
    "evaluate": (interrupted("$ hyperface evaluate", 3), KeyboardInterrupt),
}
"""In the middle of each of the stages that are made of others."""


@pytest.mark.parametrize("name", STOPS)
def test_a_stage_stopped_in_the_middle_ends_as_one_that_was_not(name, undisturbed, tmp_path, capfd):
    number = [*stages.STAGES].index(name) + 1
    loop, stage = undisturbed.copy_before(number, tmp_path), stages.STAGES[name]
    watch, error = STOPS[name]
    with pytest.raises(error):
        stage(loop, watch)
    stage(loop, runs.Watch())
    _assert_same(undisturbed.until(number), loop, number)
    out, err = capfd.readouterr()
    assert not out
    assert not FOREIGN.search(err)


def _assert_same(expected, loop, number):
    missing = [
        name for name in EXPECTED if name[0] == str(number) and not (loop.path / name).exists()
    ]
    assert not missing
    for path in (expected.path / FOLDERS[number - 1]).glob("**/*"):
        is_timed = path.name in ("training.png", "diagnostics.npz")
        if path.suffix in REPEATABLE and not is_timed:
            name = path.relative_to(expected.path)
            assert path.read_bytes() == (loop.path / name).read_bytes(), name


def test_leakage_stopped_in_the_middle_is_measured_anew(undisturbed, tmp_path, monkeypatch):
    loop = undisturbed.copy_before(LAST, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(stages, "atomic_write_json", _raise)
        with pytest.raises(KeyboardInterrupt):
            stages.measure_leakage(loop, runs.Watch())
    stages.measure_leakage(loop, runs.Watch())
    _assert_same(undisturbed.until(LAST), loop, LAST)


def _raise(*args, **kwargs):
    raise KeyboardInterrupt


def test_a_demonstration_that_is_stopped_names_its_own_folder(undisturbed, tmp_path):
    loop = undisturbed.copy_before(2, tmp_path)
    with pytest.raises(runs.Stopped, match="run the same again") as found:
        runs.demo(settings(loop.path), watch=stopped(1))
    assert found.value.path == loop.path


def test_a_finished_demonstration_gets_its_report_again(finished, monkeypatch):
    expected, said = json.loads((finished.path / "results.json").read_text()), []
    watch = runs.Watch(say=said.append)
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "persons_sheet", _raise)
        with pytest.raises(KeyboardInterrupt):
            runs.demo(settings(finished.path), watch=watch)
    said.clear()
    result = runs.demo(settings(finished.path), watch=watch)
    assert result.path == finished.path
    assert result.text == f"open {finished.path / 'report.html'} in a browser"
    assert result.summary == json.loads((finished.path / "results.json").read_text())
    assert list(result.summary.pop("seconds")) == list(stages.STAGES)
    del expected["seconds"]
    assert result.summary == expected
    _assert_told(said)


def _assert_told(said):
    """Check the order of what is said: each stage, its commands, and what they say at their end."""
    assert "on two idle cores" in said[0]
    assert MEASURED.machine in said[0]
    assert "too small to tell the ways apart" in said[1]
    heads = [text for text in said if text.startswith("\n==")]
    names = [*stages.STAGES, "report\n"]
    assert heads == [f"\n== {i} of 7: {name}" for i, name in enumerate(names, start=1)]
    place = next(i for i, text in enumerate(said) if text.startswith("$ hyperface pack"))
    assert "--num-ids 6" in said[place]
    assert "already finished" in said[place + 1]
    verbs = [text.split()[2] for text in said if text.startswith("$ ")]
    assert verbs == ["pack"] * 4 + ["synthesize"] * 4 + ["train"] * 4


def test_every_file_of_every_stage_is_there(finished):
    expected = ("demo.json", *EXPECTED, *PAGE)
    missing = [name for name in expected if not (finished.path / name).exists()]
    assert not missing


def test_the_report_shows_all_and_needs_nothing_else(finished):
    page = (finished.path / "report.html").read_text()
    for i, title in enumerate(
        ("Gallery", "Packing", "Synthesis", "Recognition", "Verification", "Leakage"), start=1
    ):
        assert f"<h2>{i} · {title}" in page
    assert page.count("<svg") == 8
    assert page.count('src="data:image/png;base64,') == page.count("<img") == 5
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert "too small to tell the ways apart" in page


def test_figures_are_those_of_the_stages(finished):
    found = json.loads((finished.path / "results.json").read_text())
    assert set(found["recognition"]) == set(TRAINED)
    for row in found["recognition"].values():
        assert set(row["accuracy"]) == set(SETS)
        assert row["mean_accuracy"] == pytest.approx(np.mean(list(row["accuracy"].values())))
    assert found["packing"]["keep-out"]["keep_out_violations"] == 0
    packed, unpacked = found["packing"]["packed"], found["packing"]["unpacked"]
    assert packed["mean_nearest_cosine"] < unpacked["mean_nearest_cosine"]
    assert unpacked["gallery_mean_cosine"] == pytest.approx(1, abs=1e-5)
    assert found["synthesis"]["unpacked"]["target_cosine"] > 0.5
    for kinds in found["leakage"].values():
        assert all(0 <= kinds[kind]["share_above"] <= 1 for kind in ("before", "after"))


# Settings, arms and folders


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    open_loop(settings(tmp_path / "demo"))
    with pytest.raises(runs.InputError, match=r"other settings: seed \(0 there, 1 now\)"):
        open_loop(settings(tmp_path / "demo", seed=1))
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(runs.InputError, match=r"mine\.txt.*no demo\.json"):
        open_loop(settings(tmp_path))
    with pytest.raises(runs.InputError, match="is a file; choose a folder"):
        open_loop(settings(tmp_path / "mine.txt"))


def test_a_demonstration_of_an_earlier_version_goes_on(tmp_path):
    out = tmp_path / "demo"
    loop = open_loop(settings(out))
    there = json.loads((out / "demo.json").read_text())
    there["neighbours"] = there.pop("neighbors")
    (out / "demo.json").write_text(json.dumps(there))
    assert open_loop(settings(out)) == loop
    with pytest.raises(runs.InputError, match=r"neighbors \(4 there, 2 now\)"):
        open_loop(settings(out, neighbors=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gallery": 1}, "`gallery=1`: must be 2 or more"),
        ({"neighbors": 0}, "`neighbors=0`: must be 1 or more"),
        ({"alpha": float("nan")}, "`alpha=nan`: must be 0 or more"),
        ({"seed": -1}, "`seed=-1`: must be between 0 and"),
        ({"full": True}, "`quick`, `full`: they exclude each other"),
    ],
)
def test_a_bad_setting_is_named_and_nothing_is_written(changes, message, tmp_path):
    with pytest.raises(runs.InputError, match=re.escape(message)):
        runs.demo(settings(tmp_path / "new", **changes))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "size", "folder"),
    [({"quick": True}, QUICK, "quick"), ({}, DEFAULT, "demo"), ({"full": True}, FULL, "full")],
)
def test_each_size_has_a_folder_of_its_own(words, size, folder, tmp_path):
    config = Demo(**words)
    assert folder_of(config) == Path("runs") / folder
    assert size_of(config) == size
    assert size.is_small == (size == QUICK)
    with chdir(tmp_path):
        open_loop(config)
    assert (tmp_path / "runs" / folder / "demo.json").exists()


def test_an_arm_changes_the_settings_that_it_names(tmp_path, monkeypatch):
    found = []

    def note(config, *, watch):
        found.append(config)
        return runs.Result(None, {}, "")

    monkeypatch.setattr(stages, "pack", note)
    monkeypatch.setattr(stages, "synthesize", note)
    loop = open_loop(settings(tmp_path / "demo"))
    arm = Arm(name="mine", num_ids=9, alpha=0.0, packing={"steps": 0}, synthesis={"beta": 0.5})
    stages.pack_arm(loop, arm, runs.Watch())
    stages.draw_arm(loop, arm, runs.Watch())
    packing, synthesis = found
    assert (packing.num_ids, packing.alpha, packing.neighbors) == (9, 0.0, loop.size.neighbors)
    assert (packing.steps, packing.seed, packing.gallery) == (0, 0, loop.gallery)
    assert (synthesis.beta, synthesis.images_per_id) == (0.5, loop.size.images_per_id)
    assert synthesis.embeddings == packing.out


# Times


def test_larger_worlds_take_longer():
    assert 30 < estimate(QUICK) < estimate(DEFAULT) < estimate(FULL)
    assert "minute" in in_words(estimate(QUICK))
    for size, seconds in ((QUICK, MEASURED.quick), (DEFAULT, MEASURED.default)):
        assert estimate(size) == pytest.approx(sum(seconds), abs=1)


def test_the_estimate_is_a_line_through_what_was_measured():
    paths = list((ROOT / "benchmarks" / "results").glob("*/demo.json"))
    if not paths:
        pytest.skip("python -m benchmarks.demo has not run on an idle machine")
    found = json.loads(paths[0].read_text())
    assert found["about"]["device"] == MEASURED.machine
    for name in ("quick", "default"):
        row = found["sizes"][name]
        measured = (*row["stages"].values(), row["rest"])
        assert getattr(MEASURED, name) == tuple(round(seconds, 1) for seconds in measured)
