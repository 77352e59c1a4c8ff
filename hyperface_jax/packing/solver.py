"""*How* a packing is found: the full-batch solver, its state, and the loop that drives it.

``PackingSolver.step`` is one jit-able step; ``advance`` runs ``inner_iterations`` of them as one
compiled, donated scan; calling the solver runs to the end with a callback between scans. The best
iterate is kept on the exact objective, which the sweep of the next step finds at no extra cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperface_jax import bounds
from hyperface_jax.packing.energies import SoftMax, Sweep, row_max
from hyperface_jax.packing.initializers import Initializer, from_gallery, uniform
from hyperface_jax.packing.problem import PackingProblem, ProblemEvaluation
from hyperface_jax.packing.schedules import AnnealedStep, Ramp, default_annealing, default_momentum
from hyperface_jax.packing.transforms import riemannian_adam
from hyperface_jax.pairwise import nearest
from hyperface_jax.pairwise import sweep as default_sweep

if TYPE_CHECKING:
    from hyperface_jax.typing import Points, PRNGKey, Scalar

_CHUNK_FLOPS = 2e11
_MAX_CHUNK = 100


class StepRecord(NamedTuple):
    """Figures of one step, measured at the points before its update."""

    step: Any
    energy: Scalar
    max_cosine: Scalar
    mean_nearest_cosine: Scalar
    gallery_cosine: Scalar
    keep_out_cosine: Scalar


class PackingState(NamedTuple):
    """Everything a run needs to go on; a pytree, so any checkpointer can save it."""

    step: Any
    x: Points
    opt_state: Any
    max_cosine: Scalar
    """Exact max cosine a step ago: the shift of the soft maximum."""
    gallery_index: Any
    """Gallery row taken as nearest to each point, ``[n]``; refreshed every few steps."""
    best_x: Points
    best_objective: Scalar
    best_max_cosine: Scalar
    best_step: Any
    key: PRNGKey


@dataclass(frozen=True)
class PackingOutput:
    """A finished packing.

    Attributes:
        x: free points, ``[n, d]`` unit rows; frozen ones are not repeated.
        max_cosine: exact max cosine over all pairs with a free point.
        history: one :class:`StepRecord` whose leaves have a leading axis of steps.
        lower_bound: the tightest proven lower bound on the max cosine, with its name.
        state: the last solver state.
    """

    x: Points
    max_cosine: float
    history: StepRecord
    lower_bound: bounds.Bound
    state: PackingState

    @property
    def min_angle(self) -> float:
        """Smallest angle between two points, in radians."""
        return float(jnp.arccos(jnp.clip(self.max_cosine, -1.0, 1.0)))

    @property
    def gap(self) -> float:
        """How far the max cosine is above the lower bound: nothing can be better than 0."""
        return self.max_cosine - self.lower_bound.value


Callback = Callable[[PackingState, StepRecord], None]


@dataclass(frozen=True)
class PackingSolver:
    """Full-batch solver: any optax optimiser whose updates stay on the sphere.

    Attributes:
        optimizer: for example :func:`~hyperface_jax.packing.transforms.riemannian_adam`.
        num_iterations: steps, one sweep each.
        inner_iterations: steps of one compiled scan, between two callbacks.
        initializer: start of the free points.
        sweep: how pairs are visited.
        gallery_every: steps between two searches for the nearest gallery rows; in between a point
            keeps its row, so that its distance is never understated.
    """

    optimizer: optax.GradientTransformation
    num_iterations: int
    inner_iterations: int = 50
    initializer: Initializer = uniform
    sweep: Sweep = default_sweep
    gallery_every: int = 10

    def init_state(self, problem: PackingProblem, key: PRNGKey) -> PackingState:
        """Create the start: initial points and one scores-only sweep."""
        init_key, run_key = jax.random.split(key)
        x = self.initializer(init_key, problem.num_points, problem.dim)
        return self._first_state(problem, x, run_key)

    @partial(jax.jit, static_argnums=0)
    def _first_state(self, problem: PackingProblem, x: Points, key: PRNGKey) -> PackingState:
        max_cosine = jnp.max(row_max(x, problem.frozen, sweep=self.sweep))
        infinity = jnp.asarray(jnp.inf, x.dtype)
        zero = jnp.zeros((), jnp.int32)
        nowhere = jnp.zeros((x.shape[0],), jnp.int32)
        opt_state = self.optimizer.init(x)
        # best_x must not share x's buffer, which advance() donates.
        return PackingState(
            zero, x, opt_state, max_cosine, nowhere, jnp.copy(x), infinity, infinity, zero, key
        )

    def step(self, problem: PackingProblem, state: PackingState) -> tuple[PackingState, StepRecord]:
        """Evaluate the points, keep them if they are the best so far, and move them once."""
        state = self.search_gallery(problem, state)
        evaluation = problem.evaluate(
            state.x,
            step=state.step,
            shift=state.max_cosine,
            sweep=self.sweep,
            gallery_index=state.gallery_index,
        )
        state = keep_best(state, evaluation.objective, evaluation.max_cosine)
        return move(self.optimizer, state, evaluation)

    def search_gallery(self, problem: PackingProblem, state: PackingState) -> PackingState:
        """Find the nearest gallery rows, if there is a gallery and it is their turn."""
        gallery = problem.gallery
        if gallery is None:
            return state

        def search():
            return self.sweep(state.x, gallery, reduction=nearest()).column

        is_due = state.step % self.gallery_every == 0
        return state._replace(gallery_index=lax.cond(is_due, search, lambda: state.gallery_index))

    def advance(
        self, problem: PackingProblem, state: PackingState, num_steps: int
    ) -> tuple[PackingState, StepRecord]:
        """Run ``num_steps`` steps as one compiled scan. The state passed in is donated."""
        return _scan(self, problem, state, num_steps)

    def __call__(
        self,
        problem: PackingProblem,
        state: PackingState,
        *,
        callback: Callback | None = None,
    ) -> PackingOutput:
        """Run from ``state`` to ``num_iterations``, calling back after every scan."""
        chunks: list[StepRecord] = []
        while (done := int(state.step)) < self.num_iterations:
            length = min(self.inner_iterations, self.num_iterations - done)
            state, records = self.advance(problem, state, length)
            chunks.append(records)
            if callback:
                callback(state, records)
        return finish(problem, state, chunks)


def keep_best(state: PackingState, objective: Any, max_cosine: Any) -> PackingState:
    """Remember the current points if their exact objective is the lowest so far."""
    better = objective < state.best_objective
    return state._replace(
        best_x=jnp.where(better, state.x, state.best_x),
        best_objective=jnp.where(better, objective, state.best_objective),
        best_max_cosine=jnp.where(better, max_cosine, state.best_max_cosine),
        best_step=jnp.where(better, state.step, state.best_step),
        max_cosine=max_cosine,
    )


def move(
    optimizer: optax.GradientTransformation, state: PackingState, evaluation: ProblemEvaluation
) -> tuple[PackingState, StepRecord]:
    """Apply one optimiser step along the force."""
    updates, opt_state = optimizer.update(evaluation.force, state.opt_state, state.x)
    x = optax.apply_updates(state.x, updates)
    record = StepRecord(
        state.step,
        evaluation.value,
        evaluation.max_cosine,
        evaluation.mean_nearest_cosine,
        evaluation.gallery_cosine,
        evaluation.keep_out_cosine,
    )
    return state._replace(step=state.step + 1, x=x, opt_state=opt_state), record


def finish(problem: PackingProblem, state: PackingState, chunks: list[StepRecord]) -> PackingOutput:
    """Collect the output: the best points, or the start if no step was taken."""
    history = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *chunks) if chunks else None
    x = state.best_x
    max_cosine = float(jnp.max(row_max(x, problem.frozen)))
    frozen_rows = 0 if problem.frozen is None else problem.frozen.shape[0]
    bound = bounds.tightest(problem.num_points + frozen_rows, problem.dim)
    return PackingOutput(x, max_cosine, history or _empty_history(), bound, state)


@partial(jax.jit, static_argnums=(0, 3), donate_argnums=2)
def _scan(solver: Any, problem: PackingProblem, state: PackingState, num_steps: int):
    return lax.scan(lambda s, _: solver.step(problem, s), state, length=num_steps)


def _empty_history() -> StepRecord:
    return StepRecord(*(jnp.zeros((0,)) for _ in StepRecord._fields))


def default_num_iterations(num_points: int, dim: int) -> int:
    """Choose the number of steps: 800 where they take seconds, down to 200 for large problems."""
    flops = 3.0 * num_points**2 * dim
    return 800 if flops < 5e9 else 400 if flops < 5e10 else 200


def default_inner_iterations(num_points: int, dim: int) -> int:
    """Choose the length of a compiled scan: about a second or two of work on a CPU."""
    flops = 3.0 * num_points**2 * dim
    return int(min(max(_CHUNK_FLOPS // flops, 1), _MAX_CHUNK))


def annealed(
    problem: PackingProblem,
    *,
    num_iterations: int | None = None,
    initializer: Initializer | None = None,
    sweep: Sweep = default_sweep,
    b2: float = 0.0,
) -> tuple[PackingProblem, PackingSolver]:
    """Return the problem with an annealed soft maximum, and the solver tuned for it.

    A problem that brings its own energy keeps it, and its constant ``alpha``.

    The recipe behind :func:`solve` and ``hyperface pack --method annealed``: normalised forces
    with momentum, the step tied to the temperature, all chosen from n, d and the number of steps.
    """
    size = problem.num_points, problem.dim
    if num_iterations is None:
        num_iterations = default_num_iterations(*size)
    annealing = default_annealing(problem.dim, num_iterations)
    solver = PackingSolver(
        riemannian_adam(AnnealedStep(annealing), default_momentum(num_iterations), b2),
        num_iterations,
        default_inner_iterations(*size),
        initializer or default_initializer(problem),
        sweep,
    )
    if problem.energy is None:
        ramp = Ramp(problem.alpha, num_iterations)
        problem = replace(problem, energy=SoftMax(annealing), alpha_schedule=ramp)
    return problem, solver


def default_initializer(problem: PackingProblem) -> Initializer:
    """Start from the gallery where there is one, else from uniform points."""
    return uniform if problem.gallery is None else from_gallery(problem.gallery)


def solve(
    problem: PackingProblem,
    key: PRNGKey,
    *,
    num_iterations: int | None = None,
    initializer: Initializer | None = None,
    callback: Callback | None = None,
) -> PackingOutput:
    """Find a packing: the front door.

    Args:
        problem: what to pack.
        key: seed of the start.
        num_iterations: sweeps to spend; None chooses from n and d.
        initializer: start; None means the gallery where there is one, else uniform points.
        callback: called with the state and the step records after every compiled scan.

    Returns:
        The best packing seen, with its history and the lower bound that certifies it.

    Cost: ``3 n^2 d`` FLOPs a step, O(n d) memory.

    Examples:
        >>> import jax
        >>> problem = PackingProblem(num_points=6, dim=3)
        >>> packing = solve(problem, jax.random.key(0), num_iterations=300)
        >>> round(abs(packing.max_cosine), 3)  # the octahedron
        0.0
    """
    problem, solver = annealed(problem, num_iterations=num_iterations, initializer=initializer)
    return solver(problem, solver.init_state(problem, key), callback=callback)
