"""Write a generator in Flax: a decoder from condition and noise to pixels, compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hyperface_jax import sphere
from hyperface_jax.synthesis import FunctionGenerator, Renderer, Variation, render

decoder = nnx.Sequential(
    nnx.Linear(64 + 16, 8 * 8 * 32, rngs=nnx.Rngs(0)),
    jax.nn.relu,
    lambda x: x.reshape(-1, 8, 8, 32),
    nnx.ConvTranspose(32, 3, (4, 4), strides=(4, 4), rngs=nnx.Rngs(1)),
)
pixels = nnx.jit(lambda model, x: jnp.round(255 * jax.nn.sigmoid(model(x))).astype(jnp.uint8))

generator = FunctionGenerator(
    function=lambda conditions, noise: np.asarray(pixels(decoder, np.hstack([conditions, noise]))),
    name="flax decoder",
    digest="random weights, seed 0",
    condition_dim=64,
    noise_shape=(16,),
    image_size=32,
)

identities = np.asarray(sphere.sample_uniform(jax.random.key(0), 5, 64))
renderer = Renderer(generator=generator, key=jax.random.key(1), variation=Variation())
images = [image.original for image in render(renderer, identities, np.arange(5), np.zeros(5, int))]
print(f"{len(images)} images, spread of the pixels {np.std(images):.1f}")
