"""Build a generator like Vec2Face: the feature moves on the sphere, and a decoder draws it."""

import jax
import numpy as np
import torch

from hyperface_jax import sphere
from hyperface_jax.synthesis import FunctionGenerator, Renderer, Variation, render

torch.manual_seed(0)
decoder = torch.nn.Sequential(
    torch.nn.Linear(64, 8 * 8 * 16),
    torch.nn.Unflatten(1, (16, 8, 8)),
    torch.nn.ReLU(),
    torch.nn.ConvTranspose2d(16, 3, 4, stride=4),
    torch.nn.Sigmoid(),
)


@torch.inference_mode()
def draw(conditions, noise):
    """Decode the conditions; they contain all variation, so the noise is ignored."""
    return (decoder(torch.tensor(conditions)) * 255).byte().permute(0, 2, 3, 1).numpy()


generator = FunctionGenerator(
    function=draw,
    name="feature decoder",
    digest="seed 0",
    condition_dim=64,
    noise_shape=(),
    image_size=32,
)

identities = np.asarray(sphere.sample_uniform(jax.random.key(0), 5, 64))
within_60_degrees = Variation(min_cosine=0.5, cap_share=1.0)
renderer = Renderer(generator=generator, key=jax.random.key(1), variation=within_60_degrees)
images = render(renderer, identities, np.arange(5), np.zeros(5, int))
print(f"{len(images)} images, cosine to the identity {images[0].condition_cosine:.3f}")
