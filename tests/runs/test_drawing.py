"""The stage that draws random faces, as a function of settings."""

import contextlib
import sys
from dataclasses import replace

import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.io.images import decode

CALLS = []


def blocks(seed, indices):
    """Draw faces without a face; every tenth is of one color."""
    CALLS.append(indices.tolist())
    rng = [np.random.default_rng([seed, i]) for i in indices.tolist()]
    images = np.stack([r.integers(0, 256, (8, 8, 3), np.uint8) for r in rng])
    return np.where((indices % 10 == 9)[:, None, None, None], 0, images).astype(np.uint8)


@pytest.fixture(autouse=True)
def module(monkeypatch):
    monkeypatch.setitem(sys.modules, "drawn", sys.modules[__name__])
    CALLS.clear()


@pytest.fixture
def config(tmp_path):
    return runs.Faces(source="drawn:blocks", out=tmp_path / "faces", num=5, batch_size=2)


def test_a_folder_is_filled_and_extended(config, capfd):
    result = runs.faces(config)
    assert result.path == config.out
    assert result.summary == {"num_faces": 5, "num_left_out": 0, "seed": 0}
    assert result.text == f"5 faces: {config.out}"
    assert runs.faces(replace(config, num=7)).summary["num_faces"] == 7
    assert CALLS == [[0, 1], [2, 3], [4], [5, 6]]
    image = decode((config.out / "000006.png").read_bytes(), name="face")
    np.testing.assert_array_equal(image, blocks(0, np.array([6]))[0])
    assert capfd.readouterr().out == ""


def test_a_folder_stops_halfway_and_goes_on(config):
    num_asked = []

    @contextlib.contextmanager
    def stopping():
        yield lambda: num_asked.append(0) or len(num_asked) == 3

    with pytest.raises(runs.Stopped) as caught:
        runs.faces(config, watch=runs.Watch(stopping=stopping))
    assert caught.value.path == config.out
    assert len(list(config.out.glob("*.png"))) == 4
    assert runs.faces(config).summary["num_faces"] == 5
    assert CALLS == [[0, 1], [2, 3], [4]]


def test_a_request_to_stop_does_not_reach_a_tar(config):
    stopping = contextlib.nullcontext(lambda: True)
    out = config.out.with_suffix(".tar")
    result = runs.faces(replace(config, out=out), watch=runs.Watch(stopping=lambda: stopping))
    assert result.path == out
    assert out.exists()


def test_images_of_one_color_are_told(config):
    warned = []
    result = runs.faces(replace(config, num=12), watch=runs.Watch(warn=warned.append))
    assert result.summary["num_faces"] == 11
    assert result.summary["num_left_out"] == 1
    (warning,) = warned
    assert warning.startswith("1 faces came out of one color and were left out, such as 000009.png")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num": 0}, "`num=0`: must be at least 1"),
        ({"seed": -1}, "`seed=-1`: must be 0 or more"),
        ({"batch_size": 0}, "`batch_size=0`: must be at least 1"),
        ({"source": "nowhere"}, "nowhere: no folder, and cannot be imported"),
        ({"seed": 1}, r"holds a set of faces with other settings: seed \(0 there, 1 now\)"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(config, changed, message):
    if changed.keys() & {"seed"}:
        runs.faces(config)
    before = sorted(config.out.parent.rglob("*"))
    with pytest.raises(runs.InputError, match=message):
        runs.faces(replace(config, **changed))
    assert sorted(config.out.parent.rglob("*")) == before


def test_a_folder_of_other_images_is_refused(config):
    config.out.mkdir()
    (config.out / "mine.png").touch()
    with pytest.raises(runs.InputError, match=r"holds files of something else \(mine\.png\)"):
        runs.faces(config)
