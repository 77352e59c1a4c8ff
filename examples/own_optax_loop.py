"""Use the objective and the optimizer in your own optax loop."""

import jax
import optax

import hyperface_jax as hf

objective = hf.as_objective(hf.SoftMax(inverse_temperature=100.0))
optimizer = hf.riemannian_adam(optax.cosine_decay_schedule(0.1, 300))
x = hf.sphere.sample_uniform(jax.random.key(0), 500, 32)
state = optimizer.init(x)


@jax.jit
def step(x, state):
    """Take one step of an ordinary optax loop; the points stay on the sphere."""
    updates, state = optimizer.update(jax.grad(objective)(x), state, x)
    return optax.apply_updates(x, updates), state


first = objective(x)
for _ in range(300):
    x, state = step(x, state)
print(f"soft maximum of the cosines: {first:.3f} at the start, {objective(x):.3f} at the end")
