"""``runs.train`` from Python: results, a stop, going on, and settings that exclude each other."""

import pickle
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hyperface_jax import runs
from hyperface_jax.io.files import atomic_write_json, read_json, read_jsonl
from hyperface_jax.io.torch_files import read_state_dict
from hyperface_jax.recognition import BACKBONES, BackboneConfig
from hyperface_jax.runs.training.job import make_recipe

SHAPE = BackboneConfig((1,), (8,), image_size=16)


@pytest.fixture(autouse=True, scope="module")
def with_a_small_backbone():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "iresnet_toy", SHAPE)
        yield


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Four identities of six images: a color each, with noise."""
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for identity in range(4):
        folder = root / f"{identity:02}"
        folder.mkdir()
        for number in range(6):
            color = np.array([45 * identity, 90, 180 - 45 * identity])
            pixels = color + rng.integers(0, 60, (16, 16, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def pairs(faces):
    lines = [f"{i % 4:02}/0.png {(i + i % 2) % 4:02}/1.png {1 - i % 2}" for i in range(20)]
    path = faces / "held.txt"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def settings(faces, tmp_path):
    def make(**changes):
        chosen = {"data": faces, "out": tmp_path / "run", "backbone": "iresnet_toy", "epochs": 2}
        chosen |= {"batch_size": 8, "learning_rate": 0.01, "log_every": 1, "devices": 1}
        return runs.Train(**(chosen | changes))

    return make


def stopping_after(count):
    """Return a watch that asks to stop when it is asked for the ``count``-th time."""
    asked = iter(range(1, 10**9))

    @contextmanager
    def stopping():
        yield lambda: next(asked) >= count

    return runs.Watch(stopping=stopping, warn=lambda text: None)


def quiet(**attributes):
    """Return a watch that lets warnings pass: the list of pairs lies beside the folders."""
    return runs.Watch(warn=lambda text: None, **attributes)


def test_a_result_is_what_the_folder_holds(settings, pairs, capsys):
    said, warned = [], []
    watch = runs.Watch(say=said.append, warn=warned.append)
    result = runs.train(settings(validate=(pairs,)), watch=watch)
    assert result.summary == read_json(result.path / "summary.json")
    assert result.summary["steps"] == 6
    assert [line[:14] for line in said] == ["epoch 1: held ", "epoch 2: held "]
    assert "held.txt" in warned[0]
    first, model, page = result.text.split("; ")
    assert first == f"loss {result.summary['loss']:.4f}"
    assert model == f"model: {result.path / 'model.safetensors'}"
    assert Path(page.removeprefix("report: ")).exists()
    assert any((result.path / "tensorboard").iterdir())
    assert read_json(result.path / "model.json")["color"] == "bgr"
    assert "".join(capsys.readouterr()) == ""


def test_the_same_call_reports_a_finished_run(settings):
    first = runs.train(settings(), watch=quiet())
    again = runs.train(settings(log_every=3), watch=quiet())
    assert again.summary == first.summary
    assert "already finished" in again.text
    with pytest.raises(runs.InputError, match="class_norm"):
        runs.train(settings(class_norm=2.0), watch=quiet())
    config = read_json(first.path / "config.json")
    del config["class_norm"]  # As versions without the choice wrote it.
    atomic_write_json(first.path / "config.json", config)
    assert runs.train(settings(), watch=quiet()).summary == first.summary


def test_a_stopped_run_goes_on_to_the_same_end(settings, pairs, tmp_path):
    whole = settings(validate=(pairs,), out=tmp_path / "whole")
    parts = settings(validate=(pairs,), out=tmp_path / "parts")
    expected = runs.train(whole, watch=quiet())
    with pytest.raises(runs.Stopped) as stopped:
        runs.train(parts, watch=stopping_after(2))
    assert stopped.value.path == parts.out
    assert not (parts.out / "summary.json").exists()
    # As an earlier version wrote it.
    config = read_json(parts.out / "config.json")
    assert (config["command"], config["validate"]) == ("train", [str(pairs)])
    atomic_write_json(parts.out / "config.json", config | {"out": "elsewhere", "workers": 3})
    said = []
    result = runs.train(parts, watch=quiet(say=said.append))
    assert said[0] == f"{parts.out}: resuming at step 2"
    ours, theirs = (read_state_dict(r.path / "model.safetensors") for r in (result, expected))
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    steps = [
        [row["step"] for row in read_jsonl(r.path / "history.jsonl")] for r in (result, expected)
    ]
    assert steps[0] == steps[1] == [1, 2, 3, 3, 4, 5, 6, 6]
    with pytest.raises(runs.InputError, match="margin"):
        runs.train(settings(validate=(pairs,), out=parts.out, margin=0.1), watch=quiet())


def test_progress_tells_steps_and_the_figure_that_matters(settings):
    seen = []

    @contextmanager
    def progress(title, unit, total, done=0):
        yield lambda now, figure="", /: seen.append((title, unit, total, now, figure))

    runs.train(settings(), watch=quiet(progress=progress))
    assert seen[0] == ("training", "steps", 6, 0, "compiling")
    assert seen[-1][3] == 6
    assert "loss" in seen[-1][4]


def test_a_loss_that_is_not_finite_names_what_to_change(settings):
    with pytest.raises(runs.InputError, match=r"not finite at step.*`learning_rate`.*`out`"):
        runs.train(settings(learning_rate=1e30), watch=quiet())


def test_a_recipe_is_changed_by_the_settings_alone(settings):
    recipe = make_recipe(settings(epochs=15, head="cosface", margin=0.2, ema=0.9, augment=False))
    assert (recipe.head, recipe.margin, recipe.ema, recipe.batch_size) == ("cosface", 0.2, 0.9, 8)
    assert recipe.milestones == (6, 10, 13)
    assert recipe.augmentation.flip == 0
    assert recipe.momentum == 0.9


@pytest.mark.parametrize(("given", "length"), [(None, 1.0), (2.0, 2.0), (0.0, None)])
def test_class_weights_start_at_the_length_that_is_given(settings, given, length):
    assert make_recipe(settings(class_norm=given)).class_norm == length


def test_a_folder_of_images_for_sets_that_hold_their_own_is_refused(settings, faces, tmp_path):
    encoded = [path.read_bytes() for path in sorted(faces.rglob("*.png"))[:2]]
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((encoded, [True])))
    with pytest.raises(runs.InputError, match=r"`images=.*every `validate` here"):
        runs.train(settings(validate=(tmp_path / "lfw.bin",), images=faces), watch=quiet())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet9000"}, "`backbone=resnet9000`: choose one of iresnet18"),
        ({"recipe": "soup"}, "`recipe=soup`: choose one of hyperface"),
        ({"epochs": 0}, "`epochs=0`: must be at least 1"),
        ({"margin": float("nan")}, "`margin=nan`: must be between 0 and 1"),
        ({"devices": 1000}, "`devices=1000`"),
        ({"batch_size": 104}, "batch_size: 104"),
        ({"log_every": 0}, "`log_every=0`"),
        ({"seed": -1}, "`seed=-1`"),
        ({"choose_by_validation": True}, "`choose_by_validation` needs `validate`"),
        ({"attribute_weight": 2.0}, "`attribute_weight` needs `attributes`"),
        ({"images": Path()}, "`images` is for lists of pairs: give `validate`"),
        ({"validate": (Path("a/lfw.bin"), Path("b/lfw.bin"))}, "`validate`: two are called lfw"),
        ({"validate": (Path("missing.bin"),)}, "missing.bin"),
    ],
)
def test_bad_settings_are_named_before_anything_runs(settings, changes, message):
    chosen = settings(**changes)
    with pytest.raises(runs.InputError, match=message) as raised:
        runs.train(chosen, watch=quiet())
    assert "--" not in str(raised.value)
    assert not (chosen.out / "config.json").exists()
