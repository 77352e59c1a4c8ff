import numpy as np
import pytest
import torch

from benchmarks.toy_models import generator
from hyperface_jax.errors import InputError
from hyperface_jax.io.torch_files import read_state_dict, write_state_dict
from hyperface_jax.synthesis import Negatives, import_generator
from hyperface_jax.toyfaces.diffusion import (
    Sampling,
    ToyGenerator,
    fold,
    load_generator,
    make_unet,
    save_generator,
    unfold,
)
from hyperface_jax.toyfaces.pretrained import GENERATOR_NAME
from hyperface_jax.toyfaces.training import GeneratorTraining

SAMPLING = Sampling(image_size=16, condition_dim=8, steps=3, guidance=2.0)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return make_unet(16, 8, (16, 32))


def _inputs(num, seed=0):
    rng = np.random.default_rng(seed)
    conditions = rng.standard_normal((num, 8), np.float32)
    conditions /= np.linalg.norm(conditions, axis=1, keepdims=True)
    return conditions, rng.standard_normal((num, 48, 4, 4), np.float32)


def test_folding_loses_nothing():
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    assert fold(images).shape == (3, 48, 4, 4)
    np.testing.assert_array_equal(unfold(fold(images)), images)


def test_an_image_depends_on_its_row_only(unet):
    model = ToyGenerator(unet, SAMPLING, "1")
    assert model.noise_shape == (48, 4, 4)
    conditions, noise = _inputs(7)
    whole = model(conditions, noise).astype(int)
    assert whole.shape == (7, 16, 16, 3)
    for rows in (slice(0, 1), slice(3, 7)):
        part = model(conditions[rows], noise[rows]).astype(int)
        assert np.abs(part - whole[rows]).max() <= 1
    assert np.abs(whole[0] - whole[1]).mean() > 1


def test_without_guidance_the_condition_alone_is_followed(unet):
    conditions, noise = _inputs(2)
    with torch.inference_mode():
        x = torch.from_numpy(noise)
        for time in (1, 2 / 3, 1 / 3):
            text = torch.zeros(2, 1, 8)
            scaled = torch.from_numpy(conditions) * 8**0.5
            times = torch.full((2,), time * 1000)
            face = unet(x, times, encoder_hidden_states=text, class_labels=scaled).sample
            x = x - (x - face) / time / 3
    plain = ToyGenerator(unet, Sampling(16, 8, 3, 1.0), "1")
    assert np.abs(plain(conditions, noise).astype(int) - unfold(x)).max() <= 1


def _guided_by_hand(unet, noise, conditions, away, guidance=2.0):
    """Repeat the sampling with guidance that leads away from ``away``, a UNet call for each."""
    x = torch.from_numpy(noise)
    with torch.inference_mode():
        for time in (1, 2 / 3, 1 / 3):
            times, text = torch.full((len(x),), time * 1000), torch.zeros(len(x), 1, 8)
            wanted, unwanted = (
                unet(
                    x,
                    times,
                    encoder_hidden_states=text,
                    class_labels=torch.from_numpy(rows) * 8**0.5,
                ).sample
                for rows in (conditions, away)
            )
            x = x - (x - unwanted - guidance * (wanted - unwanted)) / time / 3
    return unfold(x)


def test_negatives_of_no_weight_change_no_bit(unet):
    model = ToyGenerator(unet, SAMPLING, "1")
    conditions, noise = _inputs(4)
    plain = model(conditions, noise)
    assert np.abs(plain - _guided_by_hand(unet, noise, conditions, 0 * conditions)).max() <= 1
    away = Negatives(conditions=conditions[::-1], weight=0)
    np.testing.assert_array_equal(model(conditions, noise, negatives=away), plain)


def test_negatives_of_full_weight_stand_where_nobody_stood(unet):
    model = ToyGenerator(unet, SAMPLING, "1")
    assert model.takes_negatives
    conditions, noise = _inputs(4)
    away = Negatives(conditions=conditions[::-1], weight=1)
    images = model(conditions, noise, negatives=away).astype(int)
    expected = _guided_by_hand(unet, noise, conditions, conditions[::-1].copy())
    assert np.abs(images - expected).max() <= 1
    assert np.abs(images - model(conditions, noise)).max() > 1
    for row in range(4):
        own = np.array([row])
        alone = model(conditions[own], noise[own], negatives=away.of(own)).astype(int)
        assert np.abs(alone - images[own]).max() <= 1


def test_negatives_of_half_weight_are_mixed_with_nobody(unet):
    # In a single step, images are linear in the weight until they are rounded and clipped.
    model = ToyGenerator(unet, Sampling(16, 8, 1, 2.0), "1")
    conditions, noise = _inputs(4)

    def images(weight):
        away = Negatives(conditions=conditions[::-1], weight=weight)
        return model(conditions, noise, negatives=away).astype(float)

    none, half, full = (images(weight) for weight in (0, 0.5, 1))
    is_inside = np.all([(image > 0) & (image < 255) for image in (none, half, full)], axis=0)
    assert is_inside.mean() > 0.5
    assert np.abs(half - (none + full) / 2)[is_inside].max() <= 1
    assert np.abs(none - full).max() > 3


def test_negatives_without_guidance_are_not_taken(unet):
    assert not ToyGenerator(unet, Sampling(16, 8, 3, 1.0), "1").takes_negatives


@pytest.mark.parametrize(("weight", "num"), [(0.0, 2), (0.5, 3), (1.0, 2)])
def test_a_branch_without_weight_is_not_evaluated(unet, monkeypatch, weight, num):
    seen = []
    forward = type(unet).forward

    def spy(self, x, *args, **kwargs):
        seen.append(len(x))
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(type(unet), "forward", spy)
    conditions, noise = _inputs(4)
    away = Negatives(conditions=conditions[::-1], weight=weight)
    ToyGenerator(unet, SAMPLING, "1")(conditions, noise, negatives=away)
    assert seen == [4 * num] * 3


def test_a_generator_comes_back_in_half_precision(unet, tmp_path):
    save_generator(tmp_path / "model", unet, SAMPLING)
    back = load_generator(tmp_path / "model")
    conditions, noise = _inputs(4)
    expected = ToyGenerator(unet, SAMPLING, "1")(conditions, noise).astype(int)
    assert np.abs(back(conditions, noise) - expected).mean() < 1
    assert len(back.digest) == 64


def test_a_folder_that_is_no_generator_is_named(unet, tmp_path):
    with pytest.raises(InputError, match=r"generator\.json"):
        load_generator(tmp_path)
    save_generator(tmp_path, unet, SAMPLING)
    (tmp_path / "unet" / "config.json").unlink()
    with pytest.raises(InputError, match="no generator of toy faces"):
        load_generator(tmp_path)


@pytest.mark.parametrize("fault", ["missing", "unknown"])
def test_weights_that_do_not_fill_the_network_are_refused(unet, tmp_path, fault):
    save_generator(tmp_path, unet, SAMPLING)
    path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    arrays = read_state_dict(path)
    if fault == "missing":
        del arrays["conv_in.weight"]
    write_state_dict(path, arrays if fault == "missing" else {**arrays, "more": np.ones(2)})
    name = "conv_in" if fault == "missing" else "more"
    with pytest.raises(InputError, match=rf"safetensors: 1 weights are missing .* such as {name}"):
        load_generator(tmp_path)


def _settings(tmp_path, name):
    return generator.Settings(
        work=tmp_path / name,
        out=tmp_path / f"{name}-model",
        num_ids=6,
        images_per_id=4,
        steps=6,
        batch_size=8,
        num_test_ids=4,
        checkpoint_seconds=0,
    )


def test_training_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "measure", lambda settings: {})
    whole = _settings(tmp_path, "whole")
    generator.train(whole)
    stopped = _settings(tmp_path, "stopped")
    step = GeneratorTraining.train_step

    def interrupted(run):
        if run.step == 3:
            raise KeyboardInterrupt
        return step(run)

    monkeypatch.setattr(GeneratorTraining, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generator.train(stopped)
    monkeypatch.setattr(GeneratorTraining, "train_step", step)
    generator.train(stopped)
    weights = [
        (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
        for folder in (whole.out, stopped.out)
    ]
    assert weights[0] == weights[1]


def test_the_shipped_generator_draws_the_person_of_an_embedding(tmp_path):
    assert import_generator(GENERATOR_NAME).condition_dim == 128
    found = generator.measure(generator.Settings(work=tmp_path, num_test_ids=60))
    assert found["drawn_target_cosine"] >= 0.75
    assert found["drawn_rank_1"] > 0.5
