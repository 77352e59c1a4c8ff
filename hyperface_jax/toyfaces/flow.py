"""Who an embedding can be: a flow from normal noise to the traits of a person, given the embedding.

An embedding determines some traits and says little about others. A network that is trained to guess
the traits returns their mean, so that all persons come out average in what the recognizer hardly sees.
A flow draws from the distribution of the traits instead: what the embedding leaves open varies as it
does in the population.

References:
    Lipman et al., Flow Matching for Generative Modeling, ICLR 2023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from hyperface_jax import sphere
from hyperface_jax.response.network import ResidualNetwork
from hyperface_jax.toyfaces.parameters import NUM_IDENTITY

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from hyperface_jax.typing import PRNGKey

_NUM_WAVES = 4


@dataclass(frozen=True, kw_only=True)
class FlowSettings:
    """Size of a flow, and how it is followed.

    Attributes:
        condition_dim: dimension of the embeddings, d.
        width: width of the network.
        num_blocks: number of residual blocks.
        num_steps: number of midpoint steps from noise to traits; each evaluates the network twice.
    """

    condition_dim: int = 128
    width: int = 256
    num_blocks: int = 3
    num_steps: int = 10


def make_network(settings: FlowSettings, key: PRNGKey) -> ResidualNetwork:
    """Return the network of a flow with random weights."""
    num_inputs = NUM_IDENTITY + settings.condition_dim + 1 + 2 * _NUM_WAVES
    return ResidualNetwork(
        num_inputs,
        NUM_IDENTITY,
        width=settings.width,
        num_blocks=settings.num_blocks,
        rngs=nnx.Rngs(key),
    )


def velocity(network: Any, x: Any, time: Any, conditions: Any) -> Any:
    """Return the velocity ``[n, 24]`` at points of paths ``[n, 24]`` and times ``[n]`` from 0 to 1."""
    waves = 2 * math.pi * jnp.arange(1, _NUM_WAVES + 1)[None] * time[:, None]
    scaled = conditions * math.sqrt(conditions.shape[1])
    inputs = [x, scaled, time[:, None], jnp.sin(waves), jnp.cos(waves)]
    return network(jnp.concatenate(inputs, axis=1))


def follow(
    network: Any, noise: Float[Array, "n 24"], conditions: Float[Array, "n d"], num_steps: int
) -> Float[Array, "n 24"]:
    """Follow the flow from noise to the latents of persons by midpoint steps."""
    length = 1 / num_steps

    def step(x: Any, start: Any) -> tuple[Any, None]:
        here = jnp.full(len(x), start)
        middle = x + 0.5 * length * velocity(network, x, here, conditions)
        return x + length * velocity(network, middle, here + 0.5 * length, conditions), None

    starts = jnp.arange(num_steps, dtype=jnp.float32) * length
    return jax.lax.scan(step, noise, starts)[0]


@dataclass(frozen=True)
class FlowLoss:
    """Flow matching on straight paths: the squared error of the velocity, per person.

    The condition is the direction of a random subset of the person's embeddings.

    Attributes:
        graph: structure of the network, from ``nnx.split``.
        batch_size: number of persons in a batch.
    """

    graph: Any
    batch_size: int

    def __call__(self, parameters: Any, data: Any, key: PRNGKey) -> Any:
        """Return the loss of a batch of ``data``: latents ``[m, 24]`` and embeddings ``[m, k, d]``."""
        latents, embeddings = data
        which, subset, noise, time = jax.random.split(key, 4)
        person = jax.random.randint(which, (self.batch_size,), 0, len(latents))
        conditions = _some_direction(subset, embeddings[person].astype(jnp.float32))
        end = latents[person]
        start = jax.random.normal(noise, end.shape)
        times = jax.random.uniform(time, (self.batch_size,))
        x = start + times[:, None] * (end - start)
        network = nnx.merge(self.graph, parameters)
        return jnp.mean((velocity(network, x, times, conditions) - (end - start)) ** 2)


def _some_direction(key: PRNGKey, rows: Any) -> Any:
    """Return the direction of one or more random rows of each person, ``[n, k, d]`` to ``[n, d]``."""
    order_key, count_key = jax.random.split(key)
    n, k = rows.shape[:2]
    ranks = jnp.argsort(jax.random.uniform(order_key, (n, k)), axis=1)
    is_used = ranks < jax.random.randint(count_key, (n, 1), 1, k + 1)
    return sphere.normalize(jnp.einsum("nk,nkd->nd", is_used.astype(rows.dtype), rows))


def habitual_noise(conditions: Float[Array, "n d"], scale: float = 2.0) -> Float[Array, "n 24"]:
    """Return noise that belongs to an embedding, so that all pictures of it show one person.

    It is roughly standard normal over embeddings, the same for equal ones, and changes little within a
    small part of ``1 / scale`` radians: random Fourier features, summed.
    """
    key, phase_key = jax.random.split(jax.random.key(0))
    num_waves, dim = 32, conditions.shape[1]
    waves = scale * jax.random.normal(key, (dim, NUM_IDENTITY * num_waves))
    phases = 2 * math.pi * jax.random.uniform(phase_key, (NUM_IDENTITY * num_waves,))
    angles = jnp.matmul(conditions, waves, precision="highest") + phases[None]
    summed = jnp.cos(angles).reshape(-1, NUM_IDENTITY, num_waves).sum(axis=2)
    return math.sqrt(2 / num_waves) * summed


@partial(jax.jit, static_argnums=(0, 3))
def persons_of(graph: Any, parameters: Any, conditions: Any, num_steps: int) -> Any:
    """Return the latents of the person of each embedding, ``[n, d]`` to ``[n, 24]``."""
    network = nnx.merge(graph, parameters)
    return follow(network, habitual_noise(conditions), conditions, num_steps)
