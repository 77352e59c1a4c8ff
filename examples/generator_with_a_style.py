"""Build a generator like DCFace: a denoiser that gets the identity and a style, here from noise."""

import jax
import numpy as np
import torch

from hyperface_jax import sphere
from hyperface_jax.synthesis import FunctionGenerator, Renderer, Variation, render

torch.manual_seed(0)
denoiser = torch.nn.Conv2d(3 + 1 + 8, 3, 3, padding=1)
to_map = torch.nn.Linear(64, 32 * 32)


@torch.inference_mode()
def draw(conditions, noise):
    """Denoise in a few steps; the first 8 noise values are the style, the rest is the initial image."""
    style, x = torch.tensor(noise[:, :8]), torch.tensor(noise[:, 8:]).reshape(-1, 3, 32, 32)
    style = style[:, :, None, None].expand(-1, -1, 32, 32)
    identity = to_map(torch.tensor(conditions)).reshape(-1, 1, 32, 32)
    for _ in range(4):
        x = x - 0.25 * denoiser(torch.cat([x, identity, style], 1))
    return ((x.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()


generator = FunctionGenerator(
    function=draw,
    name="id and style",
    digest="seed 0",
    condition_dim=64,
    noise_shape=(8 + 3072,),
    image_size=32,
)

identities = np.asarray(sphere.sample_uniform(jax.random.key(0), 5, 64))
renderer = Renderer(generator=generator, key=jax.random.key(1), variation=Variation())
images = [image.original for image in render(renderer, identities, np.arange(5), np.zeros(5, int))]
print(f"{len(images)} images, spread of the pixels {np.std(images):.1f}")
