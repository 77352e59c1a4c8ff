"""Toy faces drawn by arithmetic on the pixel grid: differentiable and batched."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.toyfaces.drawing import over, ramp, smooth_step
from hyperface_jax.toyfaces.features import paint_behind, paint_head, paint_nose
from hyperface_jax.toyfaces.head import Skin, aged, colored, grid, head_mask, light_on, skin_seen
from hyperface_jax.toyfaces.parameters import (
    NUM_IDENTITY,
    NUM_NUISANCE,
    Nuisance,
    traits,
    unpack_nuisance,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Array, Float, UInt8

MIN_SIZE = 8
"""Smallest height and width in pixels; nothing can be recognized in smaller images."""
_BATCH = 256
"""Number of images in a batch of :func:`draw_batches`."""
_BLOCK = 64
"""Number of images to draw at a time; it bounds memory and lets the data fit in the cache."""


def render(
    identity: Float[Array, "n 24"], nuisance: Float[Array, "n m"], *, size: int
) -> Float[Array, "n size size 3"]:
    """Draw faces.

    Args:
        identity: latents of the persons, ``[n, 24]``.
        nuisance: circumstances of the pictures, ``[n, m]``, from
            :func:`hyperface_jax.toyfaces.parameters.pack_nuisance`.
        size: height and width of the images, in pixels.

    Returns:
        RGB images with values from 0 to 1, ``[n, size, size, 3]``.

    Raises:
        InputError: the shapes do not fit together, or the size is below ``MIN_SIZE``.
    """
    _check(identity, nuisance, size)
    num = len(identity)
    # Blocks are padded so that they need no separate program.
    rows = np.arange(-(-num // _BLOCK) * _BLOCK) % max(num, 1)
    return _render(jnp.asarray(identity)[rows], jnp.asarray(nuisance)[rows], size)[:num]


def draw_batches(
    identity: Float[Array, "n 24"], nuisance: Float[Array, "n m"], *, size: int
) -> Iterator[np.ndarray]:
    """Draw any number of faces as uint8 images, one batch at a time.

    Args:
        identity: as for :func:`render`.
        nuisance: as for :func:`render`.
        size: height and width of the images, in pixels.

    Yields:
        Batches of uint8 RGB images, ``[b, size, size, 3]``; ``n`` images altogether.

    Raises:
        InputError: as for :func:`render`.
    """
    # Batches are cut on the host, so that no program is compiled for each number of images.
    persons, views = np.asarray(identity), np.asarray(nuisance)
    num = len(persons)
    for start in range(0, num, _BATCH):
        # The last batch is padded so that it needs no separate program.
        rows = (start + np.arange(_BATCH)) % num
        parts = jnp.asarray(persons[rows]), jnp.asarray(views[rows])
        images = to_uint8(render(*parts, size=size))
        yield np.asarray(images)[: num - start]


def _check(identity: Any, nuisance: Any, size: int) -> None:
    if size < MIN_SIZE:
        raise InputError(f"size={size}: must be {MIN_SIZE} or more")
    shapes = np.shape(identity), np.shape(nuisance)
    if len(shapes[0]) != 2 or shapes != (
        (shapes[0][0], NUM_IDENTITY),
        (shapes[0][0], NUM_NUISANCE),
    ):
        raise InputError(
            f"identity, nuisance: shapes {shapes[0]} and {shapes[1]}; "
            f"[n, {NUM_IDENTITY}] and [n, {NUM_NUISANCE}] are needed"
        )


@partial(jax.jit, static_argnames="size")
def _render(identity: Any, nuisance: Any, size: int) -> Any:
    draw = jax.vmap(partial(_draw, size=size))
    blocks = jax.tree.map(
        lambda part: part.reshape(-1, _BLOCK, part.shape[1]), (identity, nuisance)
    )
    return jax.lax.map(lambda block: draw(*block), blocks).reshape(-1, size, size, 3)


def to_uint8(images: Float[Array, "*n 3"]) -> UInt8[Array, "*n 3"]:
    """Round colors from 0 to 1 to the 256 gray levels of a file."""
    return jnp.round(jnp.clip(images, 0, 1) * 255).astype(jnp.uint8)


def _draw(identity: Any, nuisance: Any, size: int) -> Any:
    """Draw one face, ``[size, size, 3]``."""
    face, view = traits(identity), unpack_nuisance(nuisance)
    face = aged(face, view.age)
    skin = skin_seen(face, view, size)
    colors = colored(face, view)
    shade = light_on(skin, view)
    image = _background(view, size)
    image = paint_behind(image, skin, face, view, colors, shade)
    head = paint_head(skin, face, view, colors) * shade
    image = over(image, head_mask(skin), head)
    image = paint_nose(image, skin, face, view, colors, shade)
    image = _occluders(image, skin, view)
    return _camera(image, view, size)


def _background(view: Nuisance, size: int) -> Any:
    x, y = grid(size)
    along = x * jnp.cos(view.ground_angle) + y * jnp.sin(view.ground_angle)
    ground, end = view.ground[:, None, None], view.ground_end[:, None, None]
    image = ground + jnp.clip(0.5 + 0.5 * along, 0, 1)[None] * (end - ground)
    radius = (x - view.blob_x) ** 2 + (y - view.blob_y) ** 2
    return over(
        image, 0.8 * smooth_step(-jnp.sqrt(radius + 1e-6) / view.blob_radius, -1.2, -0.8), view.blob
    )


def _occluders(image: Any, skin: Skin, view: Nuisance) -> Any:
    x = jnp.abs(skin.x - view.block_x) - view.block_width
    y = jnp.abs(skin.y - view.block_y) - view.block_height
    return over(image, ramp(jnp.maximum(x, y), skin.pixel), view.block)


def _camera(image: Any, view: Nuisance, size: int) -> Any:
    """Expose, blur and add noise: ``[3, size, size]`` to ``[size, size, 3]``."""
    tone = jnp.stack([1 + 0.12 * view.warmth, jnp.ones(()), 1 - 0.12 * view.warmth])
    image = image * (view.exposure * tone)[:, None, None]
    blur = _blur(view.blur, size)
    image = jnp.einsum("ij,cjk,lk->cil", blur, image, blur)
    image = image + view.noise * _noise(view.noise_seed, image.shape)
    return jnp.moveaxis(jnp.clip(image, 0, 1), 0, -1)


def _blur(sigma: Any, size: int) -> Any:
    """Return the matrix of a Gaussian blur along one axis; each of its rows sums to 1."""
    places = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size
    apart = (places[:, None] - places[None]) / (sigma + 0.1 / size)
    weights = jnp.exp(-0.5 * apart**2)
    return weights / jnp.sum(weights, axis=1, keepdims=True)


def _noise(seed: Any, shape: tuple[int, ...]) -> Any:
    key = jax.random.key(jax.lax.stop_gradient(seed).astype(jnp.uint32))
    return jax.random.normal(key, shape)
