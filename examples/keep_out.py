"""Keep a packing away from given people: no identity comes nearer to any of them than a threshold.

At the end, identities that still violate the limit are rotated until they satisfy it. If the people
leave no room for this, ``violations`` counts the identities that could not be moved away.
"""

import jax

import hyperface_jax as hf
from hyperface_jax.evaluation import nearest_pairs

NUM_IDS, PEOPLE, DIM, THRESHOLD = 200, 500, 64, 0.391
gallery_key, people_key, key = jax.random.split(jax.random.key(0), 3)
gallery = hf.sphere.sample_uniform(gallery_key, 1000, DIM)
people = hf.sphere.sample_uniform(people_key, PEOPLE, DIM)

free = hf.PackingProblem(num_points=NUM_IDS, dim=DIM, gallery=gallery)
kept = hf.PackingProblem(
    num_points=NUM_IDS, dim=DIM, gallery=gallery, keep_out=people, keep_out_cosine=THRESHOLD
)
for name, problem in (("without keep-out", free), ("with keep-out", kept)):
    packing = hf.solve(problem, key, num_steps=100)
    near = nearest_pairs(packing.x, people).cosine
    print(
        f"{name}: {sum(near > THRESHOLD)} of {NUM_IDS} above {THRESHOLD}, nearest {max(near):.4f}, "
        f"max cosine {packing.max_cosine:.4f}, violations {packing.violations}"
    )
