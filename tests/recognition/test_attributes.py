from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax import meshes
from hyperface_jax.errors import InputError
from hyperface_jax.recognition.attributes import (
    Regression,
    attribute_loss,
    init_regression,
    read_attributes,
)
from hyperface_jax.recognition.backbones import BackboneConfig
from hyperface_jax.recognition.recipes import Recipe
from hyperface_jax.recognition.train import Trainer, from_tree, to_tree

SHAPE = BackboneConfig((1, 1), (8, 16), image_size=16, embedding_dim=24, dropout=0.0)
RECIPE = Recipe(head="cosface", batch_size=24, learning_rate=0.02, num_epochs=4, milestones=(3,))


def test_the_error_is_that_of_a_linear_map_of_unit_embeddings():
    keys = jax.random.split(jax.random.key(0), 4)
    x, weight = jax.random.normal(keys[0], (6, 5)), jax.random.normal(keys[1], (5, 3))
    bias, wanted = jax.random.normal(keys[2], (3,)), jax.random.normal(keys[3], (6, 3))
    labels = jnp.array([0, 3, -1, 2, -1, 1])
    found = attribute_loss(Regression(weight, bias), 7 * x, wanted, labels)
    unit = np.asarray(x) / np.linalg.norm(x, axis=1, keepdims=True)
    errors = (4 * unit @ np.asarray(weight) + np.asarray(bias) - np.asarray(wanted)) ** 2
    assert found == pytest.approx(errors[np.asarray(labels) >= 0].mean(), rel=1e-5)


def test_a_map_that_knows_nothing_has_error_one():
    wanted = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    x = jnp.ones((5000, 4))
    found = attribute_loss(init_regression(4, 2), x, wanted, jnp.zeros(5000, jnp.int32))
    assert found == pytest.approx(1, abs=0.05)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 13, 24).astype(np.int32)
    known = rng.normal(size=(13, 3)).astype(np.float32)
    return rng.integers(0, 256, (24, 16, 16, 3)).astype(np.uint8), labels, known[labels]


def _after(trainer, batch, num_steps):
    state = trainer.init(jax.random.key(0))
    for _ in range(num_steps):
        state, metrics = trainer.step(state, *trainer.put(batch))
    return state, metrics


def test_training_learns_the_attributes_on_a_mesh(batch):
    one = Trainer(SHAPE, RECIPE, 13, 5, num_attributes=3)
    mesh = meshes.make_mesh(jax.devices()[:3])
    many = Trainer(SHAPE, RECIPE, 13, 5, mesh, num_attributes=3)
    _, first = _after(one, batch, 1)
    state, last = _after(one, batch, 30)
    assert first.attribute_error > 0.5
    assert last.attribute_error < 0.5 * first.attribute_error
    back = from_tree(to_tree(state), one.state_shapes())
    np.testing.assert_array_equal(back.regression.weight, state.regression.weight)
    other, _ = _after(many, batch, 3)
    expected, _ = _after(one, batch, 3)
    np.testing.assert_allclose(other.regression.weight, expected.regression.weight, atol=2e-4)


def test_the_weight_scales_the_error_in_the_loss(batch):
    losses = {
        weight: _after(
            Trainer(SHAPE, replace(RECIPE, attribute_weight=weight), 13, 5, num_attributes=3),
            batch,
            1,
        )[1]
        for weight in (0.0, 2.0)
    }
    added = float(losses[2.0].loss - losses[0.0].loss)
    assert added == pytest.approx(2 * float(losses[0.0].attribute_error), rel=1e-4)


def test_attributes_are_read_in_the_order_of_the_classes(tmp_path):
    path = tmp_path / "known.csv"
    path.write_text("identity,a,b\nzoe,1,5\nabe,3,5\nnobody,9,9\n")
    np.testing.assert_allclose(read_attributes(path, ["abe", "zoe"]), [[1, 0], [-1, 0]])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "start the file with a header identity"),
        ("identity\nabe\n", "start the file with a header identity"),
        ("identity,a\nzoe,1\n", "no line for 1 of 2 identities, such as 'abe'"),
        ("identity,a\nabe,1\nzoe,x\n", "a value of 'zoe' is no finite number"),
        ("identity,a\nabe,1\nzoe,nan\n", "a value of 'zoe' is no finite number"),
        ("identity,a\nabe,1,2\nzoe,1\n", "the line of 'abe' has 3 columns"),
        (f"identity,a\nabe,{'1' * 200_000}\n", "line 2: field larger than field limit"),
    ],
)
def test_bad_files_are_named(tmp_path, text, named):
    path = tmp_path / "known.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=named) as error:
        read_attributes(path, ["abe", "zoe"])
    assert "known.csv" in str(error.value)


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(InputError, match=r"missing\.csv"):
        read_attributes(tmp_path / "missing.csv", ["abe"])
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not a text file"):
        read_attributes(tmp_path / "binary.csv", ["abe"])
