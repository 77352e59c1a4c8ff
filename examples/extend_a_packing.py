"""Add identities to a finished packing without moving it, so that no image must be generated again.

To go from 10,000 to 50,000 identities in 512 dimensions, set ``OLD, NEW, DIM = 10_000, 40_000, 512``
and run this on an accelerator, or use the command line, which can resume::

    hyperface pack --num-ids 10000 --dim 512 --out first
    hyperface pack --num-ids 40000 --frozen first/embeddings.npy --out all
"""

import jax
import jax.numpy as jnp

import hyperface_jax as hf

OLD, NEW, DIM, STEPS = 400, 100, 32, 200

old = hf.solve(hf.PackingProblem(num_points=OLD, dim=DIM), jax.random.key(0), num_steps=STEPS)
problem = hf.PackingProblem(num_points=NEW, dim=DIM, frozen=old.x)
new = hf.solve(problem, jax.random.key(1), num_steps=STEPS)
identities = jnp.concatenate([old.x, new.x])
print(f"{OLD} identities: max cosine {old.max_cosine:.4f}")
print(f"{OLD + NEW} identities: max cosine {hf.max_cosine(identities):.4f}")
