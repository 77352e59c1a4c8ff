"""The demonstration to its report: all files, every stage stopped and resumed, the same again."""

import json
import re
import shutil
from contextlib import chdir, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.runs.demonstration import pictures, stage, stages
from hyperface_jax.runs.demonstration.arms import (
    DRAWN,
    FARTHEST_REAL,
    OF_PERSONS,
    REAL,
    TRAINED,
    Arm,
)
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
TIMED = ("training.png", "diagnostics.npz")
FOREIGN = re.compile(r"^[IWEF]\d{4} |^WARNING|Warning:|SIGILL|Traceback", re.MULTILINE)
QUIET = runs.Watch()
STEPS = (
    (GALLERY, ""),
    *((PACKING, way) for way in DRAWN),
    *((SYNTHESIS, way) for way in DRAWN),
    *((RECOGNITION, way) for way in TRAINED),
    (EVALUATION, "sets"),
    *((EVALUATION, way) for way in TRAINED),
    (LEAKAGE, ""),
)
"""Folders of what the stages leave, one after the other."""


def settings(out, **changes):
    return Demo(out=out, **{**SMALL, **changes})


def take(loop, folder, way):
    """Make what a folder holds, or one arm of it."""
    if folder == GALLERY:
        stages.make_gallery(loop, QUIET)
    elif folder == RECOGNITION:
        images_of = stages.real_images if way in OF_PERSONS else stages.drawn_images
        data = images_of(loop, way)
        stages.train_arm(loop, way, data, QUIET)
    elif folder == EVALUATION:
        stages.make_sets(loop) if way == "sets" else stages.evaluate_arm(loop, way, QUIET)
    elif folder == LEAKAGE:
        stages.measure_leakage(loop, QUIET)
    else:
        (arm,) = (arm for arm in stages.arms_of(loop) if arm.name == way)
        {PACKING: stages.pack_arm, SYNTHESIS: stages.draw_arm}[folder](loop, arm, QUIET)


class Undisturbed:
    """A closed loop that is never stopped, and goes as far as a test needs it."""

    def __init__(self, folder):
        self.folder, self.path, self.done = folder, folder / "demo", 0

    def until(self, number):
        """Take the steps up to a number, and return the closed loop."""
        # Runs keep the names of their files, which a copy elsewhere has too if they are relative.
        with chdir(self.folder):
            loop = open_loop(settings(Path("demo")))
            for step in STEPS[self.done : number]:
                take(loop, *step)
                self.done += 1
        return loop

    def copy(self, folder, *, without, way=""):
        """Copy it as it was after the stage of a folder, without that folder or one arm in it."""
        loop = self.until(1 + max(i for i, step in enumerate(STEPS) if step[0] == without))
        later = FOLDERS[FOLDERS.index(without) + 1 :]
        shutil.copytree(
            self.path, folder / "demo", ignore=lambda _, names: {*names} & {*later, *PAGE}
        )
        shutil.rmtree(folder / "demo" / without / way)
        return loop


@pytest.fixture(autouse=True, scope="module")
def small_batches():
    """The last batch is filled up, and there are few pairs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "Evaluate", partial(runs.Evaluate, batch_size=64))
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("number", range(len(STEPS)), ids=["-".join(step) for step in STEPS])
def test_each_step_leaves_its_files_and_prints_nothing(number, undisturbed, capfd):
    # What JAX says of the machine when it starts is not ours.
    jax.devices()
    capfd.readouterr()
    undisturbed.until(number + 1)
    start = "/".join(filter(None, STEPS[number]))
    expected = [name for name in EXPECTED if name.startswith(f"{start}/")]
    assert expected
    assert not [name for name in expected if not (undisturbed.path / name).exists()]
    out, err = capfd.readouterr()
    assert not out
    assert not FOREIGN.search(err)


def interrupted(start):
    """Return a watch that raises as the progress of a title that starts so is told."""

    @contextmanager
    def progress(title, unit, total, done=0):
        def update(done, figure="", /):
            if title.startswith(start):
                raise KeyboardInterrupt

        yield update

    return runs.Watch(progress=progress)


@contextmanager
def at_once():
    yield lambda: True


STOPPED = runs.Watch(stopping=at_once)
STOPS = {
    "pack": (PACKING, "paper", STOPPED, runs.Stopped),
    "synthesize": (SYNTHESIS, "keep-out", interrupted("drawing"), runs.Stopped),
}
"""Stages that are made of others: folder, arm that is not done yet, what stops it, how it ends.

That a training, an evaluation and a gallery go on is tested where they are."""


@pytest.mark.parametrize("name", STOPS)
def test_a_stage_stopped_in_the_middle_ends_as_one_that_was_not(name, undisturbed, tmp_path):
    folder, way, watch, error = STOPS[name]
    loop, stage_of = undisturbed.copy(tmp_path, without=folder, way=way), stages.STAGES[name]
    with chdir(tmp_path):
        with pytest.raises(error):
            stage_of(loop, watch)
        stage_of(loop, QUIET)
    _assert_same(undisturbed.path / folder, tmp_path / "demo" / folder)


def _assert_same(expected, found):
    names = [path.relative_to(expected) for path in expected.glob("**/*")]
    names = [name for name in names if name.suffix in REPEATABLE and name.name not in TIMED]
    assert names
    for name in names:
        assert (expected / name).read_bytes() == (found / name).read_bytes(), name


def test_leakage_stopped_in_the_middle_is_measured_anew(undisturbed, tmp_path, monkeypatch):
    loop = undisturbed.copy(tmp_path, without=LEAKAGE)
    with chdir(tmp_path):
        with monkeypatch.context() as patch:
            patch.setattr(stages, "atomic_write_json", _raise)
            with pytest.raises(KeyboardInterrupt):
                stages.measure_leakage(loop, QUIET)
        stages.measure_leakage(loop, QUIET)
    _assert_same(undisturbed.path / LEAKAGE, tmp_path / "demo" / LEAKAGE)


def _raise(*args, **kwargs):
    raise KeyboardInterrupt


def test_a_demonstration_that_is_stopped_names_its_own_folder(tmp_path, monkeypatch):
    def stop(loop, watch):
        raise runs.Stopped(loop.path / PACKING / "paper")

    monkeypatch.setattr(stage, "STAGES", {"pack": stop})
    with pytest.raises(runs.Stopped, match="run the same command") as found:
        runs.demo(settings(tmp_path / "demo"))
    assert found.value.path == tmp_path / "demo"


# The report


class Finished(NamedTuple):
    """A demonstration whose stages were done, what it said, and what it returned."""

    path: Path
    said: list[str]
    result: runs.Result


@pytest.fixture(scope="module")
def finished(undisturbed):
    loop, said = undisturbed.until(len(STEPS)), []
    with pytest.MonkeyPatch.context() as patch, chdir(undisturbed.folder):
        patch.setattr(pictures, "_PERSONS", 2)
        result = runs.demo(settings(loop.path), watch=runs.Watch(say=said.append))
    return Finished(undisturbed.path, said, result)


def test_a_report_that_is_stopped_leaves_none(undisturbed, monkeypatch):
    loop = undisturbed.until(len(STEPS))
    monkeypatch.setattr(pictures, "persons_sheet", _raise)
    with pytest.raises(KeyboardInterrupt), chdir(undisturbed.folder):
        write_report(loop, dict.fromkeys(stages.STAGES, 1.0))
    assert not [name for name in PAGE if (undisturbed.path / name).exists()]


def test_the_result_is_that_of_the_file(finished):
    assert finished.result.path == Path("demo")
    assert finished.result.text == "open demo/report.html in a browser"
    assert finished.result.summary == json.loads((finished.path / "results.json").read_text())
    assert list(finished.result.summary["seconds"]) == list(stages.STAGES)


def test_it_says_each_stage_its_commands_and_how_they_end(finished):
    said = finished.said
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
    assert verbs == ["pack"] * 4 + ["synthesize"] * 4 + ["train"] * 5


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
    assert page.count('src="data:image/png;base64,') == page.count("<img") == 5 + 3 * 6
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert "too small to tell the ways apart" in page
    assert "docs/toy-world.md" in page
    assert "64 × 64 pixels" in page
    assert "{{" not in page


def test_the_report_shows_the_pairs_that_are_closest(finished):
    page = (finished.path / "report.html").read_text()
    for way in ("unpacked", "packed"):
        start = page.index(f'aria-label="The closest pairs of the {way} identities"')
        shown = re.findall(r"<figcaption>(0\.\d+): identities (\d+) and (\d+)", page[start:])[:6]
        cosines = [float(cosine) for cosine, *_ in shown]
        assert cosines == sorted(cosines, reverse=True)
        largest = finished.result.summary["synthesis"][way]["nearest_after_max"]
        assert cosines[0] == pytest.approx(largest, abs=1e-3)
        assert all(one != other for _, one, other in shown)


def test_figures_are_those_of_the_stages(finished):
    found = json.loads((finished.path / "results.json").read_text())
    assert set(found["recognition"]) == set(TRAINED)
    for row in found["recognition"].values():
        assert set(row["accuracy"]) == set(SETS)
        assert 0 <= row["eer"] <= 1
        assert row["mean_accuracy"] == pytest.approx(np.mean(list(row["accuracy"].values())))
    folds = json.loads((finished.path / "5-evaluation/real/evaluation.json").read_text())
    easy = folds["benchmarks"]["easy"]
    error = found["recognition"]["real"]["accuracy_error"]["easy"]
    assert error == pytest.approx(easy["accuracy_std"] / np.sqrt(len(easy["fold_accuracies"]) - 1))
    assert found["packing"]["keep-out"]["keep_out_violations"] == 0
    packed, unpacked = found["packing"]["packed"], found["packing"]["unpacked"]
    assert packed["mean_nearest_cosine"] < unpacked["mean_nearest_cosine"]
    assert unpacked["gallery_mean_cosine"] == pytest.approx(1, abs=1e-5)
    assert found["synthesis"]["unpacked"]["target_cosine"] > 0.5
    for kinds in found["leakage"].values():
        assert all(0 <= kinds[kind]["share_above"] <= 1 for kind in ("before", "after"))


# Settings, arms and folders


def test_the_farthest_real_persons_are_others_than_the_first(undisturbed):
    loop = undisturbed.until(STEPS.index((RECOGNITION, FARTHEST_REAL)) + 1)
    with chdir(undisturbed.folder):
        folders = [stages.real_images(loop, way) for way in (REAL, FARTHEST_REAL)]
        names = [sorted(path.relative_to(f) for path in f.glob("*/*.png")) for f in folders]
        pictures_of = [[(f / name).read_bytes() for name in names[0]] for f in folders]
    assert names[0] == names[1]
    assert len(names[0]) == SMALL["num_ids"] * SMALL["images_per_id"]
    # The first person is the first of both; the circumstances are the same for all.
    count = SMALL["images_per_id"]
    assert pictures_of[0][:count] == pictures_of[1][:count]
    assert not set(pictures_of[0][count:]) & set(pictures_of[1][count:])


@pytest.mark.parametrize(
    ("num_ids", "crowd", "expected"),
    [(6, None, 60), (1000, None, 6000), (9000, None, 9000), (200, 6000, 6000), (200, 50, 200)],
)
def test_a_crowd_is_ten_times_as_many_and_no_fewer_than_are_chosen(num_ids, crowd, expected):
    assert replace(QUICK, num_ids=num_ids, crowd=crowd).num_crowd == expected


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
