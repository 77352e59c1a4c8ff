"""Train the class prototypes of a classifier by a loss, while the packing force keeps them apart.

The example trains a tiny cosine classifier on noisy data with 40 classes in 8 dimensions, with and
without dispersion.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import hyperface_jax as hf

CLASSES, DIM, SCALE = 40, 8, 16.0
key = jax.random.key(0)
centers = hf.sphere.normalize(jax.random.normal(key, (CLASSES, DIM)) + 0.8)
labels = jax.random.randint(jax.random.key(1), (2000,), 0, CLASSES)
noise = 0.3 * jax.random.normal(jax.random.key(2), (2000, DIM))
features = hf.sphere.normalize(centers[labels] + noise)


def loss(params):
    """Compute the cross-entropy of a linear embedding against unit prototypes."""
    embedded = hf.sphere.normalize(features @ params["weight"])
    logits = SCALE * embedded @ params["prototypes"].T
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def train(dispersion) -> Any:
    """Train both parts together; only the prototypes stay on the sphere."""
    params: Any = {
        "weight": jnp.eye(DIM),
        "prototypes": hf.sphere.sample_uniform(key, CLASSES, DIM),
    }
    on_sphere = optax.chain(hf.add_dispersion(dispersion), hf.riemannian_adam(0.02))
    optimizer = optax.partition(
        {"sphere": on_sphere, "free": optax.adam(0.01)},
        {"weight": "free", "prototypes": "sphere"},
    )

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    trained, _ = jax.lax.scan(step, (params, optimizer.init(params)), length=300)
    return trained[0]


for strength in (0.0, 1.0):
    trained = train(strength)
    closest = hf.max_cosine(trained["prototypes"])
    print(f"dispersion {strength}: closest prototypes at cosine {closest:.3f}")
