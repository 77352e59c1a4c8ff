"""A custom energy is one method: here the Gaussian kernel of uniformity losses."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

import hyperface_jax as hf


@dataclass(frozen=True)
class Gaussian(hf.packing.PairEnergy):
    """Mean of ``exp(-t |x_i - x_j|^2)`` over pairs (Wang and Isola, 2020)."""

    t: float = 2.0

    def pair(self, scores, *, step, shift):
        """Return the kernel of a cosine and its derivative."""
        kernel = jnp.exp(-self.t * (2 - 2 * scores))
        return kernel, 2 * self.t * kernel


problem = hf.PackingProblem(num_points=500, dim=32, energy=Gaussian(t=10.0))
gaussian = hf.solve(problem, jax.random.key(0), num_iterations=400)
annealed = hf.solve(
    hf.PackingProblem(num_points=500, dim=32), jax.random.key(0), num_iterations=400
)
print(f"Gaussian kernel: max cosine {gaussian.max_cosine:.4f}")
print(f"annealed soft maximum: max cosine {annealed.max_cosine:.4f}")
