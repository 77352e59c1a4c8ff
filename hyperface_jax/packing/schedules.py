"""Annealing: how the inverse temperature rises and the step shrinks with it."""

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

    ``power > 1`` stays hot for longer: the arrangement is decided there, the end only sharpens it.
    A plain data class rather than a closure, so that equal schedules share one compilation.

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
    """Step size ``min(max_step, factor / beta)`` in radians a point, tied to a temperature schedule.

    A step that does not shrink with the temperature diverges late in the run.
    """

    annealing: Annealing
    factor: float = _STEP_FACTOR
    max_step: float = _MAX_STEP

    def __call__(self, step: Any) -> Any:
        """Return the step size at ``step``."""
        return jnp.minimum(self.max_step, self.factor / self.annealing(step))


@dataclass(frozen=True)
class Ramp:
    """Share that rises linearly from 0 to 1 at step ``num_steps - 1``, then stays.

    Of the gallery's pull in an annealed run: while the soft maximum is hot its forces are weak, and a
    full pull would decide the arrangement before separation has a say.
    """

    num_steps: int

    def __call__(self, step: Any) -> Any:
        """Return the share at ``step``."""
        return _progress(step, self.num_steps)


def default_annealing(dim: int, num_steps: int) -> Annealing:
    """Choose an annealing from the dimension and the length of the run.

    It starts where the soft maximum sees all pairs: cosines of random points spread by
    ``1 / sqrt(d)``, so ``beta = 1.4 sqrt(d)``. It ends where it sees contacts only, the colder the
    longer the run.
    """
    end = min(max(_END_PER_STEP * num_steps, _END_RANGE[0]), _END_RANGE[1])
    return Annealing(_START_FACTOR * dim**0.5, end, num_steps)


def refining_annealing(dim: int, num_steps: int) -> Annealing:
    """Choose an annealing that keeps what a good start has, such as a spherical code.

    It starts at ``beta = 3 sqrt(d)``: warm enough to use dimensions that the start leaves empty. It
    always ends at 40,000: with k contacts the soft maximum is ``log(k) / beta`` above the largest
    cosine, and a code has millions of contacts.
    """
    return Annealing(_COLD_START_FACTOR * dim**0.5, _END_RANGE[1], num_steps)


def default_momentum(num_steps: int) -> float:
    """Choose the momentum: a memory of 10 steps in a run of 200, 20 from 400 on, 50 from 4,000 on.

    More helps long runs of many points, and hinders small structured codes such as E8.
    """
    forgetting = max(min(20 / max(num_steps, 1), 0.2), min(80 / max(num_steps, 1), 0.05), 0.02)
    return 1 - forgetting


ChooseAnnealing = Callable[[int, int], Annealing]
"""From the dimension and the number of steps."""


def _progress(step: Any, num_steps: int) -> Any:
    # float32 also under x64, where an integer step would otherwise promote float32 points.
    return jnp.clip(jnp.asarray(step, jnp.float32) / max(num_steps - 1, 1), 0.0, 1.0)
