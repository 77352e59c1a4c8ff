import os

import numpy as np
import pytest

from hyperface_jax.cli.main import main
from hyperface_jax.io.images import decode


def blocks(seed, indices):
    """Draw faces without a face."""
    rng = [np.random.default_rng([seed, i]) for i in indices.tolist()]
    return np.stack([r.integers(0, 256, (8, 8, 3), np.uint8) for r in rng])


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))  # noqa: PTH120


def _faces(out, num, *more):
    return main(
        ["faces", "--source", "test_faces:blocks", "--out", str(out), "--num", str(num), *more]
    )


def test_a_folder_is_filled_and_extended(tmp_path, capsys):
    assert _faces(tmp_path / "faces", 5, "--batch-size", "2") == 0
    first = {p.name: p.read_bytes() for p in (tmp_path / "faces").glob("*.png")}
    assert sorted(first) == [f"{i:06d}.png" for i in range(5)]
    assert _faces(tmp_path / "faces", 7) == 0
    later = {p.name: p.read_bytes() for p in (tmp_path / "faces").glob("*.png")}
    assert len(later) == 7
    assert first.items() <= later.items()
    assert "7 faces" in capsys.readouterr().out
    image = decode(later["000006.png"], name="face")
    np.testing.assert_array_equal(image, blocks(0, np.array([6]))[0])


def test_another_seed_in_the_same_folder_is_refused(tmp_path, capsys):
    _faces(tmp_path / "faces", 2)
    assert _faces(tmp_path / "faces", 2, "--seed", "1") == 2
    assert "seed" in capsys.readouterr().err


def test_a_source_that_is_none_is_one_line(tmp_path, capsys):
    code = main(["faces", "--source", "nowhere", "--out", str(tmp_path / "faces"), "--num", "2"])
    assert code == 2
    error = capsys.readouterr().err
    assert "nowhere" in error
    assert error.count("\n") == 1
