"""Improved ResNets (IR): the backbones of ArcFace and AdaFace, in Flax NNX.

The two published networks differ only in details. Both are available, so that published weights fit:

* ``"insightface"``: RGB images, a strided 1 x 1 convolution in the first shortcut, no dropout, and a
  last batch norm with its weight fixed to 1.
* ``"adaface"``: BGR images, a strided copy in the first shortcut, dropout 0.4, and a last batch norm
  without weight and bias.

Images are ``[n, size, size, 3]`` with values ``(x / 255 - 0.5) / 0.5``. Parameters are float32. The
convolutions compute in ``dtype``; the last linear layer and batch norm compute in float32.

References:
    Deng et al., "ArcFace: additive angular margin loss for deep face recognition", CVPR 2019; Kim,
    Jain and Liu, "AdaFace: quality adaptive margin for face recognition", CVPR 2022.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from hyperface_jax import meshes
from hyperface_jax.errors import InputError
from hyperface_jax.recognition.convolution import convolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jax.sharding import Mesh

    from hyperface_jax.io.images import Color

Variant = Literal["insightface", "adaface"]

DROPOUT: Mapping[str, float] = {"insightface": 0.0, "adaface": 0.4}
"""Published dropout rate of each variant."""

COLOR_ORDER: Mapping[str, Color] = {"insightface": "rgb", "adaface": "bgr"}
"""Channel order that each variant's published weights expect."""

_MOMENTUM, _EPSILON = 0.9, 1e-5
_FAN_OUT = nnx.initializers.variance_scaling(2, "fan_out", "normal")
_CONV_INITS = {"insightface": nnx.initializers.normal(0.1), "adaface": _FAN_OUT}


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """The shape of a backbone.

    Args:
        depths: number of blocks in each stage; each stage halves the image.
        widths: number of channels in each stage, increasing; the stem has as many as the first stage.
        variant: which published network to follow.
        image_size: height and width of the images in pixels.
        embedding_dim: dimension of the embedding.
        dropout: share of the last feature map that is dropped in training.

    Raises:
        InputError: a value is not possible for a network.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    variant: Variant = "adaface"
    image_size: int = 112
    embedding_dim: int = 512
    dropout: float = DROPOUT["adaface"]

    def __post_init__(self) -> None:
        if self.variant not in DROPOUT:
            raise InputError(f"`variant={self.variant}`: choose one of {', '.join(DROPOUT)}")
        if not self.depths or len(self.depths) != len(self.widths):
            raise InputError(f"depths={self.depths}: give {len(self.widths)}, one for each width")
        if list(self.widths) != sorted({*self.widths}):
            raise InputError(f"widths={self.widths}: must grow from stage to stage")
        if min(*self.depths, *self.widths, self.image_size, self.embedding_dim) < 1:
            raise InputError("depths, widths, image_size, embedding_dim: must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout={self.dropout}: must be at least 0 and less than 1")

    @property
    def map_size(self) -> int:
        """Height and width of the last feature map."""
        return -(-self.image_size // 2 ** len(self.depths))


_WIDTHS = (64, 128, 256, 512)
BACKBONES: Mapping[str, BackboneConfig] = {
    "iresnet18": BackboneConfig((2, 2, 2, 2), _WIDTHS),
    "iresnet34": BackboneConfig((3, 4, 6, 3), _WIDTHS),
    "iresnet50": BackboneConfig((3, 4, 14, 3), _WIDTHS),
    "iresnet100": BackboneConfig((3, 13, 30, 3), _WIDTHS),
    "iresnet_tiny": BackboneConfig((1, 1, 1, 1), (32, 64, 128, 256), image_size=32),
    "iresnet_nano": BackboneConfig((1, 1, 1, 1), (16, 32, 64, 128), image_size=32),
}
"""The backbones by name. The last two are for images of 32 to 64 pixels and can be trained on a CPU."""


class _Setup(NamedTuple):
    init: Any
    dtype: Any
    rngs: nnx.Rngs


class FixedScale(nnx.BatchStat):
    """A batch norm's weight that stays 1. It counts as a parameter but is not trained."""


class Conv(nnx.Module):
    """A convolution without bias, padded by half its kernel size on both sides as in PyTorch."""

    def __init__(
        self, in_features: int, out_features: int, setup: _Setup, *, size: int = 3, stride: int = 1
    ) -> None:
        shape = (size, size, in_features, out_features)
        self.kernel = nnx.Param(setup.init(setup.rngs.params(), shape))
        self.stride = stride
        self.dtype = setup.dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolve in ``dtype``."""
        kernel = self.kernel[...].astype(self.dtype)
        return convolve(x.astype(self.dtype), kernel, self.stride)


class BatchNorm(nnx.Module):
    """Batch norm with PyTorch's running statistics, which use the unbiased variance.

    Statistics are computed in float32 over the whole batch, even if it is sharded over devices.

    Args:
        num_features: number of channels, the size of the last axis.
        weight: "learnt" trains a weight and a bias, "fixed" trains only a bias and keeps the weight at
            1, and "none" has neither.
    """

    def __init__(self, num_features: int, *, weight: str = "learnt") -> None:
        ones, zeros = jnp.ones(num_features), jnp.zeros(num_features)
        kind = FixedScale if weight == "fixed" else nnx.Param
        self.scale = nnx.data(None if weight == "none" else kind(ones))
        self.bias = nnx.data(None if weight == "none" else nnx.Param(zeros))
        self.mean = nnx.BatchStat(zeros)
        self.var = nnx.BatchStat(ones)
        self.use_running_average = False

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalize each channel, and update the running statistics in training mode."""
        wide = x.astype(jnp.float32)
        mean, var = self.mean[...], self.var[...]
        if not self.use_running_average:
            mean, var = self._measured(wide)
        scale = lax.rsqrt(var + _EPSILON)
        if self.scale is not None:
            scale = scale * self.scale[...]
        shift = -mean * scale
        if self.bias is not None:
            shift = shift + self.bias[...]
        return (wide * _channels(scale, x) + _channels(shift, x)).astype(x.dtype)

    def _measured(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        axes = tuple(range(x.ndim - 1))
        count = math.prod(x.shape[:-1])
        mean = jnp.mean(x, axes)
        var = jnp.maximum(jnp.mean(jnp.square(x), axes) - jnp.square(mean), 0)
        for running, new in ((self.mean, mean), (self.var, var * count / max(count - 1, 1))):
            new = lax.stop_gradient(new)
            running[...] = _MOMENTUM * running[...] + (1 - _MOMENTUM) * new
        return mean, var


class PReLU(nnx.Module):
    """A ReLU with a learned slope below zero for each channel."""

    def __init__(self, num_features: int) -> None:
        self.slope = nnx.Param(jnp.full(num_features, 0.25, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Multiply negative values by the slope."""
        return jnp.where(x >= 0, x, x * _channels(self.slope[...].astype(x.dtype), x))


class Linear(nnx.Module):
    """A linear layer in float32. Its input is the flattened last feature map, channels last."""

    def __init__(self, in_features: int, out_features: int, variant: str, rngs: nnx.Rngs) -> None:
        shape = (in_features, out_features)
        self.bias = nnx.Param(jnp.zeros(out_features))
        if variant == "adaface":
            self.kernel = nnx.Param(_FAN_OUT(rngs.params(), shape))
            return
        draw = partial(jax.random.uniform, minval=-(in_features**-0.5), maxval=in_features**-0.5)
        self.kernel = nnx.Param(draw(rngs.params(), shape))
        self.bias[...] = draw(rngs.params(), shape[1:])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the layer at full float32 precision."""
        y = jnp.matmul(x.astype(jnp.float32), self.kernel[...], precision=lax.Precision.HIGHEST)
        return y + _channels(self.bias[...], y)


def _channels(values: jax.Array, x: jax.Array) -> jax.Array:
    """Reshape one value per channel so that it broadcasts against ``x``."""
    return values.reshape((1,) * (x.ndim - 1) + (-1,))


class Block(nnx.Module):
    """A residual block: batch norm, convolution, batch norm, PReLU, convolution, batch norm."""

    def __init__(
        self, in_features: int, out_features: int, setup: _Setup, *, stride: int, variant: str
    ) -> None:
        self.norm1 = BatchNorm(in_features)
        self.conv1 = Conv(in_features, out_features, setup)
        self.norm2 = BatchNorm(out_features)
        self.prelu = PReLU(out_features)
        self.conv2 = Conv(out_features, out_features, setup, stride=stride)
        self.norm3 = BatchNorm(out_features)
        self.shortcut = nnx.data(None)
        if in_features != out_features or (stride > 1 and variant == "insightface"):
            conv = Conv(in_features, out_features, setup, size=1, stride=stride)
            self.shortcut = nnx.Sequential(conv, BatchNorm(out_features))
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        """Add the residual to the shortcut."""
        y = self.prelu(self.norm2(self.conv1(self.norm1(x))))
        y = self.norm3(self.conv2(y))
        if self.shortcut is not None:
            return y + self.shortcut(x)
        return y + x[:, :: self.stride, :: self.stride]


class IResNet(nnx.Module):
    """An improved ResNet that maps face images to embeddings.

    A new model is in training mode; ``model.eval()`` and ``model.train()`` switch the mode.

    Args:
        config: the shape of the network.
        dtype: type in which the convolutions compute, float32 or bfloat16.
        rngs: random streams; the weights are drawn from ``params``.
    """

    def __init__(self, config: BackboneConfig, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        setup = _Setup(_CONV_INITS[config.variant], dtype, rngs)
        width = config.widths[0]
        self.config = config
        self.conv = Conv(3, width, setup)
        self.norm = BatchNorm(width)
        self.prelu = PReLU(width)
        blocks = []
        for depth, out in zip(config.depths, config.widths, strict=True):
            for i in range(depth):
                stride = 1 if i else 2
                blocks.append(Block(width, out, setup, stride=stride, variant=config.variant))
                width = out
        self.blocks = nnx.List(blocks)
        self.last_norm = BatchNorm(width)
        self.fc = Linear(width * config.map_size**2, config.embedding_dim, config.variant, rngs)
        weight = "none" if config.variant == "adaface" else "fixed"
        self.features = BatchNorm(config.embedding_dim, weight=weight)
        self.deterministic = False

    def __call__(self, images: jax.Array, *, key: Any = None) -> jax.Array:
        """Embed images.

        Args:
            images: ``[n, size, size, 3]`` with values in [-1, 1] and channels in the variant's order.
            key: random key for dropout, required in training mode if the dropout rate is not 0.

        Returns:
            Raw embeddings, float32 ``[n, embedding_dim]``.

        Raises:
            InputError: the images have another shape, or the key is missing.
        """
        self._check(images, key)
        x = self.prelu(self.norm(self.conv(images)))
        for block in self.blocks:
            x = block(x)
        x = self.last_norm(x.astype(jnp.float32)).reshape(images.shape[0], -1)
        if not self.deterministic and self.config.dropout:
            keep = 1 - self.config.dropout
            x = jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, 0)
        return self.features(self.fc(x))

    def _check(self, images: jax.Array, key: Any) -> None:
        size = self.config.image_size
        if images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise InputError(f"images: shape {images.shape}; resize to [n, {size}, {size}, 3]")
        if key is None and not self.deterministic and self.config.dropout:
            raise InputError("key: dropout needs one in training; pass a key or call model.eval()")


def backbone_config(
    name: str,
    *,
    variant: Variant = "adaface",
    image_size: int | None = None,
    embedding_dim: int | None = None,
) -> BackboneConfig:
    """Return the shape of a backbone by its name.

    Args:
        name: a key of ``BACKBONES``.
        variant: which published network to follow.
        image_size: height and width of the images in pixels; None uses the backbone's own, 112 or 32.
        embedding_dim: dimension of the embedding; None uses 512.

    Returns:
        The shape, with the variant's dropout rate.

    Raises:
        InputError: the name or variant is unknown, or a size is below 1.
    """
    if name not in BACKBONES:
        raise InputError(f"`backbone={name}`: choose one of {', '.join(BACKBONES)}")
    found = BACKBONES[name]
    return dataclasses.replace(
        found,
        variant=variant,
        image_size=found.image_size if image_size is None else image_size,
        embedding_dim=found.embedding_dim if embedding_dim is None else embedding_dim,
        dropout=DROPOUT.get(variant, 0.0),
    )


def make_backbone(
    name: str,
    *,
    variant: Variant = "adaface",
    image_size: int | None = None,
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
) -> IResNet:
    """Make a backbone with random weights, initialized as published.

    Args:
        name: a key of ``BACKBONES``.
        variant: which published network to follow.
        image_size: height and width of the images in pixels; None uses the backbone's own, 112 or 32.
        dtype: type in which the convolutions compute, float32 or bfloat16.
        rngs: random streams; the weights are drawn from ``params``.

    Returns:
        The model, in training mode.

    Raises:
        InputError: the name or variant is unknown.
    """
    config = backbone_config(name, variant=variant, image_size=image_size)
    return IResNet(config, dtype=dtype, rngs=rngs)


def num_parameters(model: nnx.Module) -> int:
    """Count parameters as PyTorch does, including the batch norm weight that stays 1."""
    state = nnx.state(model, nnx.Any(nnx.Param, FixedScale))
    return sum(leaf.size for leaf in jax.tree.leaves(state))


class Embedded(NamedTuple):
    """Unit embeddings, ``[n, d]``, and their norms before scaling, ``[n]``.

    An embedding of norm 0 stays a row of zeros.
    """

    unit: Any
    norm: Any


@jax.jit
def unit_and_norm(raw: jax.Array) -> Embedded:
    """Split raw embeddings, ``[n, d]``, into unit vectors and norms."""
    norm = jnp.linalg.norm(raw, axis=1)
    return Embedded(raw / jnp.where(norm > 0, norm, 1)[:, None], norm)


def embed(
    model: IResNet,
    images: Any,
    *,
    mesh: Mesh | None = None,
    batch_size: int = 256,
    flip: bool = False,
) -> Embedded:
    """Embed images in evaluation mode, batch by batch, without changing the model.

    Args:
        model: the backbone.
        images: array or memory map ``[n, size, size, 3]``, scaled and ordered as the model expects.
        mesh: devices to shard each batch over; None uses one device.
        batch_size: images per step over all devices, rounded up to a multiple of their number.
        flip: whether to add the raw embedding of the mirrored image, as is usual in verification.

    Returns:
        Unit embeddings and norms, as float32 NumPy arrays.

    Raises:
        InputError: there are no images, or they have the wrong shape.
    """
    num_images = images.shape[0]
    if num_images < 1 or batch_size < 1:
        raise InputError(f"images={num_images}, batch_size={batch_size}: give 1 or more of both")
    mesh = mesh or meshes.make_mesh(jax.local_devices()[:1])
    graph, state = nnx.split(model)
    state = jax.device_put(state, meshes.replicated(mesh))
    size = -(-min(batch_size, num_images) // mesh.size) * mesh.size
    results = []
    for start in range(0, num_images, size):
        batch = meshes.shard_rows(images[start : start + size], mesh, size)
        raw = _raw(graph, state, batch)
        if flip:
            raw = raw + _raw(graph, state, batch[:, :, ::-1])
        # Let the host read the next batch while the devices compute this one, but not run further ahead.
        jax.block_until_ready(results[-1:])
        results.append(unit_and_norm(raw))
    parts = [jax.tree.map(meshes.gathered, result) for result in results]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_images], *parts)


@partial(jax.jit, static_argnums=0)
def _raw(graph: Any, state: Any, images: jax.Array) -> jax.Array:
    model = nnx.merge(graph, state)
    model.eval()
    return model(images)
