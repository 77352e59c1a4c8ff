"""``recognition.fit``: from images in memory to a network, with callbacks and without files."""

import math
from dataclasses import replace

import jax
import numpy as np
import pytest

from hyperface_jax import meshes, recognition
from hyperface_jax.errors import InputError
from hyperface_jax.recognition import NO_AUGMENTATION, ArraySource, Recipe, fit, make_training

SHAPE = recognition.BackboneConfig((1,), (8,), image_size=16, embedding_dim=16, dropout=0.0)
RECIPE = Recipe(batch_size=16, learning_rate=0.02, num_epochs=3, milestones=(2,))
NUM_CLASSES, EACH = 5, 10


@pytest.fixture(scope="module")
def source():
    """Five persons, a color each, with noise."""
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 200, (NUM_CLASSES, 1, 1, 1, 3))
    images = colors + rng.integers(0, 50, (NUM_CLASSES, EACH, 16, 16, 3))
    names = np.repeat([f"person {i}" for i in range(NUM_CLASSES)], EACH)
    return ArraySource(images.reshape(-1, 16, 16, 3).astype(np.uint8), names)


def _weights(fitted):
    return recognition.export_weights(fitted.model())


def _assert_equal(ours, theirs):
    for name, array in _weights(ours).items():
        np.testing.assert_array_equal(array, _weights(theirs)[name], err_msg=name)


def test_images_in_memory_become_a_network_that_tells_them_apart(source):
    recipe = Recipe(
        head="cosface",
        batch_size=25,
        learning_rate=0.05,
        num_epochs=15,
        augmentation=NO_AUGMENTATION,
    )
    losses = []
    fitted = fit(
        make_training(source, SHAPE, recipe),
        log_every=1,
        on_log=lambda fitted, figures: losses.append(figures["loss"]),
    )
    assert fitted.is_done
    assert fitted.step == len(losses) == 30
    assert losses[-1] == fitted.loss < 0.7 * losses[0]
    pixels = np.stack([source[i].image[:, :, ::-1] for i in range(len(source))])
    unit = recognition.embed(fitted.model(), pixels / 127.5 - 1).unit
    is_same = source.labels[:, None] == source.labels[None]
    cosines = unit @ unit.T
    assert cosines[is_same].mean() > cosines[~is_same].mean() + 0.2


def test_callbacks_come_in_order(source):
    calls = []
    fit(
        make_training(source, SHAPE, RECIPE),
        log_every=2,
        on_log=lambda fitted, figures: calls.append(("log", fitted.step)),
        on_epoch=lambda fitted: calls.append(("epoch", fitted.epoch)),
        on_save=lambda fitted: calls.append(("save", fitted.step)),
        is_save_due=lambda: len(calls) == 1,
    )
    first = [("log", 2), ("save", 2), ("log", 3), ("epoch", 1.0), ("log", 4), ("log", 6)]
    assert calls == [*first, ("epoch", 2.0), ("log", 8), ("log", 9), ("epoch", 3.0), ("save", 9)]


def test_figures_are_plain_numbers(source):
    seen = []
    attributes = np.random.default_rng(1).standard_normal((NUM_CLASSES, 2)).astype(np.float32)
    for known in (None, attributes):
        training = make_training(source, SHAPE, RECIPE, attributes=known)
        fit(training, num_steps=1, on_log=lambda fitted, figures: seen.append(figures))
    assert all(type(value) is float for figures in seen for value in figures.values())
    assert "attribute_error" not in seen[0]
    assert seen[1].keys() - seen[0].keys() == {"attribute_error"}


@pytest.mark.parametrize("how", ["asked", "num_steps"])
def test_it_stops_and_goes_on_to_the_same_end(source, how):
    whole = fit(make_training(source, SHAPE, RECIPE, seed=4))
    training, saved = make_training(source, SHAPE, RECIPE, seed=4), []
    asked = iter([False, True])
    stop = {"is_asked": lambda: next(asked)} if how == "asked" else {"num_steps": 2}
    half = fit(training, on_save=saved.append, **stop)
    assert (half.step, half.is_done) == (2, False)
    assert math.isfinite(saved[0].loss)
    _assert_equal(fit(training, half), whole)
    # The batches start anew with the network.
    _assert_equal(fit(training), whole)


def test_a_state_goes_on_in_another_process_by_its_names(source):
    whole = fit(make_training(source, SHAPE, RECIPE))
    half = fit(make_training(source, SHAPE, RECIPE), num_steps=4)
    training = make_training(source, SHAPE, RECIPE)
    tree = recognition.to_tree(half.state)
    state = recognition.from_tree(tree, training.trainer.state_shapes())
    _assert_equal(fit(training, recognition.Fitted(training.trainer, state, 4)), whole)


def test_a_loss_that_is_not_finite_ends_it(source):
    training = make_training(source, SHAPE, RECIPE)
    start = training.start()
    state = start.state._replace(classes=start.state.classes.at[3, 0].set(np.nan))
    with pytest.raises(recognition.NotFiniteError, match=r"finite at step 0.*`warmup_epochs=1`"):
        fit(training, replace(start, state=state), log_every=1)


def test_a_batch_that_devices_cannot_share_is_refused(source):
    mesh = meshes.make_mesh(jax.devices()[:3])
    with pytest.raises(InputError, match="`batch_size=16`: 3 devices"):
        make_training(source, SHAPE, RECIPE, mesh=mesh)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 8, 8, 3)), [0, 1], "faces: float64 of shape"),
        (np.zeros((2, 8, 8), np.uint8), [0, 1], "faces: uint8 of shape"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0], "for 2 images"),
        (np.zeros((0, 8, 8, 3), np.uint8), [], "no images"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0, -1], "label -1"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, labels, message):
    with pytest.raises(InputError, match=message):
        ArraySource(images, labels, name="faces")
