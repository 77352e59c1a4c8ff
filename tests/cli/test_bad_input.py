"""Each bad input: one line that names the culprit, exit code 2, nothing written."""

import os

import numpy as np
import pytest

from hyperface_jax.cli.main import main

RNG = np.random.default_rng(0)
GOOD = RNG.normal(size=(30, 6)).astype(np.float32)


def _save(path, array):
    np.save(path, array)
    return path


def _with_row(value):
    rows = GOOD.copy()
    rows[7] = value
    return rows


FILES = {
    "missing.npy": lambda p: p,
    "text.npy": lambda p: p.write_text("no array") and p,
    "photo.jpg": lambda p: p.write_bytes(b"\xff\xd8\xff") and p,
    "truncated.npy": lambda p: p.write_bytes(_bytes()[:-50]) and p,
    "rank3.npy": lambda p: _save(p, GOOD.reshape(5, 6, 6)),
    "rank1.npy": lambda p: _save(p, GOOD[0]),
    "nan.npy": lambda p: _save(p, _with_row(np.nan)),
    "inf.npy": lambda p: _save(p, _with_row(np.inf)),
    "zero.npy": lambda p: _save(p, _with_row(0)),
    "integers.npy": lambda p: _save(p, GOOD.astype(int)),
    "objects.npy": lambda p: np.save(p, np.array([{}, {}]), allow_pickle=True) or p,
    "empty.npy": lambda p: _save(p, GOOD[:0]),
}


def _bytes():
    import io

    buffer = io.BytesIO()
    np.save(buffer, GOOD)
    return buffer.getvalue()


def _error(capsys, *words):
    code = main(["pack", *map(str, words)])
    captured = capsys.readouterr()
    assert code == 2, captured
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("flag", ["--gallery", "--init", "--frozen", "--keep-out"])
def test_bad_files(tmp_path, capsys, name, flag):
    path = FILES[name](tmp_path / name)
    words = ["--num-ids", 30, "--dim", 6, "--out", tmp_path / "run", flag, path]
    if flag == "--keep-out":
        words += ["--keep-out-cosine", 0.5]
    assert name in _error(capsys, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (["--num-ids", 1, "--dim", 4], "--num-ids"),
        (["--num-ids", 5], "--dim"),
        (["--num-ids", 5, "--dim", 1], "--dim"),
        (["--num-ids", 5, "--dim", 4, "--alpha", -0.1], "--alpha"),
        (["--num-ids", 5, "--dim", 4, "--alpha", "nan"], "--alpha"),
        (["--num-ids", 5, "--dim", 4, "--steps", -1], "--steps"),
        (["--num-ids", 5, "--dim", 4, "--restarts", 0], "--restarts"),
        (["--num-ids", 5, "--dim", 4, "--seed", -1], "--seed"),
        (["--num-ids", 5, "--dim", 4, "--batch-size", 3], "--batch-size"),
        (["--num-ids", 5, "--dim", 4, "--init", "gallery"], "--gallery"),
        (["--num-ids", 5, "--dim", 4, "--init", "farthest"], "--gallery"),
        (["--num-ids", 5, "--dim", 4, "--neighbors", 0], "--neighbors"),
        (["--num-ids", 5, "--dim", 4, "--neighbors", 3], "--gallery"),
        (["--num-ids", 5, "--dim", 4, "--init", "subspace"], "--gallery"),
        (["--num-ids", 5, "--dim", 4, "--manifold", "subspace"], "--gallery"),
        (["--num-ids", 5, "--dim", 4, "--subspace-dims", 3], "--manifold subspace"),
        (["--num-ids", 5, "--dim", 4, "--keep-out-cosine", 0.3], "--keep-out"),
        (["--num-ids", 5000, "--dim", 400, "--polish"], "--polish"),
    ],
)
def test_bad_settings(tmp_path, capsys, words, culprit):
    assert culprit in _error(capsys, *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_dimension_mismatches(tmp_path, capsys):
    six = _save(tmp_path / "six.npy", GOOD)
    five = _save(tmp_path / "five.npy", GOOD[:, :5])
    out = tmp_path / "run"
    error = _error(capsys, "--num-ids", 5, "--gallery", six, "--frozen", five, "--out", out)
    assert "five.npy" in error
    error = _error(capsys, "--num-ids", 5, "--gallery", six, "--dim", 7, "--out", out)
    assert "six.npy" in error
    error = _error(capsys, "--num-ids", 5, "--dim", 6, "--init", six, "--out", out)
    assert "30 rows" in error
    error = _error(capsys, "--num-ids", 5, "--gallery", six, "--neighbors", 31, "--out", out)
    assert "six.npy" in error
    words = ["--num-ids", 5, "--gallery", six, "--manifold", "subspace", "--out", out]
    assert "does not go with" in _error(capsys, *words, "--neighbors", 3)
    error = _error(capsys, *words, "--subspace-dims", 6)
    assert "six.npy: has 6 dimensions, but --subspace-dims is 6" in error
    few = _save(tmp_path / "few.npy", GOOD[:2])
    assert "few.npy: has 2 rows" in _error(capsys, *words, "--gallery", few)


def test_output_that_cannot_be_written(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("here first")
    words = ["--num-ids", 5, "--dim", 4, "--out"]
    assert "file" in _error(capsys, *words, blocked)
    assert "file" in _error(capsys, *words, blocked / "run")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    assert "cat.jpg" in _error(capsys, *words, tmp_path / "photos")


def test_a_full_disc_is_noticed_first(tmp_path, capsys, monkeypatch):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    assert "free some space" in _error(
        capsys, "--num-ids", 50, "--dim", 4, "--out", tmp_path / "run"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert "run" in _error(capsys, "--num-ids", 5, "--dim", 4, "--out", tmp_path / "run")


def test_duplicate_gallery_rows_warn(tmp_path, capsys):
    rows = np.concatenate([GOOD, GOOD[:3]])
    path = _save(tmp_path / "twice.npy", rows)
    out = tmp_path / "run"
    words = ["--num-ids", 10, "--gallery", path, "--steps", 5, "--out", out]
    assert main(["pack", *map(str, words)]) == 0
    assert "3 rows repeat" in capsys.readouterr().err


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit):
        main(["pack", "--help"])
    text = capsys.readouterr().out
    for flag in ("--num-ids", "--gallery", "--keep-out-cosine", "--frozen", "--polish"):
        assert flag in text


def test_bounds_command(capsys):
    assert main(["bounds", "--num-ids", "240", "--dim", "8"]) == 0
    found = capsys.readouterr().out
    assert "max cosine >= 0.500000000" in found
    assert "construction: 0.500000000 (E8 roots)" in found
    assert main(["bounds", "--num-ids", "1", "--dim", "8"]) == 2


def test_report_of_nothing(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
