"""One loop that runs any method and keeps the best iterate.

The functions in the first part can be traced. :class:`Loop` compiles them for callers on the host that
want to see a run advance: in chunks of steps with access to the state in between, sharded over devices,
or side by side for restarts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from hyperface_jax import meshes
from hyperface_jax.packing import starts
from hyperface_jax.packing.constraints import nearest_rows, repair_keep_out
from hyperface_jax.packing.energies import DEFAULT_SWEEP, row_max
from hyperface_jax.packing.methods import Method, PackingState, Seen, unmeasured
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.packing.products import coarse_sweep, fine_sweep, resolved
from hyperface_jax.pairwise import Sweep
from hyperface_jax.pairwise import max_cosine as highest
from hyperface_jax.pairwise.parts import num_parts, sweep_in_parts
from hyperface_jax.pairwise.platforms import platform_of
from hyperface_jax.typing import Frozen, PerRow, Points, PRNGKey, Scalar, Update

_CPU_CHUNK_FLOPS = 2e11
_ACCELERATOR_CHUNK_FLOPS = 2e14
_MAX_CHUNK = 100
_GROUP_BYTES = 2**28


class StepRecord(NamedTuple):
    """Figures of one step; a history has a leading axis of steps."""

    step: Any
    energy: Scalar
    max_cosine: Scalar
    """Exact to 1e-6 where ``is_exact``, and then taken before the step (with mini-batches, after it).
    Otherwise it covers only the pairs that the step evaluated."""
    mean_nearest_cosine: Scalar
    gallery_cosine: Scalar | None
    keep_out_cosine: Scalar | None
    is_exact: Any


class Best(NamedTuple):
    """The iterate with the lowest exact objective so far."""

    x: Points
    row: Any
    objective: Scalar
    max_cosine: Scalar
    step: Any


class LoopState(NamedTuple):
    """Everything a run needs to continue: the method's state and, if tracked, the best iterate."""

    now: PackingState
    best: Best | None


class Final(NamedTuple):
    """The points a run ends with, laid out as on the devices."""

    x: Points
    """The points, ``[rows, d]``; rows of zeros pad the shards."""
    row: Any
    """Identity of each row."""
    nearest: PerRow
    """Exact cosine of each row to its nearest other point, frozen ones included; ``-inf`` in padding."""
    keep_out: PerRow | None
    """Exact cosine of each row to its nearest keep-out row."""
    max_cosine: Scalar
    violations: Any
    """Number of points that violate the keep-out limit."""
    keep_out_cosine: Scalar | None


def first_state(
    method: Method, problem: PackingProblem, x: Points, key: PRNGKey, sweep: Sweep = DEFAULT_SWEEP
) -> LoopState:
    """Return the state before the first step, at the given points."""
    zero = jnp.zeros((), jnp.int32)
    row = jnp.arange(x.shape[0], dtype=jnp.int32)
    neighbors = problem.manifold.num_neighbors
    now = PackingState(
        zero,
        x,
        method.make_optimizer().init(x),
        method.first_max_cosine(problem, x, sweep),
        jnp.zeros((x.shape[0], neighbors), jnp.int32),
        row,
        key,
    )
    if not method.track_best:
        return LoopState(now, None)
    # Chunks donate all leaves, so no two of them may share a buffer.
    largest = unmeasured(x)
    best = Best(jnp.copy(x), jnp.copy(row), largest, jnp.copy(largest), jnp.copy(zero))
    return LoopState(now, best)


def step(
    method: Method, problem: PackingProblem, state: LoopState, sweep: Sweep = DEFAULT_SWEEP
) -> tuple[LoopState, StepRecord]:
    """Evaluate the points, move them once, and keep the best iterate."""
    before = _search_gallery(method, problem, state.now, sweep)
    evaluation = method.evaluate(problem, before, sweep)
    figures = problem.regularize(
        before.x,
        evaluation,
        share=method.gallery_share(before.step),
        sweep=sweep,
        gallery_index=before.gallery_index,
    )
    updates, opt_state = method.make_optimizer().update(figures.force, before.opt_state, before.x)
    after = before._replace(
        step=before.step + 1,
        x=optax.apply_updates(before.x, updates),
        opt_state=opt_state,
        max_cosine=figures.max_cosine,
    )
    seen = method.look(problem, before, after, figures, sweep)
    record = StepRecord(
        before.step,
        figures.value,
        seen.max_cosine,
        figures.mean_nearest_cosine,
        figures.gallery_cosine,
        figures.keep_out_cosine,
        seen.is_exact,
    )
    return LoopState(after, _kept(state.best, seen, before.step)), record


def advance(
    method: Method,
    problem: PackingProblem,
    state: LoopState,
    num_steps: int,
    sweep: Sweep = DEFAULT_SWEEP,
) -> tuple[LoopState, StepRecord]:
    """Run a number of steps as one scan, without preparation; records have an axis of steps."""

    def one(state: LoopState, _: Any) -> tuple[LoopState, StepRecord]:
        state, record = step(method, problem, state, sweep)
        return _held(state, sweep), record

    return lax.scan(one, state, length=num_steps)


def advance_prepared(
    method: Method,
    problem: PackingProblem,
    state: LoopState,
    num_steps: int,
    sweep: Sweep = DEFAULT_SWEEP,
) -> tuple[LoopState, StepRecord]:
    """Run a number of steps, with preparation before the first one and at every due step after it."""
    every = method.prepare_every
    if every is None or num_steps == 0:
        return advance(method, problem, state, num_steps, sweep)

    def segment(state: LoopState, length: int) -> tuple[LoopState, StepRecord]:
        state = _held(prepared(method, state, sweep), sweep)
        return advance(method, problem, state, length, sweep)

    whole, rest = divmod(num_steps, every)
    state, records = lax.scan(lambda s, _: segment(s, every), state, length=whole)
    records = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), records)
    if not rest:
        return state, records
    state, last = segment(state, rest)
    return state, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), records, last)


def prepared(method: Method, state: LoopState, sweep: Sweep = DEFAULT_SWEEP) -> LoopState:
    """Return the state after the method's preparation for the next step."""
    return state._replace(now=method.prepare(state.now, sweep))


def conclude(
    method: Method,
    problem: PackingProblem,
    x: Points,
    row: Any,
    nearest: PerRow | None = None,
    sweep: Sweep = DEFAULT_SWEEP,
) -> Final:
    """Let the method finish the repaired points, and measure them; pass ``nearest`` if it is known."""
    if nearest is None:
        nearest = row_max(x, problem.frozen, sweep=sweep)
    x, nearest = method.finish(problem, x, nearest, sweep)
    max_cosine = jnp.max(nearest)
    if problem.keep_out is None:
        return Final(x, row, nearest, None, max_cosine, None, None)
    keep_out = sweep(x, problem.keep_out, reduction=highest())
    violations = jnp.sum(keep_out > problem.keep_out_cosine, dtype=jnp.int32)
    return Final(x, row, nearest, keep_out, max_cosine, violations, jnp.max(keep_out))


def repaired(
    problem: PackingProblem, state: LoopState, sweep: Sweep = DEFAULT_SWEEP
) -> tuple[Points, Any]:
    """Return the best points (the last, if none are tracked), moved outside the keep-out limit."""
    x, row = final_rows(state)
    if problem.keep_out is not None:
        x = repair_keep_out(x, problem.keep_out, problem.keep_out_cosine, sweep=sweep)
    return x, row


def final_rows(state: LoopState) -> tuple[Points, Any]:
    """Return the best points (the last, if none are tracked), and the identity of each row."""
    kept = state.now if state.best is None else state.best
    return kept.x, kept.row


def best_of(problem: PackingProblem, states: LoopState, sweep: Sweep = DEFAULT_SWEEP) -> LoopState:
    """Select the restart with the lowest objective (at the last iterate, if the best is not tracked)."""

    def measured(x: Points) -> Scalar:
        highest = jnp.max(row_max(x, problem.frozen, sweep=sweep))
        return problem.objective(x, highest, sweep=sweep)

    best = states.best
    objective = lax.map(measured, states.now.x) if best is None else best.objective
    chosen = jnp.argmin(objective)
    return jax.tree.map(lambda leaf: leaf[chosen], states)


def _search_gallery(
    method: Method, problem: PackingProblem, state: PackingState, sweep: Sweep
) -> PackingState:
    """Find the nearest gallery rows, if there is a gallery and a search is due."""
    gallery = problem.gallery
    if gallery is None:
        return state

    def search() -> Any:
        return nearest_rows(state.x, gallery, problem.manifold.num_neighbors, sweep=sweep)

    is_due = state.step % method.gallery_every == 0
    return state._replace(gallery_index=lax.cond(is_due, search, lambda: state.gallery_index))


def _kept(best: Best | None, seen: Seen, step: Any) -> Best | None:
    if best is None:
        return None
    better = seen.objective < best.objective
    return Best(
        jnp.where(better, seen.x, best.x),
        jnp.where(better, seen.row, best.row),
        jnp.where(better, seen.objective, best.objective),
        jnp.where(better, seen.max_cosine, best.max_cosine),
        jnp.where(better, step, best.step),
    )


def _held(state: LoopState, sweep: Sweep) -> LoopState:
    """Constrain the rows of a traced state to stay on their devices."""
    if sweep.mesh is None:
        return state
    shardings = meshes.tree_shardings(state, state.now.x.shape[0], sweep.mesh)
    return lax.with_sharding_constraint(state, shardings)


# Functions for the host


@dataclass(frozen=True)
class Loop:
    """A method compiled for its devices; ``solve`` and the command line drive it.

    Attributes:
        method: the resolved method.
        sweep: how pairs are visited; its mesh says over which devices rows are sharded.
        num_restarts: number of independent packings, as a leading axis of the state; None means one
            packing without that axis.
        chunk: largest number of steps in one compiled scan.
    """

    method: Method
    sweep: Sweep = DEFAULT_SWEEP
    num_restarts: int | None = None
    chunk: int = _MAX_CHUNK

    @classmethod
    def of(
        cls,
        method: Method,
        problem: PackingProblem,
        sweep: Sweep = DEFAULT_SWEEP,
        num_restarts: int | None = None,
    ) -> Loop:
        """Resolve a method for a problem and its devices, and choose the length of its chunks."""
        size = problem.num_points, problem.dim
        method = resolved(method, *size, sweep, has_restarts=num_restarts is not None)
        chunk = min(chunk_steps(method.flops(*size), platform_of(sweep.mesh)), _MAX_CHUNK)
        return cls(method, sweep, num_restarts, chunk)

    def place(self, problem: PackingProblem) -> PackingProblem:
        """Put the sets of a problem on the devices."""
        return problem.on(self.sweep.mesh, self.method.num_parts(self.sweep.num_devices))

    def num_rows(self, num_points: int) -> int:
        """Return the number of rows of the state's arrays: the points, padded to equal parts."""
        return padded_rows(self.method, num_points, self.sweep)

    def initial_points(self, problem: PackingProblem, key: PRNGKey, start: Any) -> Points:
        """Create the points of a start, ``[rows, d]``.

        Args:
            problem: the problem, not yet placed on the devices.
            key: key of the run.
            start: the start, from :func:`.starts.checked`.
        """
        return self._points(problem, jax.random.split(key)[0], start, self.sweep.mesh)

    def _points(
        self, problem: PackingProblem, key: PRNGKey, start: Any, mesh: Mesh | None
    ) -> Points:
        size = self.num_rows(problem.num_points)
        jitter = self.method.jitter
        return starts.points(start, problem, key, jitter=jitter, size=size, mesh=mesh)

    def init(
        self, problem: PackingProblem, placed: PackingProblem, key: PRNGKey, start: Any
    ) -> LoopState:
        """Create the state before the first step, sharded from the beginning.

        Restart ``r`` uses ``fold_in(key, r)``, so it does not depend on the number of restarts.
        """
        if self.num_restarts is not None:
            rows, name = starts.split(start)
            return _begin_each(self, name, problem, placed, rows, key)
        if self.sweep.mesh is None:
            rows, name = starts.split(start)
            return _begin(self, name, problem, placed, rows, key)
        x = self.initial_points(problem, key, start)
        return _first_sharded(self.method, placed, x, jax.random.split(key)[1], self.sweep)

    def shapes(self, placed: PackingProblem) -> LoopState:
        """Return the shapes and shardings of the state, to compile for them without running anything."""
        rows = self.num_rows(placed.num_points)
        x = jax.ShapeDtypeStruct((rows, placed.dim), jnp.float32)
        key = jax.eval_shape(lambda: jax.random.key(0))
        first = partial(first_state, self.method, sweep=self.sweep)
        shapes = jax.eval_shape(first, placed, x, key)
        if self.num_restarts is not None:
            count = self.num_restarts
            return jax.tree.map(lambda a: jax.ShapeDtypeStruct((count, *a.shape), a.dtype), shapes)
        if self.sweep.mesh is None:
            return shapes
        shardings = meshes.tree_shardings(shapes, rows, self.sweep.mesh)
        return jax.tree.map(
            lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), shapes, shardings
        )

    def chunk_at(self, step: int) -> int:
        """Return the number of steps of the chunk that starts at ``step``."""
        coarse, end = self.method.num_coarse, self.method.steps
        length = min(self.chunk, (coarse if step < coarse else end) - step)
        every = self.method.prepare_every
        return length if every is None else min(length, every - step % every)

    def advance(
        self, placed: PackingProblem, state: LoopState, num_steps: int
    ) -> tuple[LoopState, StepRecord]:
        """Run a chunk with coarse products early in the run and fine ones later; donate ``state``.

        Preparation and steps are compiled separately, so that neither needs the memory of the other.
        With restarts, each step's record is that of the restart with the lowest max cosine.
        """
        coarse, every = self.method.num_coarse, self.method.prepare_every
        step = int(jnp.max(state.now.step)) if coarse or every else 0
        if every and step % every == 0:
            prepare = prepared if self.num_restarts is None else _prepared_each
            state = prepare(self.method, state, self.sweep)
        sweep = (coarse_sweep if step < coarse else fine_sweep)(self.method, self.sweep)
        if self.num_restarts is not None:
            return _advance_each(self.method, placed, state, num_steps, sweep)
        return _advance(self.method, placed, state, num_steps, sweep)

    def lower(self, placed: PackingProblem, num_steps: int) -> Any:
        """Lower a chunk of fine steps from shapes, so that ``.compile()`` can tell its memory."""
        return self.trace(placed, num_steps).lower()

    def trace(self, placed: PackingProblem, num_steps: int) -> Any:
        """Trace a chunk of fine steps from shapes, to lower it for devices that need not be here."""
        sweep = fine_sweep(self.method, self.sweep)
        return _advance.trace(self.method, placed, self.shapes(placed), num_steps, sweep)

    def best(self, placed: PackingProblem, state: LoopState) -> LoopState:
        """Return the state of the best restart, or the state itself if there are no restarts."""
        return state if self.num_restarts is None else _best_of(placed, state, self.sweep)

    def repaired(self, placed: PackingProblem, state: LoopState) -> tuple[Points, Any]:
        """Return the best points, moved outside the keep-out limit, and the identity of each row."""
        if placed.keep_out is None:
            return final_rows(state)
        return _repaired(placed, state, self.sweep)

    def finish(
        self, placed: PackingProblem, state: LoopState, progress: Update | None = None
    ) -> Final:
        """Repair, finish and measure the best points.

        Args:
            placed: the problem on its devices.
            state: state of a single packing; with restarts, choose one by :meth:`best` first.
            progress: called with how much of the sweep over all pairs is done.
        """
        if num_parts(final_rows(state)[0]) == 1:
            return _finish(self.method, placed, state, self.sweep)
        x, row = self.repaired(placed, state)
        nearest = sweep_in_parts(x, reduction=highest(), sweep=self.sweep, progress=progress)
        if placed.frozen is not None:
            nearest = _with_frozen(x, nearest, placed.frozen, self.sweep)
        return _conclude(self.method, placed, x, row, nearest, self.sweep)


def padded_rows(method: Method, num_points: int, sweep: Sweep) -> int:
    """Return the number of rows of a state's arrays: the points, padded to equal parts."""
    parts = method.num_parts(sweep.num_devices)
    return num_points if parts == 1 else meshes.padded_size(num_points, parts)


def chunk_steps(flops: float, platform: str = "cpu") -> int:
    """Return how many steps of ``flops`` each take a second or two on a device of a platform."""
    most = _CPU_CHUNK_FLOPS if platform == "cpu" else _ACCELERATOR_CHUNK_FLOPS
    return int(max(most // max(flops, 1), 1))


def _begun(
    loop: Loop, start: Any, problem: PackingProblem, placed: PackingProblem, rows: Any, key: Any
) -> LoopState:
    init_key, run_key = jax.random.split(key)
    x = loop._points(problem, init_key, start if rows is None else rows, None)
    return first_state(loop.method, placed, x, run_key, loop.sweep)


_begin = partial(jax.jit, static_argnums=(0, 1))(_begun)


@partial(jax.jit, static_argnums=(0, 1))
def _begin_each(
    loop: Loop, start: Any, problem: PackingProblem, placed: PackingProblem, rows: Any, key: Any
) -> LoopState:
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(loop.num_restarts))
    return jax.vmap(lambda key: _begun(loop, start, problem, placed, rows, key))(keys)


@partial(jax.jit, static_argnums=(0, 4))
def _first_sharded(
    method: Method, problem: PackingProblem, x: Points, key: PRNGKey, sweep: Sweep
) -> LoopState:
    return _held(first_state(method, problem, x, key, sweep), sweep)


_best_of = partial(jax.jit, static_argnums=2)(best_of)


@partial(jax.jit, static_argnums=(0, 3))
def _finish(method: Method, problem: PackingProblem, state: LoopState, sweep: Sweep) -> Final:
    x, row = repaired(problem, state, sweep)
    return conclude(method, problem, x, row, sweep=sweep)


_advance = partial(jax.jit, static_argnums=(0, 3, 4), donate_argnums=2)(advance)
_repaired = partial(jax.jit, static_argnums=2)(repaired)
_conclude = partial(jax.jit, static_argnums=(0, 5))(conclude)


@partial(jax.jit, static_argnums=3)
def _with_frozen(x: Points, nearest: PerRow, frozen: Frozen, sweep: Sweep) -> PerRow:
    return jnp.maximum(nearest, sweep(x, frozen, reduction=highest()))


@partial(jax.jit, static_argnums=(0, 2), donate_argnums=1)
def _prepared_each(method: Method, states: LoopState, sweep: Sweep) -> LoopState:
    return jax.vmap(lambda state: prepared(method, state, sweep))(states)


@partial(jax.jit, static_argnums=(0, 3, 4), donate_argnums=2)
def _advance_each(
    method: Method, problem: PackingProblem, states: LoopState, num_steps: int, sweep: Sweep
) -> tuple[LoopState, StepRecord]:
    """Run restarts in groups, one after another; the scores of a group fit in 256 MiB."""

    def run(state: LoopState) -> tuple[LoopState, StepRecord]:
        return advance(method, problem, state, num_steps, sweep)

    group = max(1, _GROUP_BYTES // (4 * problem.num_points**2))
    count = states.now.step.shape[0]
    states, records = lax.map(run, states, batch_size=min(group, count))
    lowest = jnp.argmin(records.max_cosine, axis=0)
    return states, jax.tree.map(
        lambda leaf: jnp.take_along_axis(leaf, lowest[None], axis=0)[0], records
    )
