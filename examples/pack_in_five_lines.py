"""Pack 500 identities in 32 dimensions, and compare the result with a proven bound."""

import jax

import hyperface_jax as hf

problem = hf.PackingProblem(num_points=500, dim=32)
packing = hf.solve(problem, jax.random.key(0), num_steps=400)
print(f"max cosine {packing.max_cosine:.4f}; nothing is below {packing.lower_bound.value:.4f}")
