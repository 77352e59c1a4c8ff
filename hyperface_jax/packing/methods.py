"""*How* a packing is found: a frozen, hashable value that holds run length, schedules and energy.

A method knows only the size of a problem, and holds no arrays, so equal methods share one compiled
program. :meth:`Method.resolve` fills in whatever was left open. The loop (:mod:`.loop`) runs any
method; to add one, write a class with the few functions in which it differs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, get_args

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
from hyperface_jax.pairwise.precision import FINE
from hyperface_jax.typing import PerRow, Points, PRNGKey, Scalar

PAPER_STEPS = 100_000
_PAPER_DECAY_STEPS = 5_000
_PAPER_DECAY = 0.75


class PackingState(NamedTuple):
    """What one step passes to the next; a pytree, so any checkpointer can save it.

    Arrays with ``rows`` rows hold the n points, padded with rows of zeros if they are sharded.
    """

    step: Any
    x: Points
    opt_state: Any
    max_cosine: Scalar
    """Max cosine one step ago (of the pairs evaluated), used as the shift of the soft maximum."""
    gallery_index: Any
    """Gallery rows taken as nearest to each point, ``[rows, k]``; refreshed every few steps."""
    row: Any
    """Identity of each row, ``[rows]``, because mini-batches move points between devices."""
    key: PRNGKey


class Seen(NamedTuple):
    """A configuration that may be the best so far, as measured by a step."""

    x: Points
    row: Any
    objective: Scalar
    """The value by which the best iterate is chosen; very large if it was not measured."""
    max_cosine: Scalar
    """Exact where ``is_exact``, else that of the pairs evaluated."""
    is_exact: Any


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """Base class of methods; by default, each step uses a full batch and measures it exactly.

    Attributes:
        num_steps: number of steps; None chooses it from n and d.
        gallery_every: number of steps between searches for the nearest gallery rows. In between, a
            point keeps its row, so its distance is never underestimated.
        track_best: whether to keep the best iterate, which takes as much memory as the points.
            Otherwise the last iterate is returned.
        jitter: random displacement of a start from the gallery, in radians. It separates duplicates,
            which no force could separate.
        coarse_steps: number of steps at the start with products in ``coarse_precision``. None of them
            can be the best iterate, because their max cosines are not exact. None chooses four fifths
            of the steps of a large :class:`Annealed` run on an accelerator, else 0.
        coarse_precision: precision of the coarse steps, which is several times faster on accelerators.
        precision: precision of the other steps. None chooses three-pass products (``"bf16_x3"``) on an
            accelerator, and on a CPU that of the sweep, float32. The result is measured in float32.
    """

    num_steps: int | None = None
    gallery_every: int = 10
    track_best: bool = True
    jitter: float = 1e-3
    coarse_steps: int | None = None
    coarse_precision: Precision = "bf16"
    precision: Precision | None = None

    def __post_init__(self):
        if self.num_steps is not None:
            self._set("num_steps", whole("num_steps", self.num_steps, least=0))
        self._set("gallery_every", whole("gallery_every", self.gallery_every, least=1))
        if self.coarse_steps is not None:
            self._set("coarse_steps", whole("coarse_steps", self.coarse_steps, least=0))
        for name in ("precision", "coarse_precision"):
            if getattr(self, name) not in (None, *get_args(Precision)):
                choices = ", ".join(get_args(Precision))
                raise InputError(f"{name}={getattr(self, name)!r}: choose one of {choices}")
        if self.num_steps is not None and self.num_coarse > self.num_steps:
            raise InputError(f"coarse_steps={self.coarse_steps}: must be at most num_steps")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def steps(self) -> int:
        """Number of steps of a resolved method."""
        if self.num_steps is None:
            raise ValueError("num_steps=None: resolve the method first")
        return self.num_steps

    @property
    def num_coarse(self) -> int:
        """Number of coarse steps; none if nothing has chosen it yet."""
        return self.coarse_steps or 0

    def may_start_coarse(self, dim: int) -> bool:
        """Tell whether a run may begin with coarse steps that nobody asked for."""
        del dim
        return False

    def resolve(
        self, num_points: int, dim: int, num_devices: int = 1, *, near_gallery: bool = False
    ) -> Method:
        """Choose everything that is left open, and check the method against the problem.

        Args:
            num_points: number of points n.
            dim: dimension d.
            num_devices: number of devices.
            near_gallery: whether a gallery pulls at the points.

        Raises:
            InputError: the method cannot run at this size or on this number of devices.
        """
        del num_devices, near_gallery
        if self.num_steps is not None:
            return self
        return replace(self, num_steps=default_num_steps(num_points, dim))

    @abstractmethod
    def make_energy(self) -> Energy:
        """Return the energy that stands in for the max cosine."""

    @abstractmethod
    def make_optimizer(self) -> optax.GradientTransformation:
        """Return the optimizer that turns forces into updates that stay on the sphere."""

    def gallery_share(self, step: Any) -> Any:
        """Return the share of alpha with which the gallery pulls at a step."""
        del step
        return 1.0

    # Functions that a method may override

    def num_parts(self, num_devices: int) -> int:
        """Return the number of parts into which rows are split, a multiple of the number of devices."""
        return num_devices

    def flops(self, num_points: int, dim: int) -> float:
        """Return the number of FLOPs of a step."""
        return 3.0 * num_points**2 * dim

    def first_max_cosine(self, problem: PackingProblem, x: Points, sweep: Sweep) -> Scalar:
        """Measure the max cosine of the start, which is the shift for the first step."""
        return jnp.max(row_max(x, problem.frozen, sweep=sweep))

    @property
    def prepare_every(self) -> int | None:
        """Steps between calls of :meth:`prepare`, the first before step 0; None means no calls."""
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
        """Return the points before the step moved them, and their exact figures."""
        del problem, after
        is_exact = jnp.asarray(sweep.precision in FINE)
        objective = jnp.where(is_exact, figures.objective, unmeasured(before.x))
        return Seen(before.x, before.row, objective, figures.max_cosine, is_exact)

    def finish(
        self, problem: PackingProblem, x: Points, nearest: PerRow, sweep: Sweep
    ) -> tuple[Points, PerRow]:
        """Improve the final points, given the exact cosine of each to its nearest other point."""
        del problem, sweep
        return x, nearest


@dataclass(frozen=True, kw_only=True)
class Annealed(Method):
    """The default: a soft maximum that cools down, with normalized forces and momentum.

    Attributes:
        annealing: how the inverse temperature rises, or a function ``(dim, num_steps)`` that
            chooses it. For a start that is already good, use :func:`.refining_annealing`.
        momentum: decay of the averaged force, in [0, 1); None chooses it from the number of steps.
        b2: decay of the average squared force of each point; 0 normalizes every force. None takes 0
            where every step has all pairs.
    """

    annealing: Annealing | ChooseAnnealing = default_annealing
    momentum: float | None = None
    b2: float | None = None

    def may_start_coarse(self, dim: int) -> bool:
        """Tell whether the run begins hot, where rounding is forgotten; a refined start would suffer."""
        begun = self.annealing
        if isinstance(begun, Annealing):
            return begun == default_annealing(dim, begun.num_steps)
        return begun is default_annealing

    def resolve(
        self, num_points: int, dim: int, num_devices: int = 1, *, near_gallery: bool = False
    ) -> Annealed:
        """Choose the number of steps, the annealing and the momentum."""
        del near_gallery
        steps = super().resolve(num_points, dim, num_devices).steps
        return replace(self, num_steps=steps, **self._schedules(dim, steps))

    def _schedules(self, dim: int, steps: int) -> dict[str, Any]:
        annealing, momentum = self.annealing, self.momentum
        return {
            "annealing": annealing if isinstance(annealing, Annealing) else annealing(dim, steps),
            "momentum": default_momentum(steps) if momentum is None else momentum,
        }

    def make_energy(self) -> Energy:
        """Return a soft maximum with the annealed temperature."""
        return SoftMax(self._annealing)

    def make_optimizer(self) -> optax.GradientTransformation:
        """Return Adam on the sphere, with a step size tied to the temperature."""
        momentum = default_momentum(self.steps) if self.momentum is None else self.momentum
        return riemannian_adam(AnnealedStep(self._annealing), momentum, self.b2 or 0.0)

    @property
    def _annealing(self) -> Annealing:
        if not isinstance(self.annealing, Annealing):
            raise ValueError("annealing is still to be chosen: resolve the method first")
        return self.annealing

    def gallery_share(self, step: Any) -> Any:
        """Return a share that rises linearly from 0 to 1 over the run."""
        return Ramp(self.steps)(step)


@dataclass(frozen=True)
class Custom(Annealed):
    """A custom energy, with a custom optimizer or that of :class:`Annealed`.

    Attributes:
        energy: an instance of an energy, for example ``pair_energy(function)``.
        optimizer: an optimizer with updates that stay on the sphere, for example
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

    def may_start_coarse(self, dim: int) -> bool:
        """Return False: what rounding does to the energy is not known."""
        del dim
        return False

    def make_energy(self) -> Energy:
        """Return the given energy."""
        return self.energy

    def make_optimizer(self) -> optax.GradientTransformation:
        """Return the given optimizer, or the annealed one."""
        return super().make_optimizer() if self.optimizer is None else self.optimizer

    def gallery_share(self, step: Any) -> Any:
        """Return 1: the gallery pulls with full alpha from the beginning."""
        del step
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Paper(Method):
    """HyperFace's Algorithm 1 as published: one pair per step, plain Adam, the last iterate.

    A step finds the closest pair of all identities, takes the gradient of
    ``-d(closest pair) + alpha mean_k min_g d(x_k, g)`` with the cosine distance d, updates all points by
    Adam (one second moment per coordinate, no projection) and renormalizes them. With ``track_best``,
    the best iterate is returned instead of the last, which favors the algorithm. A ``jitter`` helps if
    the gallery has duplicates.

    Attributes:
        learning_rate: initial learning rate of Adam, which is multiplied by 0.75 every 5,000 steps.
            The paper names 0.1 and 0.01.

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

    def resolve(
        self, num_points: int, dim: int, num_devices: int = 1, *, near_gallery: bool = False
    ) -> Paper:
        """Choose 100,000 steps unless a number is given."""
        del num_points, dim, num_devices, near_gallery
        given = self.num_steps
        return replace(self, num_steps=PAPER_STEPS if given is None else given)

    def make_energy(self) -> Energy:
        """Return the energy of the closest pair."""
        return ClosestPair()

    def make_optimizer(self) -> optax.GradientTransformation:
        """Return Adam, followed by a retraction to the sphere."""
        schedule = optax.exponential_decay(
            self.learning_rate, _PAPER_DECAY_STEPS, _PAPER_DECAY, staircase=True
        )
        return optax.chain(optax.adam(schedule), retract_updates())


def unmeasured(x: Points) -> Scalar:
    """Return an objective above any measured one; infinity would trip JAX's debugging checks."""
    return jnp.asarray(jnp.finfo(x.dtype).max, x.dtype)


def is_measured(best: Any) -> bool:
    """Tell whether a best iterate (of any restart) has been measured already."""
    return best is not None and bool(jnp.any(best.objective < jnp.finfo(best.objective.dtype).max))


def default_num_steps(num_points: int, dim: int) -> int:
    """Choose the number of steps: 800 for problems that take seconds, down to 200 for large ones."""
    flops = 3.0 * num_points**2 * dim
    return 800 if flops < 5e9 else 400 if flops < 5e10 else 200


def check_method(method: Any) -> None:
    """Raise ``InputError`` unless ``method`` is an instance of :class:`Method`."""
    if isinstance(method, type) or not isinstance(method, Method):
        name = method.__name__ if isinstance(method, type) else repr(method)
        raise InputError(f"method={name}: give an instance, such as Annealed() or MiniBatch()")


def check_hashable(method: Method) -> None:
    """Raise ``InputError`` if the method is not hashable, such as one that holds arrays."""
    try:
        hash(method)
    except TypeError as error:
        raise InputError(
            f"method={method!r}: cannot be hashed ({error}); make its energy a frozen dataclass of "
            "numbers, or pass pair_energy a function that closes over the arrays"
        ) from None
