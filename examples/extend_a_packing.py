"""Add 100 identities to 400 finished ones without moving them: no image is generated again."""

import jax
import jax.numpy as jnp

import hyperface_jax as hf

old = hf.solve(hf.PackingProblem(num_points=400, dim=32), jax.random.key(0), num_iterations=200)
problem = hf.PackingProblem(num_points=100, dim=32, frozen=old.x)
new = hf.solve(problem, jax.random.key(1), num_iterations=200)
identities = jnp.concatenate([old.x, new.x])
print(f"400 identities: max cosine {old.max_cosine:.4f}")
print(f"500 identities: max cosine {jnp.max(hf.packing.row_max(identities)):.4f}")
