"""``hyperface demo`` to its report: all files, resume in every stage, the same again."""

import importlib
import json
import re
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax.cli.closed_loop import stages
from hyperface_jax.cli.closed_loop.estimate import MEASURED, estimate, in_words
from hyperface_jax.cli.closed_loop.sizes import DEFAULT, FULL, QUICK
from hyperface_jax.cli.demo import Demo
from hyperface_jax.cli.main import main

pytestmark = pytest.mark.in_order
ROOT = Path(__file__).parents[2]
SMALL = ["--quick", "--num-ids", 6, "--images-per-id", 4, "--gallery", 64, "--epochs", 2]
SMALL += ["--pairs", 40, "--test-ids", 12, "--reference-ids", 64]
WAYS = ("packed", "paper", "unpacked", "keep-out")
TRAINED = ("packed", "paper", "unpacked", "real")
SETS = ("easy", "cross-pose", "cross-age", "frontal-profile", "mixed")
EXPECTED = [
    "demo.json",
    "1-gallery/gallery.npz",
    "1-gallery/reference.npz",
    "1-gallery/threshold.json",
    *(f"1-gallery/faces/{i:06d}.png" for i in range(64)),
    *(
        f"2-packing/{w}/{f}"
        for w in WAYS
        for f in ("embeddings.npy", "summary.json", "report.html")
    ),
    *(f"3-synthesis/{w}/shards/shard-000000.tar" for w in WAYS),
    *(
        f"3-synthesis/{w}/{f}"
        for w in WAYS
        for f in ("manifest.parquet", "README.md", "contact_sheet.png", "summary.json")
    ),
    *(f"4-recognition/{w}/{f}" for w in TRAINED for f in ("model.safetensors", "summary.json")),
    *(f"5-evaluation/sets/{name}/{name}.txt" for name in SETS),
    *(f"5-evaluation/{w}/{f}" for w in TRAINED for f in ("evaluation.json", "all_pairs.json")),
    "6-leakage/leakage.json",
    "6-leakage/leakage.npz",
    "results.json",
    "persons.png",
    "report.html",
]


FOLDERS = (
    stages.GALLERY,
    stages.PACKING,
    stages.SYNTHESIS,
    stages.RECOGNITION,
    stages.EVALUATION,
    stages.LEAKAGE,
)
REPORT = len(FOLDERS) + 1
FOREIGN = re.compile(r"^[IWEF]\d{4} |^WARNING|Warning:|SIGILL|Traceback", re.MULTILINE)


def demo(*words):
    return main([str(word) for word in ("demo", *SMALL, *words)])


def run_until(folder, number):
    """Run the demo of a folder to the end of the stage of that number."""

    def stop(loop):
        raise KeyboardInterrupt

    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        if number < REPORT:
            patch.setattr(stages, "STAGES", (*stages.STAGES[:number], stop))
        assert demo("--out", "demo") == (0 if number == REPORT else 130)


class Undisturbed:
    """A demo that is never stopped within a stage, and goes as far as a test needs it."""

    def __init__(self, folder):
        self.folder, self.done = folder, 0

    def until(self, number):
        if self.done < number:
            run_until(self.folder, number)
            self.done = number
        return self.folder / "demo"

    def copy_before(self, number, folder):
        """Copy what there was before the stage of that number."""
        shutil.copytree(self.until(number - 1), folder / "demo")
        for name in FOLDERS[number - 1 :]:
            shutil.rmtree(folder / "demo" / name, ignore_errors=True)
        for name in ("results.json", "persons.png", "report.html"):
            (folder / "demo" / name).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def finished(undisturbed):
    return undisturbed.until(REPORT)


def _raise_at(monkeypatch, module, name, number):
    """Let the call of that number be stopped by Ctrl-C."""
    *parents, last = name.split(".")
    owner = importlib.import_module(module)
    for part in parents:
        owner = getattr(owner, part)
    function, calls = getattr(owner, last), []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, last, counted)


STOPS = [
    ("hyperface_jax.faces.flax_recognizer", "FlaxRecognizer.__call__", 1),
    ("hyperface_jax.cli.closed_loop.commands", "run", 4),
    ("hyperface_jax.toyfaces.diffusion", "ToyGenerator.__call__", 2),
    ("hyperface_jax.recognition.train", "Trainer.step", 11),
    ("hyperface_jax.faces.flax_recognizer", "FlaxRecognizer.__call__", 3),
    ("hyperface_jax.evaluation", "leakage", 2),
    ("hyperface_jax.cli.closed_loop.pictures", "persons_sheet", 1),
]
"""In the middle of each of the seven stages."""


STOPS = (
    ("hyperface_jax.faces.flax_recognizer", "FlaxRecognizer.__call__", 1),
    ("hyperface_jax.cli.closed_loop.commands", "run", 3),
    ("hyperface_jax.toyfaces.diffusion", "ToyGenerator.__call__", 2),
    ("hyperface_jax.recognition.train", "Trainer.step", 11),
    ("hyperface_jax.faces.flax_recognizer", "FlaxRecognizer.__call__", 3),
    ("hyperface_jax.evaluation", "leakage", 2),
    ("hyperface_jax.cli.closed_loop.pictures", "persons_sheet", 1),
)
"""In the middle of each of the seven stages."""


@pytest.mark.parametrize("number", range(1, REPORT + 1))
def test_a_stage_stopped_in_the_middle_ends_as_one_that_was_not(
    number, undisturbed, tmp_path, monkeypatch, capfd
):
    if number > 1:
        undisturbed.copy_before(number, tmp_path)
    expected = undisturbed.until(number)
    with monkeypatch.context() as patch, chdir(tmp_path):
        _raise_at(patch, *STOPS[number - 1])
        assert demo("--out", "demo") == 130
    run_until(tmp_path, number)
    own = [name for name in EXPECTED if name.startswith(f"{number}-") == (number < REPORT)]
    missing = [name for name in own if not (tmp_path / "demo" / name).exists()]
    assert not missing
    for path in expected.glob("**/*"):
        if path.name == "embeddings.npy" or path.suffix in (".png", ".tar", ".safetensors", ".npz"):
            name = path.relative_to(expected)
            if path.name not in ("training.png", "diagnostics.npz"):
                assert path.read_bytes() == (tmp_path / "demo" / name).read_bytes(), name
    assert not FOREIGN.search("".join(capfd.readouterr()))


def test_results_do_not_depend_on_a_stop(finished, tmp_path, undisturbed):
    undisturbed.copy_before(REPORT, tmp_path)
    run_until(tmp_path, REPORT)
    first, second = (
        json.loads((path / "results.json").read_text()) for path in (finished, tmp_path / "demo")
    )
    for found in (first, second):
        assert set(found.pop("seconds")) == {
            stage.__name__.replace("_", " ") for stage in stages.STAGES
        }
    assert first == second


def test_every_file_of_every_stage_is_there(finished):
    missing = [name for name in EXPECTED if not (finished / name).exists()]
    assert not missing


def test_the_report_shows_all_and_needs_nothing_else(finished):
    page = (finished / "report.html").read_text()
    for i, title in enumerate(
        ("Gallery", "Packing", "Synthesis", "Recognition", "Verification", "Leakage"), start=1
    ):
        assert f"<h2>{i} · {title}" in page
    assert page.count("<svg") == 8
    assert page.count('src="data:image/png;base64,') == page.count("<img") == 5
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_figures_are_those_of_the_stages(finished):
    found = json.loads((finished / "results.json").read_text())
    assert set(found["recognition"]) == set(TRAINED)
    for row in found["recognition"].values():
        assert set(row["accuracy"]) == set(SETS)
        assert row["mean_accuracy"] == pytest.approx(np.mean(list(row["accuracy"].values())))
    assert found["packing"]["keep-out"]["keep_out_violations"] == 0
    packed, unpacked = found["packing"]["packed"], found["packing"]["unpacked"]
    assert packed["mean_nearest_cosine"] < unpacked["mean_nearest_cosine"]
    assert unpacked["gallery_mean_cosine"] == pytest.approx(1, abs=1e-5)
    assert found["synthesis"]["unpacked"]["target_cosine"] > 0.5


def test_a_folder_of_something_else_is_left_alone(undisturbed, tmp_path, capsys):
    assert demo("--out", undisturbed.until(1), "--seed", 1) == 2
    assert "other settings (seed)" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("keep")
    assert demo("--out", tmp_path) == 2
    assert "holds no demo" in capsys.readouterr().err
    assert demo("--out", tmp_path / "new", "--gallery", 1) == 2
    assert "--gallery 1: must be 2 or more" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


# Sizes and times


@pytest.mark.parametrize(
    ("words", "size", "folder"),
    [({"quick": True}, QUICK, "quick"), ({}, DEFAULT, "demo"), ({"full": True}, FULL, "full")],
)
def test_each_size_has_a_folder_of_its_own(words, size, folder, tmp_path):
    with chdir(tmp_path):
        loop = Demo(**words).loop()
    assert (loop.size, loop.path) == (size, Path("runs") / folder)
    assert (tmp_path / "runs" / folder / "demo.json").exists()
    assert loop.size.is_small == (size == QUICK)


def test_quick_and_full_exclude_each_other(tmp_path, capsys):
    with chdir(tmp_path):
        assert main(["demo", "--quick", "--full"]) == 2
    assert capsys.readouterr().err.count("--quick, --full: they exclude each other") == 1
    assert not any(tmp_path.iterdir())


def test_a_small_demo_says_that_it_tells_nothing_apart(undisturbed, tmp_path, capsys):
    with chdir(tmp_path):
        run_until(tmp_path, 0)
    printed = capsys.readouterr().out
    assert "on two idle cores" in printed.splitlines()[0]
    assert MEASURED.machine in printed.splitlines()[0]
    assert "too small to tell the ways apart" in printed
    assert (
        "too small to tell the ways apart"
        in (undisturbed.until(REPORT) / "report.html").read_text()
    )


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
