"""What a sweep must know of its devices: their platform, and the largest tile that suits them."""

from __future__ import annotations

import math

import jax
from jax.sharding import Mesh

CACHED_BLOCK = 512
"""Largest side of a tile of scores that stays in the cache of a CPU or on the chip of a TPU."""
_GPU_BLOCK = 8192
_UNKNOWN_GPU_BYTES = 16 * 2**30
LIVE_TILES = 4
"""Tiles in use at once on a GPU: scores, weights, and what becomes of them."""
_SHARE_OF_TILES = 1 / 32
_ALIGNED = 128


def platform_of(mesh: Mesh | None = None) -> str:
    """Return ``"cpu"``, ``"gpu"`` or ``"tpu"``; a mesh may be of devices that are not here."""
    return jax.default_backend() if mesh is None else mesh.devices.flat[0].platform


def largest_block(mesh: Mesh | None = None) -> int:
    """Return the largest number of rows of a tile that suits the devices of a sweep."""
    if platform_of(mesh) != "gpu":
        return CACHED_BLOCK
    device = jax.local_devices()[0] if mesh is None else mesh.devices.flat[0]
    stats = device.memory_stats() if device.platform == "gpu" else None
    return gpu_block(float((stats or {}).get("bytes_limit", _UNKNOWN_GPU_BYTES)))


def gpu_block(memory_bytes: float) -> int:
    """Return the largest side of a tile on a GPU with so much memory, a multiple of 128.

    XLA writes the scores of a tile to the memory of a GPU, so no tile is too large for a cache, and a
    small one only adds launches of kernels. The tiles in use take at most 1/32 of the memory; beyond
    8192 rows, a product gains nothing more.
    """
    side = math.isqrt(int(_SHARE_OF_TILES * memory_bytes / (4 * LIVE_TILES)))
    return max(min(side - side % _ALIGNED, _GPU_BLOCK), CACHED_BLOCK)
