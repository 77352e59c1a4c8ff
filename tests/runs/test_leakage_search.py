"""``runs.leakage`` from Python: nearest pairs, own targets, and settings that exclude each other."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.io.files import read_json
from hyperface_jax.io.images import encode
from hyperface_jax.pairwise import streamed

pytest.importorskip("matplotlib")

D, N, M = 8, 30, 40


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    targets, real = rng.normal(size=(10, D)), rng.normal(size=(M, D))
    faces = np.repeat(targets, 3, axis=0) + 0.4 * rng.normal(size=(N, D))
    real[11] = 3 * faces[7]
    np.savez("faces.npz", embeddings=faces.astype(np.float32), identities=np.arange(N) // 3)
    np.save("targets.npy", targets.astype(np.float32))
    np.save("real.npy", real.astype(np.float32))
    return unit(faces), unit(real), unit(targets)


def settings(**changes):
    chosen = {"embeddings": Path("faces.npz"), "against": Path("real.npy"), "out": Path("out")}
    return runs.Leakage(**(chosen | changes))


def test_a_result_is_what_the_folder_holds(world, capsys):
    faces, real, _ = world
    result = runs.leakage(settings(threshold=(0.45,), top=3))
    assert result.summary == read_json(result.path / "summary.json")
    best = (faces @ real.T).max(1)
    found = result.summary["nearest"]
    assert found["max_cosine"] == pytest.approx(1, abs=1e-6)
    assert (found["pairs"][0]["row"], found["pairs"][0]["column"]) == (7, 11)
    assert f"  above 0.45: {(best > 0.45).sum()} rows" in result.text
    assert result.text.splitlines()[-1] == "report: out/report.html"
    assert "".join(capsys.readouterr()) == ""


def test_targets_and_another_set_in_one_call(world):
    faces, _, targets = world
    result = runs.leakage(settings(targets=Path("targets.npy")))
    mean = np.mean(np.sum(faces * np.repeat(targets, 3, axis=0), axis=1))
    assert result.summary["own_target"]["mean_cosine"] == pytest.approx(mean, abs=1e-6)
    assert result.summary["nearest"]["num_pairs"] == N * M
    assert "own target first of all" in result.text


def test_one_of_several_arrays_in_a_file(world):
    faces, real, _ = world
    np.savez("two.npz", first=faces.astype(np.float32), second=real.astype(np.float32))
    changes = {"embeddings": Path("two.npz:first"), "against": Path("two.npz:second")}
    found = runs.leakage(settings(**changes)).summary
    assert (found["nearest"]["num_rows"], found["nearest"]["num_pairs"]) == (N, N * M)
    assert (found["nearest"]["pairs"][0]["row"], found["nearest"]["pairs"][0]["column"]) == (7, 11)
    assert found["against"]["path"] == "two.npz:second"
    assert found["against"]["sha256"] != found["embeddings"]["sha256"]


def test_files_that_are_no_images_are_warned_about(world, tmp_path):
    (tmp_path / "people").mkdir()
    rng = np.random.default_rng(0)
    for i in range(M):
        image = rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)
        (tmp_path / "people" / f"{i:03d}.png").write_bytes(encode(image))
    (tmp_path / "people" / "notes.txt").write_text("words")
    warned = []
    watch = runs.Watch(warn=warned.append)
    found = runs.leakage(settings(against_images=Path("people")), watch=watch)
    assert found.summary["nearest"]["pairs"][0]["column_image"] == "011.png"
    assert len(warned) == 1
    assert warned[0].startswith("people: ")


def stopping_after(num_questions):
    """Return a watch that asks to stop at the given question, and the lines that it was told."""
    asked, said = [], []

    @contextmanager
    def stopping():
        yield lambda: asked.append(None) or len(asked) >= num_questions

    return runs.Watch(stopping=stopping, say=said.append, warn=said.append), said


@pytest.mark.parametrize("num_questions", [2, 8])
def test_a_search_goes_on_where_it_was_stopped(world, monkeypatch, num_questions):
    for name, rows in (("PASSING_ROWS", 10), ("HELD_ROWS", 30)):
        monkeypatch.setattr(streamed, name, rows)
    chosen = settings(targets=Path("targets.npy"), top=5)
    expected = runs.leakage(replace(chosen, out=Path("whole"))).summary
    watch, _ = stopping_after(num_questions)
    with pytest.raises(runs.Stopped, match="out: stopped and saved"):
        runs.leakage(chosen, watch=watch)
    assert not Path("out/summary.json").exists()
    left = {path.name for path in Path("out").iterdir()}
    assert "searching.npz" in left
    watch, said = stopping_after(1000)
    assert runs.leakage(chosen, watch=watch).summary == expected
    assert said[0].startswith("out/searching.npz: going on after ")
    assert {path.name for path in Path("out").iterdir()} == {
        path.name for path in Path("whole").iterdir()
    }


def test_the_state_of_another_search_or_a_damaged_one_is_not_used(world):
    watch, _ = stopping_after(1)
    with pytest.raises(runs.Stopped):
        runs.leakage(settings(), watch=watch)
    watch, said = stopping_after(1000)
    other = settings(against=Path("targets.npy"))
    assert runs.leakage(other, watch=watch).summary["nearest"]["num_pairs"] == N * 10
    assert said == []
    for damaged in (b"PK no", b"PK\x03\x04 no", b""):
        Path("out/searching.npz").write_bytes(damaged)
        found = runs.leakage(settings(), watch=watch).summary
        assert found["nearest"]["num_pairs"] == N * M
        assert len(said) == 1
        assert said.pop().startswith("out/searching.npz: is damaged")
        assert not Path("out/searching.npz").exists()


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"top": 0}, "`top=0`: must be between 1 and 1000"),
        ({"threshold": (1.5,)}, "`threshold=1.5`: must be a cosine"),
        ({"labels": Path("own.npy")}, "`labels`: belongs to `targets`"),
        ({"against": None, "against_images": Path("p")}, "`against_images`: belongs to `against`"),
        (
            {"against": None, "targets": Path("targets.npy"), "top": 3},
            "`top`: is of the pairs with `against`",
        ),
        ({"against": Path("narrow.npy")}, "`against=narrow.npy`: rows have dimension 5, not 8"),
        ({"devices": 99}, "`devices=99`"),
        ({"out": Path("real.npy")}, "`out=real.npy`: is a file"),
        ({"out": Path("run")}, "run: holds files of something else"),
    ],
)
def test_bad_input_names_the_field(world, changes, culprit, tmp_path):
    np.save("narrow.npy", world[1][:, :5])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text('{"max_cosine": 0.1}')
    with pytest.raises(runs.InputError, match=culprit):
        runs.leakage(settings(**changes))
    assert not (tmp_path / "out").exists()
