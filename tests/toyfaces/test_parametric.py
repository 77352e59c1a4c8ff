import jax
import numpy as np
import pytest

from benchmarks.toy_models import parametric as training
from hyperface_jax.errors import InputError
from hyperface_jax.faces.flax_recognizer import load_recognizer
from hyperface_jax.io.torch_files import read_state_dict, write_state_dict
from hyperface_jax.synthesis import import_generator
from hyperface_jax.toyfaces.faces import draw_persons, embed_persons
from hyperface_jax.toyfaces.flow import FlowSettings, habitual_noise, make_network
from hyperface_jax.toyfaces.parameters import (
    NUM_NOISE,
    draw_nuisance,
    nuisance_of,
    preset_sides,
    unpack_nuisance,
)
from hyperface_jax.toyfaces.parametric import load_parametric, save_parametric
from hyperface_jax.toyfaces.pretrained import PARAMETRIC, PARAMETRIC_NAME, RECOGNIZER


@pytest.fixture(scope="module")
def model():
    return import_generator(PARAMETRIC_NAME)


def _inputs(num, dim=128, seed=0):
    rng = np.random.default_rng(seed)
    conditions = rng.standard_normal((num, dim)).astype(np.float32)
    conditions /= np.linalg.norm(conditions, axis=1, keepdims=True)
    return conditions, rng.standard_normal((num, NUM_NOISE)).astype(np.float32)


def test_an_image_depends_on_its_row_only(model):
    conditions, noise = _inputs(5)
    whole = model(conditions, noise).astype(int)
    assert whole.shape == (5, 32, 32, 3)
    part = model(conditions[2:4], noise[2:4]).astype(int)
    assert np.abs(part - whole[2:4]).max() <= 1
    assert np.abs(whole[0] - whole[1]).mean() > 1


def test_pictures_of_an_embedding_show_one_person(model):
    conditions, noise = _inputs(4)
    same = np.repeat(conditions[:1], 4, axis=0)
    persons = model.persons(np.concatenate([same, conditions]))
    np.testing.assert_allclose(persons[:4], persons[:1].repeat(4, 0), atol=1e-4)
    assert np.abs(persons[5] - persons[4]).max() > 0.5
    pictures = model(same, noise).astype(int)
    assert np.abs(pictures[0] - pictures[1]).mean() > 1


def test_unseen_persons_are_drawn_alike(model):
    """The claim of the metrics file, on other persons: faces meet their target."""
    recognizer = load_recognizer(RECOGNIZER)
    targets = embed_persons(
        recognizer, draw_persons(5, "reference", 100, 3, preset="easy")
    ).directions()
    _, noise = _inputs(100, seed=3)
    raw = recognizer(model(targets, noise))
    drawn = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.mean(np.sum(drawn * targets, axis=1)) > 0.88
    spread = model.persons(targets).std(axis=0)
    assert spread.min() > 0.5


def test_habitual_noise_is_normal_and_belongs_to_the_embedding():
    conditions, _ = _inputs(2000)
    noise = np.asarray(habitual_noise(conditions))
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.4)
    np.testing.assert_allclose(noise.std(axis=0), 1, atol=0.1)
    near = conditions + 0.002 * np.random.default_rng(1).standard_normal(conditions.shape)
    assert np.abs(np.asarray(habitual_noise(near.astype(np.float32))) - noise).mean() < 0.1


def test_noise_stands_for_the_same_circumstances_as_a_key():
    how = preset_sides("portrait")[0]
    noise = np.random.default_rng(0).standard_normal((4000, NUM_NOISE)).astype(np.float32)
    ours = unpack_nuisance(nuisance_of(noise, how))
    theirs = unpack_nuisance(draw_nuisance(jax.random.split(jax.random.key(0), 4000), how))
    for name in ("yaw", "scale", "light_x", "smile", "age", "glasses", "blur", "ground"):
        one, other = (np.asarray(getattr(part, name)) for part in (ours, theirs))
        assert one.mean() == pytest.approx(other.mean(), abs=0.05), name
        assert one.std() == pytest.approx(other.std(), rel=0.1, abs=0.01), name


def test_a_saved_generator_is_the_same(tmp_path):
    settings = FlowSettings(condition_dim=8, width=16, num_blocks=1, num_steps=2)
    network = make_network(settings, jax.random.key(1))
    save_parametric(tmp_path, network, settings)
    conditions, noise = _inputs(3, dim=8)
    one, other = (load_parametric(tmp_path) for _ in range(2))
    np.testing.assert_array_equal(one(conditions, noise), other(conditions, noise))
    assert one.digest == other.digest
    assert load_parametric(tmp_path, image_size=64).digest != one.digest
    assert load_parametric(tmp_path, image_size=64)(conditions, noise).shape == (3, 64, 64, 3)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    settings = FlowSettings(condition_dim=8, width=16, num_blocks=1, num_steps=2)
    save_parametric(tmp_path, make_network(settings, jax.random.key(1)), settings)
    weights = read_state_dict(tmp_path / "model.safetensors")
    weights.pop("leave.bias")
    write_state_dict(tmp_path / "model.safetensors", weights)
    with pytest.raises(InputError, match=r"leave\.bias"):
        load_parametric(tmp_path)


def test_the_training_writes_a_model_that_tells_how_it_was_made(tmp_path):
    settings = training.Settings(out=tmp_path, num_ids=40, steps=20, batch_size=16, num_test_ids=8)
    training.train(settings)
    assert load_parametric(tmp_path).condition_dim == 128
    assert (tmp_path / "metrics.json").exists()
    assert (PARAMETRIC / "metrics.json").exists()
