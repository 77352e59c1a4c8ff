"""One loop that runs any method and keeps the best iterate, as functions that can be traced.

:class:`.compiled.Loop` compiles them for callers on the host that want to see a run advance.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperface_jax import meshes
from hyperface_jax.packing.constraints import nearest_rows, repair_keep_out
from hyperface_jax.packing.energies import DEFAULT_SWEEP, row_max
from hyperface_jax.packing.methods import Method, PackingState, Seen, unmeasured
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.pairwise import Sweep
from hyperface_jax.pairwise import max_cosine as highest
from hyperface_jax.typing import PerRow, Points, PRNGKey, Scalar


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
        return held(state, sweep), record

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
        state = held(prepared(method, state, sweep), sweep)
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


def held(state: LoopState, sweep: Sweep) -> LoopState:
    """Constrain the rows of a traced state to stay on their devices."""
    if sweep.mesh is None:
        return state
    shardings = meshes.tree_shardings(state, state.now.x.shape[0], sweep.mesh)
    return lax.with_sharding_constraint(state, shardings)
