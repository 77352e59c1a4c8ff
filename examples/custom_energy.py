"""Define a custom energy as a function of the cosine: here, the Gaussian kernel of uniformity losses."""

import jax
import jax.numpy as jnp

import hyperface_jax as hf

T = 10.0


def kernel(cosine):
    """Return ``exp(-t |x_i - x_j|^2)`` from a cosine (Wang and Isola, 2020); JAX differentiates it."""
    return jnp.exp(-T * (2 - 2 * cosine))


problem = hf.PackingProblem(num_points=500, dim=32)
key = jax.random.key(0)
gaussian = hf.solve(problem, key, method=hf.Custom(hf.pair_energy(kernel)), num_steps=400)
annealed = hf.solve(problem, key, num_steps=400)
print(f"Gaussian kernel: max cosine {gaussian.max_cosine:.4f}")
print(f"annealed soft maximum: max cosine {annealed.max_cosine:.4f}")
