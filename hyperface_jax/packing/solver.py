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

from hyperface_jax import bounds, sharding, sphere
from hyperface_jax.packing.constraints import nearest_rows
from hyperface_jax.packing.energies import DEFAULT_SWEEP, SoftMax, row_max
from hyperface_jax.packing.initializers import (
    Initializer,
    from_gallery,
    initial_points,
    uniform,
)
from hyperface_jax.packing.problem import PackingProblem, ProblemEvaluation
from hyperface_jax.packing.schedules import (
    AnnealedStep,
    ChooseAnnealing,
    Ramp,
    default_annealing,
    default_momentum,
)
from hyperface_jax.packing.transforms import riemannian_adam
from hyperface_jax.pairwise import Precision, Sweep

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from hyperface_jax.pairwise.parts import Report
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
    """Everything a run needs to go on; a pytree, so any checkpointer can save it.

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
    """Identity of each row, ``[rows]``: the mini-batch solver moves points between devices."""
    best_x: Points | None
    """Points of the lowest exact objective so far; None if the solver does not track them."""
    best_row: Any
    """Identity of each row of ``best_x``."""
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
        sweep: how pairs are visited; its mesh says over which devices rows are sharded.
        gallery_every: steps between two searches for the nearest gallery rows; in between a point
            keeps its row, so that its distance is never understated.
        track_best: keep the best iterate, in as much memory as the points. Without it the last one
            counts, which an annealed run ends close to.
        coarse_steps: steps at the start with products in ``coarse_precision``; no best iterate is
            taken from them, since its max cosine would not be exact.
        coarse_precision: for accelerators, on which it is several times faster.
    """

    optimizer: optax.GradientTransformation
    num_iterations: int
    inner_iterations: int = 50
    initializer: Initializer = uniform
    sweep: Sweep = DEFAULT_SWEEP
    gallery_every: int = 10
    track_best: bool = True
    coarse_steps: int = 0
    coarse_precision: Precision = "bf16"

    def num_rows(self, num_points: int) -> int:
        """Return the rows of the state's arrays: the points, filled up to whole shards."""
        if self.sweep.mesh is None:
            return num_points
        return sharding.padded_size(num_points, self.sweep.mesh.size)

    def init_state(self, problem: PackingProblem, key: PRNGKey) -> PackingState:
        """Create the start, sharded from the beginning: initial points and one scores-only sweep."""
        init_key, run_key = jax.random.split(key)
        x = self.initial_points(problem, init_key)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.state_shapes(problem))
        first_state = jax.jit(_first_state, static_argnums=0, out_shardings=shardings)
        return first_state(self, problem, x, run_key)

    def state_shapes(self, problem: PackingProblem) -> PackingState:
        """Return shapes and shardings of the state, to compile a step for without running anything."""
        rows = self.num_rows(problem.num_points)
        x = jax.ShapeDtypeStruct((rows, problem.dim), jnp.float32)
        key = jax.eval_shape(lambda: jax.random.key(0))
        shapes = jax.eval_shape(partial(_first_state, self), problem, x, key)
        if self.sweep.mesh is None:
            return shapes
        shardings = sharding.tree_shardings(shapes, rows, self.sweep.mesh)
        return jax.tree.map(
            lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), shapes, shardings
        )

    def initial_points(self, problem: PackingProblem, key: PRNGKey) -> Points:
        """Create the initial points alone, ``[rows, d]``."""
        size = problem.num_points, problem.dim
        rows, mesh = self.num_rows(problem.num_points), self.sweep.mesh
        return initial_points(self.initializer, key, *size, size=rows, mesh=mesh)

    def first_max_cosine(self, problem: PackingProblem, x: Points) -> Scalar:
        """Measure the start."""
        return jnp.max(row_max(x, problem.frozen, sweep=self.sweep))

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
        state = state._replace(max_cosine=evaluation.max_cosine)
        if self.sweep.precision == "float32":
            state = keep_best(state, evaluation.objective, evaluation.max_cosine)
        return self.move(state, evaluation)

    def move(
        self, state: PackingState, evaluation: ProblemEvaluation
    ) -> tuple[PackingState, StepRecord]:
        """Apply one optimiser step along the force."""
        updates, opt_state = self.optimizer.update(evaluation.force, state.opt_state, state.x)
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

    def at(self, step: int) -> PackingSolver:
        """Return the solver of the scan that starts at ``step``: coarse early, exact late."""
        if step >= self.coarse_steps:
            return self
        return replace(self, sweep=replace(self.sweep, precision=self.coarse_precision))

    def scan_length(self, step: int) -> int:
        """Return the number of steps of the scan that starts at ``step``."""
        end = self.coarse_steps if step < self.coarse_steps else self.num_iterations
        return min(self.inner_iterations, end - step, self.num_iterations - step)

    def search_gallery(self, problem: PackingProblem, state: PackingState) -> PackingState:
        """Find the nearest gallery rows, if there is a gallery and it is their turn."""
        gallery = problem.gallery
        if gallery is None:
            return state

        def search():
            return nearest_rows(state.x, gallery, problem.manifold.num_neighbours, sweep=self.sweep)

        is_due = state.step % self.gallery_every == 0
        return state._replace(gallery_index=lax.cond(is_due, search, lambda: state.gallery_index))

    def advance(
        self, problem: PackingProblem, state: PackingState, num_steps: int
    ) -> tuple[PackingState, StepRecord]:
        """Run ``num_steps`` steps as one compiled scan. The state passed in is donated."""
        return scan(self, problem, state, num_steps)

    def sharded(self, state: PackingState) -> PackingState:
        """Hold the rows of a traced state on their devices."""
        if self.sweep.mesh is None:
            return state
        shardings = sharding.tree_shardings(state, state.x.shape[0], self.sweep.mesh)
        return lax.with_sharding_constraint(state, shardings)

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
            length = self.scan_length(done)
            state, records = self.at(done).advance(problem, state, length)
            chunks.append(records)
            if callback:
                callback(state, records)
        return finish(self, problem, state, chunks)

    def finished(
        self, problem: PackingProblem, x: Points, report: Report | None = None
    ) -> tuple[Points, Any]:
        """Return the final points and the exact cosine of each to its nearest other one, ``[rows]``.

        Args:
            problem: what was packed.
            x: the points of :func:`final_rows`; their buffer may be reused.
            report: told the share done of a long sweep.
        """
        del report
        return x, _row_max(self.sweep, x, problem.frozen)


def _first_state(
    solver: PackingSolver, problem: PackingProblem, x: Points, key: PRNGKey
) -> PackingState:
    infinity = jnp.asarray(jnp.inf, x.dtype)
    zero = jnp.zeros((), jnp.int32)
    row = jnp.arange(x.shape[0], dtype=jnp.int32)
    # No two leaves may share a buffer: advance() donates them all.
    return PackingState(
        zero,
        x,
        solver.optimizer.init(x),
        solver.first_max_cosine(problem, x),
        jnp.zeros((x.shape[0], problem.manifold.num_neighbours), jnp.int32),
        row,
        jnp.copy(x) if solver.track_best else None,
        jnp.copy(row),
        infinity,
        infinity,
        zero,
        key,
    )


def keep_best(state: PackingState, objective: Any, max_cosine: Any) -> PackingState:
    """Remember the current points if their exact objective is the lowest so far."""
    better = objective < state.best_objective
    if state.best_x is not None:
        state = state._replace(
            best_x=jnp.where(better, state.x, state.best_x),
            best_row=jnp.where(better, state.row, state.best_row),
        )
    return state._replace(
        best_objective=jnp.where(better, objective, state.best_objective),
        best_max_cosine=jnp.where(better, max_cosine, state.best_max_cosine),
        best_step=jnp.where(better, state.step, state.best_step),
    )


def finish(
    solver: PackingSolver,
    problem: PackingProblem,
    state: PackingState,
    chunks: list[StepRecord],
) -> PackingOutput:
    """Collect the output: the best points, or the start if no step was taken."""
    history = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *chunks) if chunks else None
    x, row = final_rows(state)
    x, nearest_cosine = solver.finished(problem, x)
    max_cosine = float(jnp.max(nearest_cosine))
    x = ordered_points(x, row, problem.num_points)
    frozen_rows = 0 if problem.frozen is None else int(sphere.count_points(problem.frozen))
    bound = bounds.tightest(problem.num_points + frozen_rows, problem.dim)
    return PackingOutput(x, max_cosine, history or _empty_history(), bound, state)


def final_rows(state: PackingState) -> tuple[Points, Any]:
    """Return the best points, or the last where they were not tracked, and whose each row is."""
    if state.best_x is None:
        return state.x, state.row
    return state.best_x, state.best_row


def ordered_points(x: Points, row: Any, num_points: int) -> Points:
    """Return points in the order of the identities, ``[n, d]``.

    Where they are spread over several processes, no process could hold them all: there they come as
    they lie, filled up with rows of zeros, and belong to the identities of :func:`final_rows`.
    """
    if not x.is_fully_addressable or (x.shape[0] == num_points and _is_in_order(row)):
        return x
    place = jnp.where(sphere.is_point(x), row, num_points)
    return jnp.zeros_like(x[:num_points]).at[place].set(x, mode="drop")


def _is_in_order(row: Any) -> bool:
    return bool(jnp.all(row == jnp.arange(row.shape[0])))


@partial(jax.jit, static_argnums=0)
def _row_max(sweep: Sweep, x: Points, frozen: Points | None) -> Any:
    return row_max(x, frozen, sweep=sweep)


@partial(jax.jit, static_argnums=(0, 3), donate_argnums=2)
def scan(
    solver: PackingSolver, problem: PackingProblem, state: PackingState, num_steps: int
) -> tuple[PackingState, StepRecord]:
    """Run steps as one compiled scan; the state passed in is donated."""

    def step(state: PackingState, _: Any):
        state, record = solver.step(problem, state)
        return solver.sharded(state), record

    return lax.scan(step, state, length=num_steps)


def _empty_history() -> StepRecord:
    return StepRecord(*(jnp.zeros((0,)) for _ in StepRecord._fields))


def default_num_iterations(num_points: int, dim: int) -> int:
    """Choose the number of steps: 800 where they take seconds, down to 200 for large problems."""
    flops = 3.0 * num_points**2 * dim
    return 800 if flops < 5e9 else 400 if flops < 5e10 else 200


def default_inner_iterations(num_points: int, dim: int) -> int:
    """Choose the length of a compiled scan."""
    return min(scan_steps(3.0 * num_points**2 * dim), _MAX_CHUNK)


def scan_steps(flops: float) -> int:
    """Return how many steps of so many FLOPs are about a second or two of work on a CPU."""
    return int(max(_CHUNK_FLOPS // flops, 1))


def annealed(
    problem: PackingProblem,
    *,
    num_iterations: int | None = None,
    initializer: Initializer | None = None,
    sweep: Sweep = DEFAULT_SWEEP,
    choose_annealing: ChooseAnnealing = default_annealing,
    b2: float = 0.0,
) -> tuple[PackingProblem, PackingSolver]:
    """Return the problem with an annealed soft maximum, and the solver tuned for it.

    A problem that brings its own energy keeps it, and its constant ``alpha``.

    The recipe behind :func:`solve` and ``hyperface pack --method annealed``: normalised forces
    with momentum, the step tied to the temperature, all chosen from n, d and the number of steps.
    A start that is good already wants :func:`~hyperface_jax.packing.schedules.refining_annealing`.
    """
    size = problem.num_points, problem.dim
    if num_iterations is None:
        num_iterations = default_num_iterations(*size)
    annealing = choose_annealing(problem.dim, num_iterations)
    solver = PackingSolver(
        riemannian_adam(AnnealedStep(annealing), default_momentum(num_iterations), b2),
        num_iterations,
        default_inner_iterations(*size),
        initializer or default_initializer(problem),
        sweep,
    )
    problem = problem.on(sweep.mesh, sweep.num_devices)
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
    mesh: Mesh | None = None,
    callback: Callback | None = None,
) -> PackingOutput:
    """Find a packing: the front door.

    Args:
        problem: what to pack.
        key: seed of the start.
        num_iterations: sweeps to spend; None chooses from n and d.
        initializer: start; None means the gallery where there is one, else uniform points.
        mesh: devices over which rows are sharded, from
            :func:`hyperface_jax.sharding.make_mesh`; the packing is the same as on one.
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
    problem, solver = annealed(
        problem,
        num_iterations=num_iterations,
        initializer=initializer,
        sweep=Sweep(mesh),
    )
    return solver(problem, solver.init_state(problem, key), callback=callback)
