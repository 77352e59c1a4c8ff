"""Use packing as a JAX function: run many seeds, many weights or a whole scan in one compiled call."""

import jax
import jax.numpy as jnp

import hyperface_jax as hf

keys = jax.random.split(jax.random.key(0), 8)
problem = hf.PackingProblem(num_points=24, dim=4)
packings = jax.vmap(lambda key: hf.run(problem, key, num_steps=300))(keys)
best, worst = jnp.min(packings.max_cosine), jnp.max(packings.max_cosine)
print(f"8 seeds: max cosine {best:.4f} to {worst:.4f}; the 24-cell has 0.5")

gallery = hf.sphere.normalize(jax.random.normal(jax.random.key(1), (500, 16)) + 0.5)


def separation(alpha):
    """Pack near the gallery with the weight ``alpha``."""
    near = hf.PackingProblem(num_points=60, dim=16, gallery=gallery, alpha=alpha)
    return hf.run(near, jax.random.key(2), num_steps=100).max_cosine


alphas = jnp.array([0.0, 1.0, 5.0])
for alpha, cosine in zip(alphas, jax.vmap(separation)(alphas), strict=True):
    print(f"alpha {alpha}: max cosine {cosine:.4f}")


def grown(frozen, key):
    """Add eight points and drop the oldest eight, because shapes cannot change in a scan."""
    more = hf.PackingProblem(num_points=8, dim=8, frozen=frozen)
    packing = hf.run(more, key, num_steps=60)
    return jnp.concatenate([frozen[8:], packing.x]), packing.max_cosine


start = hf.sphere.sample_uniform(jax.random.key(3), 24, 8)
_, cosines = jax.lax.scan(grown, start, jax.random.split(jax.random.key(4), 3))
print("a scan that replaces eight of 24 points at a time:", *(f"{c:.3f}" for c in cosines))
