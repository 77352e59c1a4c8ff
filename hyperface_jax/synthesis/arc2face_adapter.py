"""Adapters of Arc2Face: expression, pose or another attribute, told to the UNet beside the identity.

An adapter in the layout of IP-Adapter projects a vector to a few tokens, to which every cross-attention
of the UNet attends by keys and values of their own. The expression adapter of Arc2Face is one
(``exp_adapter/exp_adapter.bin``): its vector is 50 expression, 2 eyelid and 3 jaw parameters of FLAME,
which SMIRK measures in a photograph. The branch that guidance leads away from gets zeros, as published.

References:
    Ye et al., "IP-Adapter: Text Compatible Image Prompt Adapter for Text-to-Image Diffusion Models",
    2023.
    Paraperas Papantoniou and Zafeiriou, "ID-Consistent, Precise Expression Generation with
    Blendshape-Guided Diffusion", ICCV Workshops 2025, arXiv 2510.04706.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.embeddings import read_points
from hyperface_jax.io.files import one_line
from hyperface_jax.io.torch_files import read_state_dict

WEIGHTS = "exp_adapter.bin"
"""Name of the published weights in their folder."""
_PARTS = ("image_proj", "ip_adapter")
_KEYS = ".to_k_ip.weight"
_CROSS_ATTENTION = "attn2.processor"
_FIRST_BYTE = 8
"""The bytes of the digest of an image's noise before this one seed its sampler."""


def load_adapter(unet: Any, path: Path, scale: float) -> None:
    """Give a UNet the layers of an adapter.

    Args:
        unet: a ``UNet2DConditionModel``.
        path: file of tensors ``image_proj.*`` and ``ip_adapter.*``, in a .safetensors file or in two
            dictionaries of a .bin file; it is read without running code.
        scale: weight of what the attention to the adapter's tokens adds; 0 adds nothing.

    Raises:
        InputError: the file is damaged, or is no adapter of this UNet.
    """
    import torch

    named = read_state_dict(path, parts=_PARTS)
    parts: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
    for key, array in named.items():
        part, _, name = key.partition(".")
        if part in parts:
            parts[part][name] = torch.from_numpy(np.require(array, np.float32, "W"))
    num_layers = sum(name.endswith(_CROSS_ATTENTION) for name in unet.attn_processors)
    num_found = sum(name.endswith(_KEYS) for name in parts["ip_adapter"])
    if not parts["image_proj"] or num_found != num_layers:
        raise InputError(
            f"{one_line(path)}: has {len(parts['image_proj'])} tensors image_proj.* and keys for "
            f"{num_found} attentions, and this UNet has {num_layers}; use an IP-Adapter of Stable "
            "Diffusion 1.5"
        )
    try:
        unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    except Exception as error:  # diffusers and torch raise nearly anything
        raise InputError(
            f"{one_line(path)}: not an adapter of this UNet ({one_line(error)}); use an IP-Adapter of "
            "Stable Diffusion 1.5"
        ) from error
    for name, processor in unet.attn_processors.items():
        if name.endswith(_CROSS_ATTENTION):
            processor.scale = [scale]
    unet.eval().requires_grad_(False)


def read_adapter_inputs(path: Path, unet: Any) -> np.ndarray:
    """Read the vectors that an adapter can be told, float32 ``[k, p]``.

    Args:
        path: a file that holds a matrix, in any form that embeddings take; rows keep their length, and
            may be zero.
        unet: a UNet with the adapter.

    Raises:
        InputError: the file cannot be read, a number is not finite, or the vectors are of another
            length than the adapter's.
    """
    import torch

    rows = np.array(read_points(path), np.float32)
    if not np.isfinite(rows).all():
        raise InputError(f"{one_line(path)}: a number is not finite; measure it again")
    try:
        unet.encoder_hid_proj([torch.from_numpy(rows[:1, None])])
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(
            f"{one_line(path)}: rows of {rows.shape[1]} numbers are not what the adapter takes "
            f"({one_line(error)}); the expression adapter of Arc2Face takes 55"
        ) from error
    return rows


def chosen_rows(noise: np.ndarray, num_rows: int) -> np.ndarray:
    """Choose a row for each image by its noise, so that it depends on seed, identity and sample alone.

    Args:
        noise: the latents of the images, float32 ``[b, ...]``.
        num_rows: number of rows to choose from.

    Returns:
        Numbers of rows, ``[b]``.
    """
    digests = (hashlib.sha256(np.ascontiguousarray(row).tobytes()).digest() for row in noise)
    numbers = [int.from_bytes(digest[_FIRST_BYTE:], "little") % num_rows for digest in digests]
    return np.array(numbers, np.int64)
