"""Make a generator from any function of arrays; it receives conditions and noise."""

import jax
import numpy as np

from hyperface_jax import sphere
from hyperface_jax.synthesis import FunctionGenerator, Renderer, Variation, render

blobs = FunctionGenerator(
    function=lambda conditions, noise: np.uint8(
        127 + 60 * np.tanh(conditions @ MIX + noise)
    ).reshape(-1, 32, 32, 3),
    name="blobs",
    digest="first version",
    condition_dim=64,
    noise_shape=(32 * 32 * 3,),
    image_size=32,
)
MIX = np.random.default_rng(0).normal(size=(64, 32 * 32 * 3)).astype(np.float32)

identities = np.asarray(sphere.sample_uniform(jax.random.key(0), 5, 64))
renderer = Renderer(generator=blobs, key=jax.random.key(1), variation=Variation(beta=0.05))
images = render(renderer, identities, np.arange(5), np.zeros(5, int))
print(f"{len(images)} images, cosine to the identity {images[0].condition_cosine:.3f}")
