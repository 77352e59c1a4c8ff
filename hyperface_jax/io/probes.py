"""A first check of a recognizer: does it tell images apart?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

_SAME = 0.999
_NUM_TILES = 8


def probe_images(image_size: int) -> np.ndarray:
    """Return an image of random tiles and its negative, uint8 ``[2, s, s, 3]``."""
    tiles = np.random.default_rng(0).integers(0, 256, (_NUM_TILES, _NUM_TILES, 3), dtype=np.uint8)
    place = np.arange(image_size) * _NUM_TILES // image_size
    image = tiles[place][:, place]
    return np.stack([image, 255 - image])


def check_tells_apart(embed: Callable[[np.ndarray], np.ndarray], image_size: int, name: str) -> int:
    """Embed an image and its negative, and refuse a network that embeds them the same.

    Args:
        embed: function that embeds uint8 images.
        image_size: height and width of the images that the network takes, in pixels.
        name: name of the network's file, for error messages.

    Returns:
        The dimension of its embeddings.

    Raises:
        InputError: the embeddings are the same, zero, or not finite.
    """
    raw = embed(probe_images(image_size)).astype(np.float64)
    if not np.isfinite(raw).all() or not np.all(np.any(raw, axis=1)):
        raise InputError(
            f"{name}: embeds an image as zeros or as no finite numbers; take another checkpoint"
        )
    one, other = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    if one @ other > _SAME:
        raise InputError(
            f"{name}: an image and its negative get the same embedding (cosine {one @ other:.4f}); "
            "take trained weights, and export without a scaling of pixels inside the network"
        )
    return raw.shape[1]
