from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperface_jax import meshes
from hyperface_jax.errors import InputError
from hyperface_jax.recognition import train
from hyperface_jax.recognition.augment import NO_AUGMENTATION
from hyperface_jax.recognition.backbones import BackboneConfig
from hyperface_jax.recognition.recipes import RECIPES, Recipe
from hyperface_jax.recognition.train import Trainer, from_tree, to_tree

SHAPE = BackboneConfig((1, 1), (8, 16), image_size=16, embedding_dim=24, dropout=0.0)
RECIPE = Recipe(batch_size=24, learning_rate=0.02, num_epochs=4, milestones=(3,))
NUM_CLASSES, STEPS_PER_EPOCH = 13, 5


def _trainer(mesh=None, **changes):
    return Trainer(SHAPE, replace(RECIPE, **changes), NUM_CLASSES, STEPS_PER_EPOCH, mesh)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, NUM_CLASSES, 24).astype(np.int32)
    return rng.integers(0, 256, (24, 16, 16, 3)).astype(np.uint8), labels


def _after(trainer, batch, num_steps):
    state = trainer.init(jax.random.key(0))
    for _ in range(num_steps):
        state, metrics = trainer.step(state, *trainer.put(batch))
    return state, metrics


def _assert_close(state, expected, tolerance):
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(expected), strict=True
    ):
        if jnp.issubdtype(b.dtype, jnp.floating):
            a = np.asarray(a)[: len(b)] if b.ndim else a
            name = jax.tree_util.keystr(path)
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("head", ["adaface", "arcface", "cosface"])
def test_the_loss_of_a_batch_falls(batch, head):
    first = _after(_trainer(head=head), batch, 1)[1]
    last = _after(_trainer(head=head), batch, 15)[1]
    assert last.loss < 0.5 * first.loss


@pytest.mark.parametrize("mesh", [3, 8], indirect=True)
def test_any_mesh_trains_the_same(batch, mesh):
    """Batch norms and heads see the whole batch, and classes that fill up a shard stay zero."""
    expected, _ = _after(_trainer(ema=0.5), batch, 3)
    state, _ = _after(_trainer(mesh, ema=0.5), batch, 3)
    _assert_close(state, expected, 2e-4)
    assert state.classes.sharding.is_equivalent_to(meshes.rows(mesh), 2)
    np.testing.assert_array_equal(state.classes[NUM_CLASSES:], 0)


def test_one_compilation_serves_all_steps(batch):
    before = train._step._cache_size()
    _after(_trainer(margin=0.123), batch, 4)
    assert train._step._cache_size() == before + 1


def test_a_loss_that_is_not_finite_changes_nothing(batch):
    trainer = _trainer()
    state = trainer.init(jax.random.key(0))
    state = state._replace(classes=state.classes.at[3, 0].set(jnp.nan))
    before = jax.tree.map(jnp.copy, to_tree(state))
    state, metrics = trainer.step(state, *trainer.put(batch))
    assert not metrics.is_finite
    for name, leaf in to_tree(state).items():
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(leaf, before[name], err_msg=name)


def test_classes_that_were_not_drawn_stay_with_their_momentum(batch):
    """With 13 classes of which the batch holds two, 2 are drawn: the others must not even decay."""
    images, labels = batch
    images, labels = images[:2], np.array([4, 9], np.int32)
    trainer = _trainer(sample_rate=0.1, batch_size=2)
    state = trainer.init(jax.random.key(0))
    before = np.asarray(state.classes)
    state, _ = trainer.step(state, *trainer.put((images, labels)))
    moved = np.flatnonzero(np.any(np.asarray(state.classes) != before, axis=1))
    assert set(moved) == {4, 9}
    momentum = next(leaf for leaf in jax.tree.leaves(state.class_optimizer) if leaf.ndim == 2)
    assert set(np.flatnonzero(np.any(np.asarray(momentum) != 0, axis=1))) == {4, 9}


def test_sgd_is_that_of_torch(key):
    """Decay enters before the momentum, whose first value is the gradient."""
    torch = pytest.importorskip("torch")
    start, gradients = jax.random.normal(key, (3, 2)), jax.random.normal(key, (4, 3, 2))
    weight = torch.nn.Parameter(torch.tensor(np.asarray(start)))
    theirs = torch.optim.SGD([weight], lr=0.02, momentum=0.9, weight_decay=5e-4)
    ours = _trainer().class_optimizer()
    x, state = start, ours.init(start)
    for gradient in gradients:
        weight.grad = torch.tensor(np.asarray(gradient))
        theirs.step()
        updates, state = ours.update(gradient, state, x)
        x = optax.apply_updates(x, updates)
    np.testing.assert_allclose(x, weight.detach(), rtol=1e-5)


def test_batch_norms_do_not_decay_unless_the_recipe_says_so():
    params = _trainer().init(jax.random.key(0)).params
    decays = {
        jax.tree_util.keystr(path): value
        for path, value in jax.tree_util.tree_leaves_with_path(train._decays(params))
    }
    norms = {name for name, value in decays.items() if not value}
    assert all("norm" in name or "layers" in name for name in norms)
    assert len(norms) == sum("norm" in name for name in decays) + 2
    assert decays["['fc']['bias'].value"]
    assert decays["['prelu']['slope'].value"]


def test_the_running_mean_is_the_result(batch):
    state, _ = _after(_trainer(ema=0.5), batch, 1)
    start = _trainer(ema=0.5).init(jax.random.key(0)).params
    mixed = jax.tree.map(lambda a, b: 0.5 * a + 0.5 * b, start, state.params)
    _assert_close(state.ema, mixed, 1e-6)
    model = _trainer(ema=0.5).model(state)
    np.testing.assert_array_equal(model.fc.kernel[...], state.ema["fc"]["kernel"][...])


def test_a_state_comes_back_from_its_names(batch):
    trainer = _trainer()
    state, _ = _after(trainer, batch, 1)
    back = from_tree(to_tree(state), trainer.state_shapes())
    assert jax.tree.structure(back) == jax.tree.structure(state)
    _assert_close(back, state, 0)


@pytest.mark.parametrize(
    ("name", "epoch", "rate"),
    [
        ("hyperface", 0, 0.1),
        ("hyperface", 11.9, 0.1),
        ("hyperface", 12, 0.01),
        ("hyperface", 20, 0.001),
        ("hyperface", 26, 0.0001),
        ("casia", 24, 0.0001),
        ("insightface", 10, 0.05),
        ("insightface", 20, 0.0),
    ],
)
def test_schedules_are_the_published_ones(name, epoch, rate):
    assert RECIPES[name].schedule(100)(int(epoch * 100)) == pytest.approx(rate, rel=1e-5)


def test_a_warm_up_rises_to_the_schedule():
    schedule = replace(RECIPES["hyperface"], warmup_epochs=2).schedule(100)
    assert schedule(0) == 0
    assert schedule(100) == pytest.approx(0.05)
    assert schedule(200) == pytest.approx(0.1)
    assert schedule(1200) == pytest.approx(0.01)


def test_the_insightface_recipe_does_not_augment_but_flip():
    assert RECIPES["insightface"].augmentation == replace(NO_AUGMENTATION, flip=0.5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("head", "softmax"),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("warmup_epochs", 4),
        ("momentum", 1.0),
        ("ema", 1.0),
        ("sample_rate", 0.0),
        ("max_gradient_norm", -1.0),
    ],
)
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(InputError, match=field):
        replace(RECIPE, **{field: value})


@pytest.mark.parametrize(("norm", "length"), [(1.0, 1.0), (2.5, 2.5), (None, 0.01 * 24**0.5)])
def test_class_weights_start_as_in_the_source_of_the_recipe(norm, length):
    state = _trainer(class_norm=norm).init(jax.random.key(0))
    lengths = np.linalg.norm(np.asarray(state.classes), axis=1)
    assert lengths == pytest.approx(length, rel=1e-5 if norm else 0.5)


def test_adafaces_recipes_start_classes_at_length_one_and_insightfaces_do_not():
    norms = {name: recipe.class_norm for name, recipe in RECIPES.items()}
    assert norms == {"hyperface": 1.0, "casia": 1.0, "insightface": None}
