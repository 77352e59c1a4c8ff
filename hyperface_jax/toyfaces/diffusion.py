"""A small diffusion generator of toy faces: a diffusers UNet conditioned on a person's embedding.

The UNet works on the image folded to 8 x 8 blocks of 48 channels. It predicts the face in a mixture of
face and noise, which determines the velocity of flow matching. If it predicted the noise or the velocity
instead, a network with few channels would have to carry all of the noise. Its condition is the direction
of a person's embeddings, given as a class embedding. A condition of zeros stands for nobody; guidance
needs it.

References:
    Lipman et al., Flow Matching for Generative Modeling, ICLR 2023. Li and He, Back to Basics: Let
    Denoising Generative Models Denoise, 2025. Ho and Salimans, Classifier-Free
    Diffusion Guidance, 2022.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from hyperface_jax.errors import InputError
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.files import atomic_write_json, one_line, read_json
from hyperface_jax.synthesis.negatives import branches, guide

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath
    from hyperface_jax.synthesis import Negatives

UNET, SETTINGS = "unet", "generator.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
FOLD = 4
"""Height and width of a block, in pixels."""
_SPREAD = 0.5
"""Approximate standard deviation of pixels in [-1, 1]; scales them to match the noise."""
_NUM_TIMES = 1000
"""Number of times between face and noise, as the UNet counts them."""
_NO_TEXT = 8
"""Width of the text embedding that the UNet of diffusers requires and this generator does not use."""


@dataclass(frozen=True)
class Sampling:
    """Settings for drawing images.

    Attributes:
        image_size: height and width of the images, in pixels.
        condition_dim: dimension of the embeddings.
        steps: number of Euler steps.
        guidance: guidance scale; 1 means no guidance, and is twice as fast.
    """

    image_size: int = 32
    condition_dim: int = 128
    steps: int = 6
    guidance: float = 2.0


def make_unet(
    image_size: int, condition_dim: int, widths: tuple[int, ...] = (48, 96)
) -> UNet2DConditionModel:
    """Return a UNet with random weights; it needs no attention, as faces are only 8 x 8 blocks."""
    channels = 3 * FOLD**2
    return UNet2DConditionModel(
        sample_size=image_size // FOLD,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * len(widths),
        up_block_types=("UpBlock2D",) * len(widths),
        mid_block_type="UNetMidBlock2D",
        norm_num_groups=16,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=condition_dim,
        resnet_time_scale_shift="scale_shift",
        cross_attention_dim=_NO_TEXT,
    )


def predict(
    unet: Any, x: torch.Tensor, time: torch.Tensor, conditions: torch.Tensor
) -> torch.Tensor:
    """Predict the face in a mixture of face and noise.

    Args:
        unet: the network.
        x: folded mixture of face and noise, ``[b, 48, s, s]``.
        time: share of the noise, from 0 to 1, ``[b]``.
        conditions: unit embeddings, or zeros for nobody, ``[b, d]``.

    Returns:
        The folded face, ``[b, 48, s, s]``.
    """
    text = x.new_zeros(len(x), 1, _NO_TEXT)
    scaled = conditions * math.sqrt(conditions.shape[1])
    output = unet(x, time * _NUM_TIMES, encoder_hidden_states=text, class_labels=scaled)
    return output.sample


def fold(images: np.ndarray) -> torch.Tensor:
    """Convert uint8 images ``[b, h, h, 3]`` to input of the UNet, ``[b, 48, h / 4, h / 4]``."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return pixel_unshuffle((x / 127.5 - 1) / _SPREAD, FOLD)


def unfold(x: torch.Tensor) -> np.ndarray:
    """Convert output of the UNet back to uint8 images."""
    pixels = (pixel_shuffle(x, FOLD) * _SPREAD + 1) * 127.5
    return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


class ToyGenerator:
    """Draws toy faces from embeddings.

    It is a :class:`hyperface_jax.synthesis.generators.GuidedGenerator`.

    Args:
        unet: a trained network from :func:`make_unet`.
        sampling: settings for drawing images.
        digest: hash of the weights.
    """

    name = "toy faces"

    def __init__(self, unet: UNet2DConditionModel, sampling: Sampling, digest: str) -> None:
        self._unet: Any = unet.eval().requires_grad_(False)
        self._sampling = sampling
        self.condition_dim = sampling.condition_dim
        self.image_size = sampling.image_size
        side = sampling.image_size // FOLD
        self.noise_shape = (3 * FOLD**2, side, side)
        settings = json.dumps(asdict(sampling), sort_keys=True)
        self.digest = hashlib.sha256(f"{digest} {settings}".encode()).hexdigest()

    @property
    def takes_negatives(self) -> bool:
        """Whether guidance is on."""
        return self._sampling.guidance != 1

    @torch.inference_mode()
    def __call__(
        self, conditions: np.ndarray, noise: np.ndarray, /, negatives: Negatives | None = None
    ) -> np.ndarray:
        """Follow the velocity from noise to faces."""
        scheduler: Any = FlowMatchEulerDiscreteScheduler(num_train_timesteps=_NUM_TIMES)
        sigmas = np.linspace(1, 1 / self._sampling.steps, self._sampling.steps)
        scheduler.set_timesteps(sigmas=sigmas.tolist())
        x = torch.from_numpy(np.array(noise, np.float32))
        wanted = torch.from_numpy(np.array(conditions, np.float32))
        weight, away = 0.0, None
        if negatives is not None:
            weight = negatives.weight
            away = torch.from_numpy(np.array(negatives.conditions, np.float32))
        unwanted = branches(torch.zeros_like(wanted), away, weight)
        for time in scheduler.timesteps:
            share = float(time) / _NUM_TIMES
            change = (x - self._guided(x, share, wanted, unwanted, weight)) / share
            x = scheduler.step(change, time, x, return_dict=False)[0]
        return unfold(x)

    def _guided(
        self,
        x: torch.Tensor,
        time: float,
        wanted: torch.Tensor,
        unwanted: list[torch.Tensor],
        weight: float,
    ) -> torch.Tensor:
        guidance = self._sampling.guidance
        if guidance == 1:
            return predict(self._unet, x, torch.full((len(x),), time), wanted)
        conditions = [*unwanted, wanted]
        num = len(conditions)
        times = torch.full((num * len(x),), time)
        faces = predict(self._unet, torch.cat([x] * num), times, torch.cat(conditions))
        return guide(faces.chunk(num), guidance=guidance, weight=weight)


def load_generator(path: StrPath) -> ToyGenerator:
    """Read a generator from the folder that :func:`save_generator` wrote.

    Raises:
        InputError: a file is missing or damaged.
    """
    path = Path(path)
    settings = read_json(path / SETTINGS)
    try:
        sampling = Sampling(**settings["sampling"])
        loaded: Any = UNet2DConditionModel.from_pretrained(
            path / UNET, torch_dtype=torch.float32, output_loading_info=True
        )
        unet, info = loaded
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{one_line(path)}: no generator of toy faces ({one_line(error)}); give a folder with "
            f"{SETTINGS} and {UNET}/"
        ) from error
    # diffusers only logs these errors, and fills in missing weights at random.
    if misfits := sorted({*info["missing_keys"], *info["unexpected_keys"]}):
        raise InputError(
            f"{one_line(path / UNET / WEIGHTS)}: {len(misfits)} weights are missing or have no place, "
            f"such as {misfits[0]}; take weights and config.json from one training"
        )
    return ToyGenerator(unet, sampling, file_sha256(path / UNET / WEIGHTS))


def save_generator(path: StrPath, unet: UNet2DConditionModel, sampling: Sampling) -> None:
    """Write a generator in half precision: its settings, and the UNet in the format of diffusers."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    config: Any = unet.config
    half: Any = make_unet(
        sampling.image_size, sampling.condition_dim, tuple(config.block_out_channels)
    )
    half.load_state_dict(unet.state_dict())
    half.half().save_pretrained(os.fspath(path / UNET))
    atomic_write_json(path / SETTINGS, {"sampling": asdict(sampling)})


def generator() -> ToyGenerator:
    """Return the generator that comes with the package, for ``hyperface synthesize --generator``."""
    from hyperface_jax.toyfaces.pretrained import GENERATOR

    return load_generator(GENERATOR)
