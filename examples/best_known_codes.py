"""Compare an algebraic code, a packing found by gradients, and the bound that nothing can beat."""

import jax

import hyperface_jax as hf
from hyperface_jax.codes import best_known

print("   n   d   bound    code  packed  code's name")
for num_points, dim in ((240, 8), (552, 23), (500, 32)):
    bound = hf.bounds.tightest(num_points, dim)
    code = best_known(num_points, dim)
    problem = hf.PackingProblem(num_points=num_points, dim=dim)
    packing = hf.solve(problem, jax.random.key(0), num_steps=400)
    cosines = f"{bound.value:.4f}  {code.max_cosine:.4f}  {packing.max_cosine:.4f}"
    print(f"{num_points:4}  {dim:2}  {cosines}  {code.name}")
