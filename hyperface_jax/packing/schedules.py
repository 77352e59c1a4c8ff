"""Annealing schedules: how the inverse temperature rises, and how the step size shrinks with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

_START_FACTOR = 1.4
_COLD_START_FACTOR = 3.0
_END_PER_STEP = 22.5
_END_RANGE = (1500.0, 40_000.0)
_MAX_STEP = 0.1
_STEP_FACTOR = 4.0


@dataclass(frozen=True)
class Annealing:
    """Inverse temperature ``start (end / start)^((step / last)^power)``, then constant.

    With ``power > 1`` it stays hot for longer: the arrangement is decided there, and the end only
    sharpens it. This is a data class rather than a closure, so that equal schedules share one
    compilation.

    Attributes:
        start: inverse temperature at step 0.
        end: inverse temperature at step ``num_steps - 1``.
        num_steps: length of the run.
        power: curvature of the exponent; 1 is geometric.
    """

    start: float
    end: float
    num_steps: int
    power: float = 2.0

    def __call__(self, step: Any) -> Any:
        """Return the inverse temperature at ``step``."""
        progress = _progress(step, self.num_steps)
        return self.start * (self.end / self.start) ** (progress**self.power)


@dataclass(frozen=True)
class AnnealedStep:
    """Step size per point in radians, ``min(max_step, factor / beta)``, tied to the temperature.

    If the step size does not shrink with the temperature, the run diverges late.
    """

    annealing: Annealing
    factor: float = _STEP_FACTOR
    max_step: float = _MAX_STEP

    def __call__(self, step: Any) -> Any:
        """Return the step size at ``step``."""
        return jnp.minimum(self.max_step, self.factor / self.annealing(step))


@dataclass(frozen=True)
class Ramp:
    """Share that rises linearly from 0 to 1 at step ``num_steps - 1``, then stays constant.

    It scales the gallery's pull in an annealed run. While the soft maximum is hot, its forces are weak,
    and the full pull would decide the arrangement before the points could separate.
    """

    num_steps: int

    def __call__(self, step: Any) -> Any:
        """Return the share at ``step``."""
        return _progress(step, self.num_steps)


def default_annealing(dim: int, num_steps: int) -> Annealing:
    """Choose an annealing from the dimension and the number of steps.

    It starts where the soft maximum is sensitive to all pairs: the cosines of random points have a
    spread of ``1 / sqrt(d)``, so ``beta = 1.4 sqrt(d)``. It ends where only contacts matter; the longer
    the run, the colder the end.
    """
    end = min(max(_END_PER_STEP * num_steps, _END_RANGE[0]), _END_RANGE[1])
    return Annealing(_START_FACTOR * dim**0.5, end, num_steps)


def refining_annealing(dim: int, num_steps: int) -> Annealing:
    """Choose an annealing that preserves the structure of a good start, such as a spherical code.

    It starts at ``beta = 3 sqrt(d)``, which is warm enough to use dimensions that the start leaves
    empty. It always ends at 40,000: with k contacts, the soft maximum is ``log(k) / beta`` above the
    largest cosine, and a code has millions of contacts.
    """
    return Annealing(_COLD_START_FACTOR * dim**0.5, _END_RANGE[1], num_steps)


def default_momentum(num_steps: int) -> float:
    """Choose the momentum: a memory of 10 steps for 200 steps, 20 from 400 steps on, 50 from 4,000 on.

    More momentum helps long runs with many points, but hinders small structured codes such as E8.
    """
    forgetting = max(min(20 / max(num_steps, 1), 0.2), min(80 / max(num_steps, 1), 0.05), 0.02)
    return 1 - forgetting


ChooseAnnealing = Callable[[int, int], Annealing]
"""A function that chooses an annealing from the dimension and the number of steps."""


def _progress(step: Any, num_steps: int) -> Any:
    # Use float32 even under x64, where an integer step would otherwise promote float32 points.
    return jnp.clip(jnp.asarray(step, jnp.float32) / max(num_steps - 1, 1), 0.0, 1.0)
