"""A learned response: an ensemble of small networks that predicts the mean embedding of drawn faces.

Far from the probes, a network is confidently wrong, and an optimizer finds those places. The members
of an ensemble disagree there, because each is trained on other weights of the probes.

References:
    Lakshminarayanan et al., Simple and scalable predictive uncertainty estimation using deep ensembles,
    NeurIPS 2017. Rubin, The Bayesian bootstrap, 1981.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from hyperface_jax.errors import InputError
from hyperface_jax.response.network import ResidualNetwork, Training
from hyperface_jax.response.probes import padded_rows
from hyperface_jax.typing import PerRow, Points, PRNGKey, Update

if TYPE_CHECKING:
    from hyperface_jax.response.probes import Probes

_CHUNK = 50
_BATCH = 256


class Response(NamedTuple):
    """Predicted responses to conditions.

    Attributes:
        mean: mean embedding of the faces, ``[n, d]``; its length is at most about 1.
        doubt: root mean square distance of the members' predictions from their mean, ``[n]``.
    """

    mean: Points
    doubt: PerRow


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ResponseModel:
    """A learned response; a pytree whose members are stacked along the first axis of each leaf.

    Attributes:
        parameters: parameters of the members.
        graph: structure of one member, static.
    """

    parameters: Any
    graph: Any = field(metadata={"static": True})

    def __call__(self, conditions: Points) -> Response:
        """Predict the responses to unit conditions, ``[n, d]``; can be differentiated."""
        return _respond(self, conditions)


@jax.jit
def _respond(model: ResponseModel, conditions: Points) -> Response:
    means = jax.vmap(lambda own: _predict(model.graph, own, conditions))(model.parameters)
    mean = jnp.mean(means, axis=0)
    square = jnp.mean(jnp.sum((means - mean[None]) ** 2, axis=2), axis=0)
    return Response(mean, jnp.sqrt(square + 1e-12))


@dataclass(frozen=True)
class _ResponseLoss:
    """Squared error of the mean embedding, by how well each is known; summed over the members."""

    graph: Any
    batch_size: int

    def __call__(self, parameters: Any, data: Any, key: PRNGKey) -> Any:
        conditions, means, weights, count = data

        def member(own: Any, weight: Any, key: PRNGKey) -> Any:
            rows = jax.random.randint(key, (self.batch_size,), 0, count)
            error = _predict(self.graph, own, conditions[rows]) - means[rows]
            return jnp.mean(weight[rows] * jnp.sum(error**2, axis=1))

        keys = jax.random.split(key, weights.shape[0])
        return jnp.sum(jax.vmap(member)(parameters, weights, keys))


def fit_response(
    probes: Probes,
    key: PRNGKey,
    *,
    num_members: int = 3,
    width: int = 192,
    num_blocks: int = 2,
    num_steps: int = 1500,
    progress: Update | None = None,
) -> ResponseModel:
    """Learn the response of a generator from probes.

    Args:
        probes: what was measured.
        key: random key.
        num_members: number of networks.
        width: width of the networks.
        num_blocks: number of residual blocks.
        num_steps: number of steps of the training.
        progress: called with the number of finished steps and the loss.

    Returns:
        The model.

    Raises:
        InputError: a number is below 1.

    Cost: about ``6 * 256 * num_members * (2 d width + 4 num_blocks width^2)`` FLOPs a step, and memory
    for the probes.
    """
    numbers = {"num_members": num_members, "width": width, "num_steps": num_steps}
    for name, value in numbers.items():
        if value < 1:
            raise InputError(f"{name}={value}: must be 1 or more")
    dim = probes.conditions.shape[1]

    init_key, weight_key, train_key = jax.random.split(key, 3)
    shape = dim, width, num_blocks
    graph, parameters = _graph(shape), _random_members(init_key, num_members, shape)
    training = Training(loss=_ResponseLoss(graph, _BATCH), num_steps=num_steps)
    data = _data(probes, weight_key, num_members)
    descent = training.begin(parameters)
    for done in range(0, num_steps, _CHUNK):
        count = min(_CHUNK, num_steps - done)
        descent, loss = training.advance(descent, data, train_key, count)
        if progress:
            progress(done + count, f"error {float(loss) / num_members:.4f}")
    return ResponseModel(descent.average, graph)


_Shape = tuple[int, int, int]
"""Dimension, width and number of blocks of a network."""


def _make(key: PRNGKey, shape: _Shape) -> ResidualNetwork:
    dim, width, num_blocks = shape
    return ResidualNetwork(dim, dim, width=width, num_blocks=num_blocks, rngs=nnx.Rngs(key))


@lru_cache(maxsize=8)
def _graph(shape: _Shape) -> Any:
    return nnx.split(nnx.eval_shape(lambda: _make(jax.random.key(0), shape)))[0]


@partial(jax.jit, static_argnums=(1, 2))
def _random_members(key: PRNGKey, num: int, shape: _Shape) -> Any:
    return jax.vmap(lambda key: nnx.split(_make(key, shape))[1])(jax.random.split(key, num))


def _data(probes: Probes, key: PRNGKey, num_members: int) -> tuple[Any, Any, Any, int]:
    """Return conditions, means, the weight of each probe for each member (mean 1), and their number."""
    num = len(probes.counts)
    rows = padded_rows(num)
    counts = jnp.asarray(probes.counts, jnp.float32)
    # A mean of k faces errs by noise / k; the rest, what the network cannot fit, is as for one face.
    certainty = 1 / (1 + 1 / counts)
    weights = jax.random.exponential(key, (num_members, num)) * certainty[None]
    weights = weights / jnp.mean(weights, axis=1, keepdims=True)
    conditions, means = (jnp.asarray(x[rows]) for x in (probes.conditions, probes.means))
    return conditions, means, weights[:, rows], num


def _predict(graph: Any, parameters: Any, conditions: Any) -> Any:
    network = nnx.merge(graph, parameters)
    return conditions + network(conditions * math.sqrt(conditions.shape[1]))
