"""The loop compiled for callers on the host, who see a run advance.

It goes in chunks of steps with access to the state in between, sharded over devices, or side by side for
restarts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from hyperface_jax import meshes
from hyperface_jax.packing import starts
from hyperface_jax.packing.energies import DEFAULT_SWEEP
from hyperface_jax.packing.loop import (
    Final,
    LoopState,
    StepRecord,
    advance,
    best_of,
    conclude,
    final_rows,
    first_state,
    held,
    prepared,
    repaired,
)
from hyperface_jax.packing.methods import Method
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.packing.products import coarse_sweep, fine_sweep, resolved
from hyperface_jax.pairwise import Sweep
from hyperface_jax.pairwise import max_cosine as highest
from hyperface_jax.pairwise.parts import num_parts, sweep_in_parts
from hyperface_jax.pairwise.platforms import platform_of
from hyperface_jax.typing import Frozen, PerRow, Points, PRNGKey, Update

_CPU_CHUNK_FLOPS = 2e11
_ACCELERATOR_CHUNK_FLOPS = 2e14
_MAX_CHUNK = 100
_GROUP_BYTES = 2**28


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
        method = resolved(method, problem, sweep, has_restarts=num_restarts is not None)
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
    return held(first_state(method, problem, x, key, sweep), sweep)


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
