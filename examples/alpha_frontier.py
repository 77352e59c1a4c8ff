"""Trace the trade-off between separation and nearness to the gallery, with one packing per alpha."""

import jax
import jax.numpy as jnp

import hyperface_jax as hf

NUM_IDS, DIM, STEPS = 200, 32, 100

# The gallery lies on a manifold: a curved sheet of 6 dimensions, made with random sine waves.
sheet = jax.random.normal(jax.random.key(0), (1000, 6))
waves = jnp.sin(sheet @ jax.random.normal(jax.random.key(1), (6, DIM)))
gallery = hf.sphere.normalize(waves)

print("alpha  max cosine  mean cosine to the nearest gallery row")
for alpha in (0.0, 0.5, 2.0, 5.0):
    problem = hf.PackingProblem(num_points=NUM_IDS, dim=DIM, gallery=gallery, alpha=alpha)
    packing = hf.solve(problem, jax.random.key(2), num_steps=STEPS)
    nearness = hf.sweep(packing.x, gallery, reduction=hf.pairwise.nearest()).cosine.mean()
    print(f"{alpha:5.1f}  {packing.max_cosine:10.4f}  {nearness:.4f}")
