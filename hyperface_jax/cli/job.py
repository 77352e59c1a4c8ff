"""A packing job on its devices: what the loop and the results share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperface_jax.packing import PackingProblem, PackingSolver, PackingState, StepRecord
from hyperface_jax.packing.restarts import advance_restarts, init_restarts

if TYPE_CHECKING:
    from hyperface_jax.cli.pack import Pack
    from hyperface_jax.io.run_directory import RunDirectory


class Job(NamedTuple):
    """A problem, its solver, the run directory, and how many points are frozen."""

    config: Pack
    problem: PackingProblem
    solver: PackingSolver
    run: RunDirectory
    num_frozen: int

    @property
    def key(self) -> Any:
        """The key of everything random."""
        return jax.random.key(self.config.seed)

    def initial(self) -> PackingState:
        """Create the start."""
        if self.config.restarts == 1:
            return self.solver.init_state(self.problem, self.key)
        return init_restarts(self.solver, self.problem, self.key, self.config.restarts)

    def like_state(self) -> PackingState:
        """Return what a checkpoint is restored to: shapes, or the start where restarts keep it small."""
        if self.config.restarts == 1:
            return self.solver.state_shapes(self.problem)
        return self.initial()

    def initial_points(self) -> Any:
        """Create the points of the start alone; of the first restart, if there are several."""
        if self.config.restarts == 1:
            return self.solver.initial_points(self.problem, jax.random.split(self.key)[0])
        return self.initial().x[0]

    def advance(self, state: PackingState, num_steps: int) -> tuple[PackingState, StepRecord]:
        """Run some steps; the records are those of the best restart at each step."""
        if self.config.restarts == 1:
            solver = self.solver.at(int(state.step))
            return solver.advance(self.problem, state, num_steps)
        state, records = advance_restarts(self.solver, self.problem, state, num_steps)
        return state, jax.tree.map(lambda leaf: jnp.min(leaf, axis=0), records)
