"""A residual network on rows, and its training: small enough to be trained while a packing waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from hyperface_jax.typing import PRNGKey, Scalar

Loss = Callable[[Any, Any, PRNGKey], Scalar]
"""``loss(parameters, data, key)``, in which the key draws the batch."""

_DECAY = 0.998
_WARMUP = 100


class ResidualNetwork(nnx.Module):
    """A perceptron with residual blocks, ``[..., num_inputs]`` to ``[..., num_outputs]``.

    The last layer starts at zero, so an untrained network returns zeros.

    Args:
        num_inputs: number of inputs.
        num_outputs: number of outputs.
        width: width of the residual stream; blocks are twice as wide inside.
        num_blocks: number of blocks.
        rngs: random streams; the weights are drawn from ``params``.
    """

    def __init__(
        self, num_inputs: int, num_outputs: int, *, width: int, num_blocks: int, rngs: nnx.Rngs
    ) -> None:
        zeros = nnx.initializers.zeros
        self.enter = nnx.Linear(num_inputs, width, rngs=rngs)
        self.blocks = nnx.List([_Block(width, rngs) for _ in range(num_blocks)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.leave = nnx.Linear(width, num_outputs, kernel_init=zeros, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """Return the outputs of each row."""
        h = self.enter(x)
        for block in self.blocks:
            h = h + block(h)
        return self.leave(self.norm(h))


class _Block(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.widen = nnx.Linear(width, 2 * width, rngs=rngs)
        self.narrow = nnx.Linear(2 * width, width, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, h: Any) -> Any:
        return self.narrow(jax.nn.silu(self.widen(self.norm(h))))


class Descent(NamedTuple):
    """A training in progress.

    Attributes:
        parameters: the parameters.
        average: moving average of the parameters, which is what a finished training returns.
        opt_state: state of the optimizer.
        step: number of steps taken, int32.
    """

    parameters: Any
    average: Any
    opt_state: Any
    step: Any


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of a training; AdamW with a rate that warms up, then falls to 0 by a cosine.

    Attributes:
        loss: the loss.
        num_steps: number of steps of the whole training.
        learning_rate: highest learning rate.
    """

    loss: Loss
    num_steps: int
    learning_rate: float = 1e-3

    def begin(self, parameters: Any) -> Descent:
        """Return the state before the first step."""
        return Descent(
            parameters, parameters, self._optimizer.init(parameters), jnp.zeros((), jnp.int32)
        )

    def advance(self, descent: Descent, data: Any, key: PRNGKey, num_steps: int) -> Any:
        """Take some steps; each draws its batch from the key and its own number.

        Returns:
            The new state, and the mean loss of these steps.
        """
        return _advance(self, num_steps, descent, data, key)

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        warmup = min(_WARMUP, self.num_steps // 10)
        rate = optax.warmup_cosine_decay_schedule(
            0.0, self.learning_rate, warmup, max(self.num_steps, warmup + 1)
        )
        return optax.adamw(rate, weight_decay=1e-4)


@partial(jax.jit, static_argnums=(0, 1))
def _advance(
    training: Training, num_steps: int, descent: Descent, data: Any, key: PRNGKey
) -> tuple[Descent, Scalar]:
    optimizer = training._optimizer

    def step(descent: Descent, _: None) -> tuple[Descent, Scalar]:
        own = jax.random.fold_in(key, descent.step)
        value, slope = jax.value_and_grad(training.loss)(descent.parameters, data, own)
        updates, state = optimizer.update(slope, descent.opt_state, descent.parameters)
        parameters = optax.apply_updates(descent.parameters, updates)
        decay = jnp.minimum(_DECAY, (descent.step + 1) / (descent.step + 10))
        average = jax.tree.map(
            lambda mean, new: mean + (1 - decay) * (new - mean), descent.average, parameters
        )
        return Descent(parameters, average, state, descent.step + 1), value

    descent, values = jax.lax.scan(step, descent, None, length=num_steps)
    return descent, jnp.mean(values)
