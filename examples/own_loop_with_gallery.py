"""Use the regularized objective in your own optax loop, with a gallery, a keep-out set and old points.

One sweep over each set gives value and gradient. The gallery and the weights may be traced arguments.
"""

import jax
import optax

import hyperface_jax as hf

gallery_key, people_key, old_key, key = jax.random.split(jax.random.key(0), 4)
problem = hf.PackingProblem(
    num_points=200,
    dim=32,
    gallery=hf.sphere.normalize(hf.sphere.sample_uniform(gallery_key, 1000, 32) + 0.1),
    alpha=1.0,
    keep_out=hf.sphere.sample_uniform(people_key, 50, 32),
    keep_out_cosine=0.5,
    frozen=hf.sphere.sample_uniform(old_key, 20, 32),
)
objective = hf.as_objective(hf.SoftMax(inverse_temperature=100.0))
optimizer = hf.riemannian_adam(optax.cosine_decay_schedule(0.05, 150))
x = hf.sphere.sample_uniform(key, 200, 32)
state = optimizer.init(x)


@jax.jit
def step(x, state, problem):
    """Take one step; the problem is a pytree, so a new alpha or gallery needs no recompilation."""
    gradient = jax.grad(objective)(x, problem=problem)
    updates, state = optimizer.update(gradient, state, x)
    return optax.apply_updates(x, updates), state


first = objective(x, problem=problem)
for _ in range(150):
    x, state = step(x, state, problem)
print(f"objective {first:.3f} at the start, {objective(x, problem=problem):.3f} at the end")
