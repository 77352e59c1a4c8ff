"""Keep the class prototypes of a Flax model apart: they move on the sphere, the other weights freely.

The model is a linear embedding and 40 prototypes in 8 dimensions, on noisy data of 40 classes.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import hyperface_jax as hf

CLASSES, DIM, SCALE = 40, 8, 16.0
centers = hf.sphere.normalize(jax.random.normal(jax.random.key(0), (CLASSES, DIM)) + 0.8)
labels = jax.random.randint(jax.random.key(1), (1000,), 0, CLASSES)
noise = 0.3 * jax.random.normal(jax.random.key(2), (1000, DIM))
features = hf.sphere.normalize(centers[labels] + noise)


class Classifier(nnx.Module):
    """A linear embedding, and unit rows to compare it with."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Linear(DIM, DIM, rngs=rngs)
        self.prototypes = nnx.Param(hf.sphere.sample_uniform(rngs.params(), CLASSES, DIM))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the logits."""
        return SCALE * hf.sphere.normalize(self.embed(x)) @ self.prototypes[...].T


def loss(model: Classifier) -> jax.Array:
    """Compute the cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(model(features), labels).mean()


def kinds(params: nnx.State) -> nnx.State:
    """Say which parameters lie on the sphere."""
    return jax.tree.map_with_path(
        lambda path, _: "sphere" if "prototypes" in jax.tree_util.keystr(path) else "free", params
    )


for strength in (0.0, 1.0):
    model = Classifier(nnx.Rngs(0))
    on_sphere = optax.chain(hf.add_dispersion(strength), hf.riemannian_adam(0.02))
    optimizer = nnx.Optimizer(
        model,
        optax.partition({"sphere": on_sphere, "free": optax.adam(0.01)}, kinds),
        wrt=nnx.Param,
    )

    @nnx.jit
    def step(model: Classifier, optimizer: nnx.Optimizer) -> None:
        """Take one step of an ordinary Flax loop."""
        optimizer.update(model, nnx.grad(loss)(model))

    for _ in range(100):
        step(model, optimizer)
    rows = model.prototypes[...]
    assert jnp.allclose(jnp.linalg.norm(rows, axis=1), 1, atol=1e-5)
    print(f"dispersion {strength}: closest prototypes at cosine {hf.max_cosine(rows):.3f}")
