"""*How* a packing is found: a frozen, hashable value that owns run length, schedules and energy.

A method knows nothing of a problem but its size, and holds no arrays: equal methods share one compiled
program. :meth:`Method.resolve` fills in what was left to be chosen. The loop (:mod:`.loop`) runs any
of them; the next method is a class with the few functions in which it differs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from hyperface_jax.errors import InputError
from hyperface_jax.packing.energies import (
    ClosestPair,
    Energy,
    Evaluation,
    SoftMax,
    check_energy,
    check_positive,
    row_max,
)
from hyperface_jax.packing.inputs import whole
from hyperface_jax.packing.problem import Evaluated, PackingProblem
from hyperface_jax.packing.schedules import (
    AnnealedStep,
    Annealing,
    ChooseAnnealing,
    Ramp,
    default_annealing,
    default_momentum,
)
from hyperface_jax.packing.transforms import retract_updates, riemannian_adam
from hyperface_jax.pairwise import Precision, Sweep
from hyperface_jax.typing import PerRow, Points, PRNGKey, Scalar

PAPER_STEPS = 100_000
_PAPER_DECAY_STEPS = 5_000
_PAPER_DECAY = 0.75


class PackingState(NamedTuple):
    """What one step hands to the next; a pytree, so any checkpointer can save it.

    Arrays of ``rows`` rows are the n points, filled up with rows of zeros where they are sharded.
    """

    step: Any
    x: Points
    opt_state: Any
    max_cosine: Scalar
    """Max cosine a step ago (of the pairs that met): the shift of the soft maximum."""
    gallery_index: Any
    """Gallery rows taken as nearest to each point, ``[rows, k]``; refreshed every few steps."""
    row: Any
    """Identity of each row, ``[rows]``: mini-batches move points between devices."""
    key: PRNGKey


class Seen(NamedTuple):
    """A configuration that may be the best so far, as a step has measured it."""

    x: Points
    row: Any
    objective: Scalar
    """What the best is chosen by; large where it was not measured."""
    max_cosine: Scalar
    """Exact where ``is_exact``, else of the pairs that met."""
    is_exact: Any


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """Base of methods: a full batch a step, measured exactly by the step's own sweep.

    Attributes:
        num_steps: steps; None chooses from n and d.
        gallery_every: steps between two searches for the nearest gallery rows; in between a point
            keeps its row, so that its distance is never understated.
        track_best: keep the best iterate, in as much memory as the points; without it the last counts.
        jitter: of a start from the gallery, radians: it separates duplicates, which no force could.
        coarse_steps: steps at the start with products in ``coarse_precision``; no best iterate is
            taken from them, since its max cosine would not be exact.
        coarse_precision: for accelerators, on which it is several times faster.
    """

    num_steps: int | None = None
    gallery_every: int = 10
    track_best: bool = True
    jitter: float = 1e-3
    coarse_steps: int = 0
    coarse_precision: Precision = "bf16"

    def __post_init__(self):
        if self.num_steps is not None:
            self._set("num_steps", whole("num_steps", self.num_steps, least=0))
        self._set("gallery_every", whole("gallery_every", self.gallery_every, least=1))
        self._set("coarse_steps", whole("coarse_steps", self.coarse_steps, least=0))
        if self.num_steps is not None and self.coarse_steps > self.num_steps:
            raise InputError(f"coarse_steps={self.coarse_steps}: is more than all steps")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def steps(self) -> int:
        """Steps of a resolved method."""
        if self.num_steps is None:
            raise ValueError("num_steps=None: resolve the method first")
        return self.num_steps

    def resolve(self, num_points: int, dim: int, num_devices: int = 1) -> Method:
        """Return the method with everything chosen that was left open, checked against the size.

        Raises:
            InputError: it cannot run at this size, or on so many devices.
        """
        del num_devices
        if self.num_steps is not None:
            return self
        return replace(self, num_steps=default_num_steps(num_points, dim))

    @abstractmethod
    def make_energy(self) -> Energy:
        """Return what stands in for the max cosine."""

    @abstractmethod
    def make_optimizer(self) -> optax.GradientTransformation:
        """Return what turns forces into updates that stay on the sphere."""

    def gallery_share(self, step: Any) -> Any:
        """Return the share of alpha that the gallery's force has at a step."""
        del step
        return 1.0

    # What a method may do differently

    def num_parts(self, num_devices: int) -> int:
        """Return the parts into which rows are cut, a multiple of the devices."""
        return num_devices

    def flops(self, num_points: int, dim: int) -> float:
        """Return the FLOPs of a step."""
        return 3.0 * num_points**2 * dim

    def first_max_cosine(self, problem: PackingProblem, x: Points, sweep: Sweep) -> Scalar:
        """Measure the start: a shift for the first step."""
        return jnp.max(row_max(x, problem.frozen, sweep=sweep))

    @property
    def prepare_every(self) -> int | None:
        """Steps between two calls of :meth:`prepare`, the first before step 0; None never calls it."""
        return None

    def prepare(self, state: PackingState, sweep: Sweep) -> PackingState:
        """Change the state before a step."""
        del sweep
        return state

    def evaluate(self, problem: PackingProblem, state: PackingState, sweep: Sweep) -> Evaluation:
        """Evaluate the energy of the points."""
        return self.make_energy().evaluate(
            state.x, frozen=problem.frozen, step=state.step, shift=state.max_cosine, sweep=sweep
        )

    def look(
        self,
        problem: PackingProblem,
        before: PackingState,
        after: PackingState,
        figures: Evaluated,
        sweep: Sweep,
    ) -> Seen:
        """Return what the step has seen: the points before it moved them, and their exact figures."""
        del problem, after
        is_exact = jnp.asarray(sweep.precision == "float32")
        objective = jnp.where(is_exact, figures.objective, unmeasured(before.x))
        return Seen(before.x, before.row, objective, figures.max_cosine, is_exact)

    def finish(
        self, problem: PackingProblem, x: Points, nearest: PerRow, sweep: Sweep
    ) -> tuple[Points, PerRow]:
        """Improve the final points, given the exact cosine of each to its nearest other one."""
        del problem, sweep
        return x, nearest


@dataclass(frozen=True, kw_only=True)
class Annealed(Method):
    """A soft maximum that cools down, with normalized forces and momentum: the default.

    Attributes:
        annealing: how the inverse temperature rises, or a function ``(dim, num_steps)`` that
            chooses it. A start that is good already wants :func:`.refining_annealing`.
        momentum: decay of the averaged force, in [0, 1); None chooses from the length of the run.
        b2: decay of the squared force length of a point; 0 normalizes every force.
    """

    annealing: Annealing | ChooseAnnealing = default_annealing
    momentum: float | None = None
    b2: float = 0.0

    def resolve(self, num_points: int, dim: int, num_devices: int = 1) -> Annealed:
        """Choose length, annealing and momentum."""
        steps = super().resolve(num_points, dim, num_devices).steps
        return replace(self, num_steps=steps, **self._schedules(dim, steps))

    def _schedules(self, dim: int, steps: int) -> dict[str, Any]:
        annealing, momentum = self.annealing, self.momentum
        return {
            "annealing": annealing if isinstance(annealing, Annealing) else annealing(dim, steps),
            "momentum": default_momentum(steps) if momentum is None else momentum,
        }

    def make_energy(self) -> Energy:
        """Return a soft maximum of the annealed temperature."""
        return SoftMax(self._annealing)

    def make_optimizer(self) -> optax.GradientTransformation:
        """Return Adam on the sphere, its step tied to the temperature."""
        momentum = default_momentum(self.steps) if self.momentum is None else self.momentum
        return riemannian_adam(AnnealedStep(self._annealing), momentum, self.b2)

    @property
    def _annealing(self) -> Annealing:
        if not isinstance(self.annealing, Annealing):
            raise ValueError("annealing is still to be chosen: resolve the method first")
        return self.annealing

    def gallery_share(self, step: Any) -> Any:
        """Rise linearly from 0 to 1 over the run."""
        return Ramp(self.steps)(step)


@dataclass(frozen=True)
class Custom(Annealed):
    """An energy of yours, with an optimizer of yours or the annealed step sizes.

    Attributes:
        energy: an instance of an energy, for example ``pair_energy(function)``.
        optimizer: whose updates stay on the sphere, for example
            :func:`~hyperface_jax.packing.transforms.riemannian_adam` or ``on_sphere(optax.sgd(0.1))``.
            None takes that of :class:`Annealed`.
    """

    energy: Energy
    optimizer: optax.GradientTransformation | None = None

    def __post_init__(self):
        super().__post_init__()
        check_energy(self.energy)
        if self.optimizer is not None and not hasattr(self.optimizer, "update"):
            raise InputError(f"optimizer={self.optimizer!r}: give an optax transformation")

    def make_energy(self) -> Energy:
        """Return the energy given."""
        return self.energy

    def make_optimizer(self) -> optax.GradientTransformation:
        """Return the optimizer given, or the annealed one."""
        return super().make_optimizer() if self.optimizer is None else self.optimizer

    def gallery_share(self, step: Any) -> Any:
        """Pull with all of alpha from the beginning."""
        del step
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Paper(Method):
    """HyperFace's Algorithm 1 as published: one pair a step, plain Adam, the last iterate.

    One step finds the closest pair of all identities, takes the gradient of
    ``-d(closest pair) + alpha mean_k min_g d(x_k, g)`` with the cosine distance d, updates all points by
    Adam (a second moment a coordinate, no projection) and renormalises. With ``track_best`` the best
    iterate counts instead of the last, which is kinder to it; a ``jitter`` of the gallery start helps
    where the gallery has duplicates.

    Attributes:
        learning_rate: Adam's, multiplied by 0.75 every 5,000 steps. The paper names 0.1 and 0.01.

    References:
        Otroshi Shahreza and Marcel, *HyperFace: Generating Synthetic Face Recognition Datasets by
        Exploring Face Embedding Hypersphere*, ICLR 2025, Algorithm 1.
    """

    learning_rate: float = 0.01
    gallery_every: int = 1
    track_best: bool = False
    jitter: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_positive("learning_rate", self.learning_rate)

    def resolve(self, num_points: int, dim: int, num_devices: int = 1) -> Paper:
        """Take 100,000 steps unless told otherwise."""
        del num_points, dim, num_devices
        given = self.num_steps
        return replace(self, num_steps=PAPER_STEPS if given is None else given)

    def make_energy(self) -> Energy:
        """Return the closest pair."""
        return ClosestPair()

    def make_optimizer(self) -> optax.GradientTransformation:
        """Return Adam, and the way back to the sphere."""
        schedule = optax.exponential_decay(
            self.learning_rate, _PAPER_DECAY_STEPS, _PAPER_DECAY, staircase=True
        )
        return optax.chain(optax.adam(schedule), retract_updates())


def unmeasured(x: Points) -> Scalar:
    """Return an objective larger than any that is measured; infinity would trip JAX's debuggers."""
    return jnp.asarray(jnp.finfo(x.dtype).max, x.dtype)


def is_measured(best: Any) -> bool:
    """Tell whether a best iterate (of some restart) has been measured already."""
    return best is not None and bool(jnp.any(best.objective < jnp.finfo(best.objective.dtype).max))


def default_num_steps(num_points: int, dim: int) -> int:
    """Choose the number of steps: 800 where they take seconds, down to 200 for large problems."""
    flops = 3.0 * num_points**2 * dim
    return 800 if flops < 5e9 else 400 if flops < 5e10 else 200


def check_method(method: Any) -> None:
    """Raise ``InputError`` unless this is a method."""
    if isinstance(method, type) or not isinstance(method, Method):
        name = method.__name__ if isinstance(method, type) else repr(method)
        raise InputError(f"method={name}: give an instance, such as Annealed() or MiniBatch()")


def check_hashable(method: Method) -> None:
    """Raise ``InputError`` if a part of the method holds arrays."""
    try:
        hash(method)
    except TypeError as error:
        raise InputError(
            f"method={method!r}: cannot be hashed ({error}); make its energy a frozen dataclass of "
            "numbers, or close a function over the arrays and give it to pair_energy"
        ) from None
