"""Energies of a packing: differentiable stand-ins for its max cosine.

Every energy is evaluated by one sweep that computes the value, the force and the exact row maxima. So
the gradient needs no backward pass, and the true objective comes at no extra cost. Energies that sum
a pair function (soft maximum, Riesz, hinge) are unbiased under random mini-batches of points; energies
of the row maxima (mean of row maxima, closest pair) are not.

References:
    Soft maximum as a smoothing of the max-min problem: Nesterov, *Smooth minimization of non-smooth
    functions*, 2005. Closest pair: Otroshi Shahreza and Marcel, *HyperFace*, ICLR 2025, Algorithm 1.
    Riesz energies: Borodachov, Hardin and Saff, *Discrete Energy on Rectifiable Sets*, 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from hyperface_jax import sphere
from hyperface_jax.errors import InputError
from hyperface_jax.packing.inputs import real
from hyperface_jax.pairwise import (
    Nearest,
    PairSum,
    Precision,
    Reduction,
    Sweep,
    max_cosine,
    nearest,
    pair_sum,
)
from hyperface_jax.typing import Frozen, Gallery, Number, PerRow, Points, Scalar

Schedule = Callable[[Any], Any]
"""A function from the step number to a value, as in optax."""

DEFAULT_SWEEP = Sweep()

_MAX_EXPONENT = 60.0
_MIN_CHORD2 = 1e-12
# Far above the smallest float32, because XLA may first multiply the factors that meet its inverse.
_MIN_TOTAL = 1e-30


class Evaluation(NamedTuple):
    """An energy at a configuration, with everything that its sweep computed."""

    value: Scalar
    """The energy."""
    force: Points
    """Its Euclidean gradient with respect to the free points, ``[n, d]``."""
    row_max: PerRow
    """Exact cosine of each free point to its nearest other point, frozen ones included, ``[n]``."""

    @property
    def max_cosine(self) -> Scalar:
        """Exact max cosine over all pairs with a free point."""
        return jnp.max(self.row_max)


@runtime_checkable
class Energy(Protocol):
    """The interface that a solver needs from an energy."""

    def evaluate(
        self,
        x: Points,
        *,
        frozen: Frozen | None = None,
        step: Any = 0,
        shift: Any = None,
        sweep: Sweep = DEFAULT_SWEEP,
    ) -> Evaluation:
        """Compute the value, the force and the exact row maxima of ``x`` by one sweep.

        Args:
            x: unit rows, ``[n, d]``.
            frozen: unit rows that take part in the pairs but do not move, ``[m, d]``.
            step: the step number, for energies with a schedule.
            shift: a cosine near the current max cosine, if known (such as the last step's). Only the
                soft maximum uses it; without it, an extra scores-only sweep is needed.
            sweep: how pairs are visited.
        """
        ...


class PairEnergy:
    """Base class of energies ``outer(sum_{i != j} phi(<x_i, x_j>))`` over ordered pairs."""

    def pair(self, scores: Any, *, step: Any, shift: Any) -> tuple[Any, Any]:
        """Return ``phi`` and ``phi'`` of the scores, zero at ``-inf``."""
        raise NotImplementedError

    def outer(self, total: Any, *, num_pairs: Any, step: Any, shift: Any) -> tuple[Any, Any]:
        """Return the energy (by default the mean) and its derivative with respect to the pair sum."""
        del step, shift
        return total / num_pairs, 1 / num_pairs

    def needs_shift(self) -> bool:
        """Tell whether :meth:`pair` needs a cosine near the maximum."""
        return False

    def evaluate(
        self,
        x: Points,
        *,
        frozen: Frozen | None = None,
        step: Any = 0,
        shift: Any = None,
        sweep: Sweep = DEFAULT_SWEEP,
    ) -> Evaluation:
        """Evaluate by one symmetric sweep (and one rectangular sweep against frozen points)."""
        if shift is None and self.needs_shift():
            shift = jnp.max(row_max(x, frozen, sweep=sweep))
        sums = self.sums(x, step=step, shift=shift, sweep=sweep)
        if frozen is None:
            return self.combine(sums, num_points=sphere.count_points(x), step=step, shift=shift)
        frozen_sums = self.sums(x, frozen, step=step, shift=shift, sweep=sweep)
        return self.combine(
            sums,
            frozen_sums,
            num_points=sphere.count_points(x),
            num_frozen=sphere.count_points(frozen),
            step=step,
            shift=shift,
        )

    def sums(
        self, x: Points, y: Gallery | None = None, *, step: Any, shift: Any, sweep: Sweep
    ) -> PairSum:
        """Return the row sums of ``phi`` over ``x`` itself or over the rows of ``y``."""
        reduction = self.reduction(step=step, shift=shift, precision=sweep.precision)
        return sweep(x, y, reduction=reduction)

    def reduction(self, *, step: Any, shift: Any, precision: Precision) -> Reduction:
        """Return the reduction that sums ``phi`` and its force."""
        return pair_sum(
            lambda scores: self.pair(scores, step=step, shift=shift), precision=precision
        )

    def combine(
        self,
        sums: PairSum,
        frozen_sums: PairSum | None = None,
        *,
        num_points: Any,
        num_frozen: Any = 0,
        step: Any,
        shift: Any,
    ) -> Evaluation:
        """Turn row sums into the energy; pairs with a frozen point count in both orders."""
        num_pairs = jnp.maximum(num_points * (num_points - 1 + 2 * num_frozen), 1)
        total, force, row_max = jnp.sum(sums.value), sums.force, sums.max_cosine
        if frozen_sums is not None:
            total += 2 * jnp.sum(frozen_sums.value)
            force += frozen_sums.force
            row_max = jnp.maximum(row_max, frozen_sums.max_cosine)
        value, slope = self.outer(total, num_pairs=num_pairs, step=step, shift=shift)
        return Evaluation(value, 2 * slope * force, row_max)


@dataclass(frozen=True)
class SoftMax(PairEnergy):
    """Soft maximum of the cosines, ``(1/beta) log sum_{i != j} exp(beta <x_i, x_j>)``.

    It lies between the max cosine and ``log(n (n - 1)) / beta`` above it. Its force is self-attention
    of the points with the diagonal masked. Anneal ``beta`` from small (all pairs matter) to large.

    Attributes:
        inverse_temperature: ``beta``, a number or a function of the step.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> e = SoftMax(inverse_temperature=100.0).evaluate(x)
        >>> float(e.max_cosine) <= float(e.value) <= float(e.max_cosine) + float(jnp.log(6)) / 100
        True
    """

    inverse_temperature: Number | Schedule

    def __post_init__(self):
        if not callable(self.inverse_temperature):
            check_positive("inverse_temperature", self.inverse_temperature)

    def needs_shift(self) -> bool:
        """Return True: a fixed shift keeps the exponentials in range."""
        return True

    def beta(self, step: Any) -> Any:
        """Return the inverse temperature at a step."""
        schedule = self.inverse_temperature
        return schedule(step) if callable(schedule) else schedule

    def pair(self, scores: Any, *, step: Any, shift: Any) -> tuple[Any, Any]:
        """Return ``exp(beta (s - shift))`` twice: up to ``beta``, it is its own derivative."""
        beta = jnp.asarray(self.beta(step), scores.dtype)
        weight = jnp.exp(jnp.minimum(beta * (scores - shift), _MAX_EXPONENT))
        return weight, weight

    def outer(self, total: Any, *, num_pairs: Any, step: Any, shift: Any) -> tuple[Any, Any]:
        """Return the shifted log-sum over beta."""
        del num_pairs
        total = jnp.maximum(total, _MIN_TOTAL)
        return shift + jnp.log(total) / jnp.asarray(self.beta(step), total.dtype), 1 / total


@dataclass(frozen=True)
class Riesz(PairEnergy):
    """Mean Riesz energy ``|x_i - x_j|^(-exponent)`` over ordered pairs.

    Large exponents approach packing.
    """

    exponent: Number = 1.0

    def __post_init__(self):
        check_positive("exponent", self.exponent)

    def pair(self, scores: Any, *, step: Any, shift: Any) -> tuple[Any, Any]:
        """Return the energy of a pair and its derivative with respect to the cosine."""
        del step, shift
        chord2 = jnp.maximum(2 - 2 * scores, _MIN_CHORD2)
        phi = chord2 ** (-self.exponent / 2)
        return phi, self.exponent * phi / chord2


@dataclass(frozen=True)
class Hinge(PairEnergy):
    """Mean over ordered pairs of the squared excess over a cosine, ``max(0, s - threshold)^2``."""

    threshold: Number

    def __post_init__(self):
        real("threshold", self.threshold)

    def pair(self, scores: Any, *, step: Any, shift: Any) -> tuple[Any, Any]:
        """Return the squared excess and its derivative."""
        del step, shift
        excess = jnp.maximum(scores - self.threshold, 0)
        return excess**2, 2 * excess


@dataclass(frozen=True)
class PairFunction(PairEnergy):
    """Mean over ordered pairs of a function of the cosine, made by :func:`pair_energy`."""

    phi: Callable[[Any], Any]

    def pair(self, scores: Any, *, step: Any, shift: Any) -> tuple[Any, Any]:
        """Return the function and its derivative, both zero where there is no pair."""
        del step, shift
        is_pair = scores > -jnp.inf
        # At -inf the function may give NaN, which would survive the mask in its derivative.
        cosine = jnp.where(is_pair, scores, 0)
        value, slope = jax.jvp(self.phi, (cosine,), (jnp.ones_like(cosine),))
        return jnp.where(is_pair, value, 0), jnp.where(is_pair, slope, 0)


def pair_energy(phi: Callable[[Any], Any]) -> PairFunction:
    """Make an energy from a function of the cosine: its mean over ordered pairs.

    Args:
        phi: an elementwise function of an array of cosines in [-1, 1]; JAX differentiates it. Pass the
            same function object again to share compiled programs.

    Examples:
        >>> import jax.numpy as jnp
        >>> gaussian = pair_energy(lambda cosine: jnp.exp(4 * (cosine - 1)))
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
        >>> round(float(gaussian.evaluate(x).value), 4)
        0.0183
    """
    if not callable(phi):
        raise InputError(f"phi={phi!r}: give a function of the cosine")
    return PairFunction(phi)


def check_energy(energy: Any) -> None:
    """Raise ``InputError`` unless ``energy`` can be evaluated."""
    if isinstance(energy, type):
        raise InputError(f"energy={energy.__name__}: give an instance, {energy.__name__}(...)")
    if not hasattr(energy, "evaluate"):
        raise InputError(
            f"energy={energy!r}: give one of hyperface_jax.packing, or pair_energy(function)"
        )


def check_positive(name: str, value: Any) -> None:
    """Raise ``InputError`` unless ``value`` is a positive number or a traced number."""
    number = real(name, value)
    if isinstance(number, float) and number <= 0:
        raise InputError(f"{name}={number:g}: must be above 0")


class RowMaxEnergy:
    """Base class of energies that depend only on the row maxima ``m_i``."""

    def weights(self, row_max: PerRow) -> tuple[Scalar, PerRow]:
        """Return the energy and its derivative with respect to each row maximum."""
        raise NotImplementedError

    def evaluate(
        self,
        x: Points,
        *,
        frozen: Frozen | None = None,
        step: Any = 0,
        shift: Any = None,
        sweep: Sweep = DEFAULT_SWEEP,
    ) -> Evaluation:
        """Evaluate by one nearest-neighbor sweep; the force is a gather and a scatter."""
        del step, shift
        found: Nearest = sweep(x, reduction=nearest())
        if frozen is not None:
            found = _nearer(found, sweep(x, frozen, reduction=nearest()), offset=x.shape[0])
        value, weight = self.weights(found.cosine)
        everyone = x if frozen is None else jnp.concatenate([x, frozen])
        force = weight[:, None] * everyone[found.column]
        force = force.at[found.column].add(weight[:, None] * x, mode="drop")
        return Evaluation(value, force, found.cosine)


@dataclass(frozen=True)
class MeanRowMax(RowMaxEnergy):
    """Mean over points of the cosine to the nearest other point."""

    def weights(self, row_max: PerRow) -> tuple[Scalar, PerRow]:
        """Weigh every row that has a neighbor equally."""
        is_met = row_max > -jnp.inf
        weight = is_met / jnp.maximum(jnp.sum(is_met, dtype=row_max.dtype), 1)
        return jnp.sum(jnp.where(is_met, row_max, 0) * weight), weight


@dataclass(frozen=True)
class ClosestPair(RowMaxEnergy):
    """The max cosine itself; its force acts on one pair (the objective of HyperFace, Algorithm 1)."""

    def weights(self, row_max: PerRow) -> tuple[Scalar, PerRow]:
        """Give the whole weight to the first row of the closest pair."""
        return jnp.max(row_max), jax.nn.one_hot(
            jnp.argmax(row_max), row_max.shape[0], dtype=row_max.dtype
        )


def row_max(x: Points, frozen: Frozen | None = None, *, sweep: Sweep = DEFAULT_SWEEP) -> PerRow:
    """Compute the exact cosine of every row to its nearest other row, frozen rows included, ``[n]``.

    Cost: ``n^2 d + 2 n m d`` FLOPs.
    """
    own = sweep(x, reduction=max_cosine())
    if frozen is None:
        return own
    return jnp.maximum(own, sweep(x, frozen, reduction=max_cosine()))


def _nearer(a: Nearest, b: Nearest, *, offset: int) -> Nearest:
    closer = b.cosine > a.cosine
    return Nearest(
        jnp.where(closer, b.cosine, a.cosine), jnp.where(closer, b.column + offset, a.column)
    )
