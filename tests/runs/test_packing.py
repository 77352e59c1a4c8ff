"""``runs.pack`` from Python: results, a stop, going on, and settings that exclude each other."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.io import checkpoints
from hyperface_jax.io.files import atomic_write_json, read_json, read_jsonl
from hyperface_jax.runs.support import jobs


@pytest.fixture
def settings(tmp_path):
    def make(**changes):
        chosen = {"num_ids": 40, "dim": 6, "steps": 60, "out": tmp_path / "run", "devices": 1}
        return runs.Pack(**(chosen | changes))

    return make


def stopping_after(count):
    """Return a watch that asks to stop when it is asked for the ``count``-th time."""
    asked = iter(range(1, 10**9))

    @contextmanager
    def stopping():
        yield lambda: next(asked) >= count

    return runs.Watch(stopping=stopping)


@pytest.fixture
def gallery(tmp_path):
    rows = np.random.default_rng(0).standard_normal((30, 6)).astype(np.float32)
    np.save(tmp_path / "gallery.npy", rows)
    return tmp_path / "gallery.npy"


def test_a_result_is_what_the_folder_holds(settings, capsys):
    result = runs.pack(settings())
    assert result.summary == read_json(result.path / "summary.json")
    assert f"{result.summary['max_cosine']:.6f}" in result.text
    assert np.load(result.path / "embeddings.npy").shape == (40, 6)
    assert "".join(capsys.readouterr()) == ""


def test_the_same_call_reports_a_finished_run(settings):
    first = runs.pack(settings())
    again = runs.pack(settings())
    assert again.summary == first.summary
    assert "already finished" in again.text


def test_a_stopped_run_goes_on_to_the_same_end(settings, tmp_path):
    whole = settings(steps=250, devices=None, out=tmp_path / "whole")
    parts = settings(steps=250, devices=None, out=tmp_path / "parts")
    expected = runs.pack(whole)
    with pytest.raises(runs.Stopped) as stopped:
        runs.pack(parts, watch=stopping_after(1))
    assert stopped.value.path == parts.out
    assert not (parts.out / "summary.json").exists()
    said = []
    result = runs.pack(parts, watch=runs.Watch(say=said.append))
    assert any("resuming at step" in line for line in said)
    np.testing.assert_array_equal(
        np.load(result.path / "embeddings.npy"), np.load(expected.path / "embeddings.npy")
    )
    assert len(read_jsonl(result.path / "history.jsonl")) == 250


def test_progress_tells_steps_and_the_figure_that_matters(settings):
    seen, opened = [], []

    @contextmanager
    def progress(title, unit, total, done=0):
        opened.append((title, unit, total))
        yield lambda now, figure="", /: seen.append((title, unit, total, now, figure))

    runs.pack(settings(), watch=runs.Watch(progress=progress))
    steps = [row for row in seen if row[0] == "packing"]
    assert steps[0] == ("packing", "steps", 60, 0, "compiling")
    assert steps[-1][3] == 60
    assert "max cosine" in steps[-1][4]
    assert opened == [("packing", "steps", 60), ("measuring all pairs", "", 1)]


def test_a_run_of_an_earlier_version_goes_on(settings):
    with pytest.raises(runs.Stopped):
        runs.pack(settings(steps=250), watch=stopping_after(1))
    path = settings().out / "config.json"
    stored = read_json(path)
    stored["neighbours"] = stored.pop("neighbors")
    atomic_write_json(path, stored)
    assert runs.pack(settings(steps=250)).summary["steps"] == 250


def test_files_count_by_their_content(settings, gallery, tmp_path):
    first = runs.pack(settings(dim=None, gallery=gallery))
    moved = gallery.rename(tmp_path / "moved.npy")
    assert runs.pack(settings(dim=None, gallery=moved)).summary == first.summary
    np.save(moved, np.load(moved)[::-1])
    with pytest.raises(runs.InputError, match="gallery_sha256"):
        runs.pack(settings(dim=None, gallery=moved))


def test_the_command_makes_the_run_again(settings, gallery):
    result = runs.pack(settings(dim=None, gallery=gallery, alpha=2.0, neighbors=3))
    command = read_json(result.path / "config.json")["command"]
    assert command.startswith("hyperface pack --num-ids 40 --out ")
    assert f"--gallery {gallery} --alpha 2.0 --neighbors 3 --steps 60" in command


def test_a_code_is_written_stopped_and_finished(settings, tmp_path):
    code = settings(num_ids=40_000, dim=256, init="code", steps=0)
    with pytest.raises(runs.Stopped):
        runs.pack(code, watch=stopping_after(1))
    result = runs.pack(code)
    rows = np.load(result.path / "embeddings.npy", mmap_mode="r")
    assert rows.shape == (40_000, 256)
    assert np.linalg.norm(rows[::997], axis=1) == pytest.approx(1, abs=1e-5)
    assert "certified by its construction" in result.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_ids": 1}, "`num_ids=1`: must be at least 2"),
        ({"dim": None}, "`dim` is missing"),
        ({"alpha": 1.0}, "`alpha` is for a gallery"),
        ({"neighbors": 2}, "`neighbors` is for a gallery"),
        ({"learning_rate": 0.1}, "`learning_rate` is for `method=paper`"),
        ({"relax": False}, "`relax` is for `method=stochastic`"),
        ({"coarse_steps": 3, "method": "paper"}, "`coarse_steps` is for `method=annealed`"),
        ({"keep_out_cosine": 0.5}, "go together"),
        ({"seed": -1}, "`seed=-1`"),
        ({"init": "gallery"}, "`init=gallery` needs `gallery`"),
    ],
)
def test_bad_settings_name_the_field(settings, changes, said):
    with pytest.raises(runs.InputError) as error:
        runs.pack(settings(**changes))
    assert said in str(error.value)
    assert not settings().out.exists()


def test_a_start_from_a_file_tells_the_dimension(settings, gallery):
    result = runs.pack(settings(dim=None, num_ids=30, init=str(gallery)))
    assert result.summary["dim"] == 6


def test_a_folder_of_something_else_is_left_alone(settings):
    out = settings().out
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(runs.InputError, match=r"thesis\.tex.*empty `out`"):
        runs.pack(settings())
    assert (out / "thesis.tex").read_text() == "mine"


def test_repeated_rows_are_warned_of(settings, gallery):
    np.save(gallery, np.repeat(np.load(gallery)[:15], 2, axis=0))
    warned = []
    runs.pack(settings(dim=None, gallery=gallery), watch=runs.Watch(warn=warned.append))
    assert warned == [f"{gallery}: 15 rows repeat an earlier row"]


def test_without_a_watch_warnings_are_pythons(settings, gallery):
    np.save(gallery, np.repeat(np.load(gallery)[:15], 2, axis=0))
    with pytest.warns(UserWarning, match="15 rows repeat"):
        runs.pack(settings(dim=None, gallery=gallery))


class _Disk:
    """A disk that fills up while a run goes on."""

    def __init__(self, num_looks):
        self.left = num_looks

    def disk_usage(self, path):
        self.left -= 1
        return SimpleNamespace(free=2**40 if self.left > 0 else 100)


def test_a_disk_that_fills_up_midway_is_said_and_nothing_is_lost(settings, monkeypatch):
    config = settings(steps=250, checkpoint_seconds=0.0)
    monkeypatch.setattr(jobs, "_LONGEST_SHARE", 1e9)
    monkeypatch.setattr(checkpoints, "shutil", _Disk(3))
    with pytest.raises(runs.InputError, match="cannot write a checkpoint: 0 MiB are free"):
        runs.pack(config)
    monkeypatch.undo()
    said = []
    assert runs.pack(config, watch=runs.Watch(say=said.append)).summary["steps"] == 250
    assert any("resuming at step" in line for line in said)


def test_what_orbax_says_of_a_full_disk_is_one_line(settings, monkeypatch):
    def save(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device\nmore")

    monkeypatch.setattr(checkpoints.ocp.CheckpointManager, "save", save)
    with pytest.raises(runs.InputError, match="No space left on device; free some space"):
        runs.pack(settings())


def test_settings_are_frozen_and_plain():
    config = runs.Pack(num_ids=3, dim=2, out=Path("run"))
    with pytest.raises(AttributeError):
        config.num_ids = 4  # pyright: ignore
