"""Conditions and noise of images, each drawn from its own key, independent of all other images.

Attempt r at sample j of identity i uses the key ``fold_in(fold_in(fold_in(key, i), j), r)``. On the same
kind of machine, its condition and noise are the same bit for bit in any batch, order, worker or resumed
run.

References:
    Otroshi Shahreza and Marcel, "HyperFace", ICLR 2025, section 3.3: ``normalize(x + beta v)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.sphere import normalize

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_BLOCK = 16
"""Number of rows in the compiled program, which is the same for batches of any size."""
_TABLE = 4097
_CHOICE, _CONDITION, _NOISE = range(3)


@dataclass(frozen=True, kw_only=True)
class Variation:
    """Settings for how the conditions of an identity vary around its embedding x.

    Gaussian samples are ``normalize(x + beta v)`` with standard normal v. Their angle to x grows with
    the dimension; its tangent is about ``beta sqrt(d)``. Cap samples are uniform among the directions
    with a cosine to x of at least ``min_cosine``; in high dimensions, nearly all of them lie close to
    the rim.

    Args:
        beta: standard deviation of the Gaussian in each coordinate.
        min_cosine: smallest cosine to x on the cap, above 0.
        cap_share: share of the samples that are drawn on the cap; the others are Gaussian.

    Raises:
        InputError: a value is out of range.
    """

    beta: float = 0.01
    min_cosine: float = 1.0
    cap_share: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise InputError(f"beta={self.beta}: must be 0 or more")
        if not 0 < self.min_cosine <= 1:
            raise InputError(f"min_cosine={self.min_cosine}: must be above 0 and at most 1")
        if not 0 <= self.cap_share <= 1:
            raise InputError(f"cap_share={self.cap_share}: must be between 0 and 1")


class Draws(NamedTuple):
    """Inputs for a generator.

    Attributes:
        conditions: unit rows, float32 ``[b, d]``.
        cosines: cosine between each condition and its identity's embedding, float32 ``[b]``.
        noise: standard normal noise, float32 ``[b, *noise_shape]``.
    """

    conditions: np.ndarray
    cosines: np.ndarray
    noise: np.ndarray


def draw(
    key: jax.Array,
    embeddings: Float[Any, "b d"],
    identities: np.ndarray,
    samples: np.ndarray,
    *,
    variation: Variation,
    noise_shape: tuple[int, ...],
    attempts: np.ndarray | int = 0,
) -> Draws:
    """Draw conditions and noise.

    Args:
        key: random key of the data set.
        embeddings: embedding of each image's identity, unit rows ``[b, d]``.
        identities: number of each image's identity, ``[b]``.
        samples: number of each image within its identity, ``[b]``.
        variation: settings for how conditions vary around the embeddings.
        noise_shape: shape of the noise for one image.
        attempts: number of earlier attempts at each image.

    Returns:
        The draws, in host memory.

    Raises:
        InputError: the lengths differ.
    """
    num_images, dim = embeddings.shape
    if not num_images == len(identities) == len(samples):
        raise InputError(
            f"embeddings, identities, samples: {num_images}, {len(identities)} and {len(samples)} rows; "
            "give one of each per image"
        )
    numbers = np.stack(np.broadcast_arrays(identities, samples, attempts), axis=1).astype(np.uint32)
    block = partial(
        _draw_block,
        key,
        table=_cap_table(variation.min_cosine, dim),
        settings=np.array([variation.beta, variation.cap_share], np.float32),
        noise_shape=noise_shape,
    )
    parts = []
    for start in range(0, num_images, _BLOCK):
        rows = slice(start, start + _BLOCK)
        parts.append(block(_filled(embeddings[rows]), _filled(numbers[rows])))
    columns = zip(*parts, strict=True) if parts else _nothing(dim, noise_shape)
    return Draws(*(np.concatenate(column)[:num_images] for column in columns))


def _filled(rows: Any) -> np.ndarray:
    rows = np.asarray(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], _BLOCK - len(rows), axis=0)])


def _nothing(dim: int, noise_shape: tuple[int, ...]) -> list[list[np.ndarray]]:
    return [[np.zeros((0, *shape), np.float32)] for shape in ((dim,), (), noise_shape)]


@partial(jax.jit, static_argnames="noise_shape")
def _draw_block(
    key: jax.Array,
    embeddings: jax.Array,
    numbers: jax.Array,
    *,
    table: jax.Array,
    settings: jax.Array,
    noise_shape: tuple[int, ...],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    keys = fold(key, numbers[:, 0])
    for column in (1, 2):
        keys = jax.vmap(jax.random.fold_in)(keys, numbers[:, column])
    part = jax.vmap(jax.random.fold_in, (0, None))
    beta, cap_share = settings
    normal = jax.vmap(partial(jax.random.normal, shape=embeddings.shape[1:]))(
        part(keys, _CONDITION)
    )
    noise = jax.vmap(partial(jax.random.normal, shape=noise_shape))(part(keys, _NOISE))
    choice, height = jax.vmap(partial(jax.random.uniform, shape=(2,)))(part(keys, _CHOICE)).T
    gaussian = normalize(embeddings + beta * normal)
    capped = _on_cap(embeddings, normal, height, table)
    conditions = jnp.where((choice < cap_share)[:, None], capped, gaussian)
    return conditions, jnp.sum(conditions * embeddings, axis=1), noise


def _on_cap(
    x: Float[Array, "b d"], normal: Float[Array, "b d"], height: Float[Array, "b"], table: jax.Array
) -> Float[Array, "b d"]:
    """Move x in a random direction by the angle that encloses the share ``height`` of the cap."""
    angle = jnp.interp(height, table[0], table[1])[:, None]
    tangent = normal - jnp.sum(normal * x, axis=1, keepdims=True) * x
    return normalize(jnp.cos(angle) * x + jnp.sin(angle) * normalize(tangent))


@lru_cache(maxsize=8)
def _cap_table(min_cosine: float, dim: int) -> np.ndarray:
    """Tabulate the angle in a cap as a function of the share of the cap's area inside it, ``[2, k]``.

    The area density at an angle a is proportional to ``sin(a)^(d-2)``, so nearly all area is at the rim.
    In terms of ``w = (sin a / sin rim)^(d-1)``, the density is just ``1 / cos a``, which is smooth
    enough for a table.
    """
    rim = math.sqrt(1 - min_cosine**2)
    w = 1 - (1 - np.linspace(0, 1, _TABLE)) ** 2
    sine = rim * w ** (1 / max(dim - 1, 1))
    density = 1 / np.sqrt(1 - sine**2)
    steps = np.diff(w) * (density[1:] + density[:-1]) / 2
    share = np.concatenate([[0.0], np.cumsum(steps)])
    return np.stack([share / share[-1], np.arcsin(sine)]).astype(np.float32)
