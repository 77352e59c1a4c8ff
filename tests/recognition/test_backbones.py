import dataclasses
import runpy
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from hyperface_jax import meshes
from hyperface_jax.errors import InputError
from hyperface_jax.recognition.backbones import (
    BACKBONES,
    BackboneConfig,
    IResNet,
    embed,
    make_backbone,
    num_parameters,
    unit_and_norm,
)
from hyperface_jax.recognition.weights import export_weights, import_weights

TORCH = Path(__file__).parents[2] / "benchmarks" / "rivals" / "torch_iresnet.py"
published = SimpleNamespace(**runpy.run_path(str(TORCH)))

VARIANTS = ("insightface", "adaface")
SMALL = {"depths": (2, 1), "widths": (8, 16)}


def _images(num_images, size, seed=0):
    shape = (num_images, size, size, 3)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def _to_torch(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _pair(variant, config):
    """A PyTorch network and the model that holds its weights."""
    make = published.NETWORKS[variant]
    network = published.randomize(
        make(config.depths, config.widths, config.map_size, config.embedding_dim)
    )
    model = nnx.eval_shape(lambda: IResNet(config, rngs=nnx.Rngs(0)))
    import_weights(model, {key: value.numpy() for key, value in network.state_dict().items()})
    return network, model


@pytest.fixture(params=VARIANTS)
def small(request):
    config = BackboneConfig(
        **SMALL, variant=request.param, image_size=16, embedding_dim=12, dropout=0.0
    )
    network, model = _pair(request.param, config)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return network, model


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["iresnet18", "iresnet50", "iresnet100"])
def test_it_embeds_as_the_published_network_does(name, variant):
    """As deep as published, and narrower."""
    config = dataclasses.replace(BACKBONES[name], widths=(8, 12, 16, 24), variant=variant)
    network, model = _pair(variant, config)
    model.eval()
    images = _images(2, 112)
    with torch.no_grad():
        expected = network.eval()(_to_torch(images)).numpy()
    found = np.asarray(model(jnp.asarray(images)))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    # The two images are told apart, so that equality means something.
    assert np.abs(expected[0] - expected[1]).max() > 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "variant", "expected"),
    [
        ("iresnet50", "insightface", 43_590_848),
        ("iresnet50", "adaface", 43_585_600),
        ("iresnet100", "insightface", 65_156_160),
        ("iresnet100", "adaface", 65_150_912),
    ],
)
def test_it_has_as_many_parameters_as_published(name, variant, expected):
    model = nnx.eval_shape(lambda: make_backbone(name, variant=variant, rngs=nnx.Rngs(0)))
    assert num_parameters(model) == expected


def test_training_follows_the_batch_statistics_as_pytorch_does(small):
    network, model = small
    images = _images(6, 16)
    expected = network.train()(_to_torch(images)).detach().numpy()
    found = nnx.jit(lambda model: model(jnp.asarray(images)))(model)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    weights = export_weights(model)
    running = [key for key in weights if "running" in key]
    assert len(running) >= 2 * (2 + 3 * sum(SMALL["depths"]))
    for key in running:
        np.testing.assert_allclose(
            weights[key], network.state_dict()[key].numpy(), atol=1e-5, err_msg=key
        )


@pytest.mark.parametrize("mesh", [3, 8], indirect=True)
def test_batch_statistics_are_those_of_the_whole_batch_on_any_mesh(mesh):
    config = BackboneConfig(**SMALL, image_size=8, embedding_dim=4, dropout=0.0)
    images = _images(24, 8)
    one, cut = (IResNet(config, rngs=nnx.Rngs(0)) for _ in range(2))
    step = nnx.jit(lambda model, images: model(images))
    expected = step(one, jnp.asarray(images))
    nnx.update(cut, jax.device_put(nnx.state(cut), meshes.replicated(mesh)))
    found = step(cut, meshes.shard_rows(images, mesh, 24))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for key, value in export_weights(one).items():
        np.testing.assert_allclose(export_weights(cut)[key], value, atol=1e-5, err_msg=key)


def test_the_gradient_is_that_of_pytorch(small):
    network, model = small
    images = _images(6, 16)
    direction = np.random.default_rng(1).standard_normal((6, 12)).astype(np.float32)
    (network.train()(_to_torch(images)) * torch.from_numpy(direction)).sum().backward()
    loss = nnx.grad(lambda model: jnp.sum(model(jnp.asarray(images)) * direction))
    gradient = nnx.jit(loss)(model)
    other = nnx.clone(model)
    nnx.update(other, gradient)
    found = export_weights(other)
    trained = {key: p.grad for key, p in network.named_parameters() if p.grad is not None}
    scale = max(float(grad.abs().max()) for grad in trained.values())
    for key, expected in trained.items():
        np.testing.assert_allclose(found[key], expected.numpy(), atol=1e-4 * scale, err_msg=key)


def test_the_last_weight_of_insightface_is_not_trained():
    config = BackboneConfig(**SMALL, variant="insightface", image_size=16)
    model = nnx.eval_shape(lambda: IResNet(config, rngs=nnx.Rngs(0)))
    assert "scale" not in nnx.state(model, nnx.Param)["features"]
    assert "bias" in nnx.state(model, nnx.Param)["features"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_new_weights_are_drawn_as_published(variant):
    model = make_backbone("iresnet_tiny", variant=variant, rngs=nnx.Rngs(3))
    last = model.blocks[-1].conv2.kernel[...]
    expected = {"insightface": 0.1, "adaface": (2 / (256 * 9)) ** 0.5}[variant]
    np.testing.assert_allclose(jnp.std(last), expected, rtol=0.01)
    kernel = model.fc.kernel[...]
    expected = {"insightface": (3 * 4 * 256) ** -0.5, "adaface": (2 / 512) ** 0.5}[variant]
    np.testing.assert_allclose(jnp.std(kernel), expected, rtol=0.01)
    assert bool(jnp.any(model.fc.bias[...])) is (variant == "insightface")


def test_bfloat16_gives_finite_gradients_and_a_float32_embedding(key):
    config = BackboneConfig(**SMALL, image_size=16, embedding_dim=12)
    model = IResNet(config, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    images = jnp.asarray(_images(4, 16))

    def loss(model):
        raw = model(images, key=key)
        assert raw.dtype == jnp.float32
        return jnp.sum(unit_and_norm(raw).unit[:, :4])

    gradient = nnx.jit(nnx.grad(loss))(model)
    leaves = jax.tree.leaves(gradient)
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
    assert np.any(np.asarray(gradient["conv"]["kernel"][...]))


def test_bfloat16_stays_near_float32():
    model = make_backbone("iresnet_tiny", rngs=nnx.Rngs(0))
    half = make_backbone("iresnet_tiny", dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    images = _images(4, 32)
    cosines = jnp.sum(embed(model, images).unit * embed(half, images).unit, axis=1)
    assert 0.99 < float(jnp.min(cosines)) < 1 - 1e-7


def test_dropout_acts_in_training_alone_and_follows_its_key():
    model = make_backbone("iresnet_tiny", rngs=nnx.Rngs(0))
    images = jnp.asarray(_images(4, 32))
    first, again, other = (model(images, key=jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert float(jnp.max(jnp.abs(first - other))) > 0.1
    model.eval()
    np.testing.assert_array_equal(model(images, key=jax.random.key(0)), model(images))


def test_embedding_leaves_the_model_as_it_is_and_gives_unit_vectors():
    model = make_backbone("iresnet_tiny", rngs=nnx.Rngs(0))
    before = jax.tree.map(jnp.copy, nnx.state(model))
    images = _images(5, 32)
    unit, norm = embed(model, images)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), before)
    assert model.features.use_running_average is False
    model.eval()
    raw = model(jnp.asarray(images))
    np.testing.assert_allclose(unit * norm[:, None], raw, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("mesh", "flip"), [(1, True), (3, False), (8, True)], indirect=["mesh"])
def test_batches_and_devices_do_not_change_embeddings(mesh, flip):
    config = BackboneConfig(**SMALL, image_size=16, embedding_dim=12)
    model = IResNet(config, rngs=nnx.Rngs(0))
    images = _images(11, 16)
    expected = embed(model, images, flip=flip)
    found = embed(model, images, mesh=mesh, batch_size=4, flip=flip)
    np.testing.assert_allclose(found.unit, expected.unit, atol=1e-5)
    np.testing.assert_allclose(found.norm, expected.norm, rtol=1e-5)


def test_flipping_sums_the_raw_embeddings_of_the_image_and_its_mirror():
    model = make_backbone("iresnet_tiny", rngs=nnx.Rngs(0))
    images = _images(3, 32)
    one, other = embed(model, images), embed(model, images[:, :, ::-1])
    both = one.unit * one.norm[:, None] + other.unit * other.norm[:, None]
    expected = unit_and_norm(jnp.asarray(both))
    found = embed(model, images, flip=True)
    np.testing.assert_allclose(found.unit, expected.unit, atol=1e-5)
    np.testing.assert_allclose(found.norm, expected.norm, rtol=1e-5)


def test_a_zero_embedding_has_no_direction():
    unit, norm = unit_and_norm(jnp.zeros((1, 4)))
    np.testing.assert_array_equal(unit, 0)
    np.testing.assert_array_equal(norm, 0)


@pytest.mark.parametrize("size", [48, 50])
def test_the_tiny_backbone_takes_other_sizes(size):
    model = make_backbone("iresnet_tiny", image_size=size, rngs=nnx.Rngs(0))
    assert embed(model, _images(1, size)).unit.shape == (1, 512)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "sphereface"}, "`variant=sphereface`"),
        ({"depths": (1,)}, "depths"),
        ({"depths": (1, 0)}, "must be 1 or more"),
        ({"widths": (16, 8)}, "widths"),
        ({"image_size": 0}, "image_size"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_a_shape_that_no_network_has_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        BackboneConfig(**{**SMALL, **change})


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match="choose one of iresnet18"):
        make_backbone("resnet", rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="choose one of insightface, adaface"):
        make_backbone("iresnet18", variant="arcface", rngs=nnx.Rngs(0))  # type: ignore[arg-type]


def test_images_of_another_shape_and_a_missing_key_are_refused():
    model = make_backbone("iresnet_tiny", rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=r"resize to \[n, 32, 32, 3\]"):
        embed(model, _images(2, 16))
    with pytest.raises(InputError, match="give 1 or more"):
        embed(model, _images(0, 32))
    with pytest.raises(InputError, match="dropout needs one"):
        model(jnp.asarray(_images(2, 32)))
