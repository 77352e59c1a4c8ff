"""A packing job on its devices: the state that the loop and the results share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from hyperface_jax.packing import Loop, LoopState, PackingProblem

if TYPE_CHECKING:
    from hyperface_jax.io.run_directory import RunDirectory
    from hyperface_jax.runs.packing.settings import Pack


class Job(NamedTuple):
    """A problem (as given, and placed on its devices), its loop, its start and its run directory."""

    config: Pack
    problem: PackingProblem
    placed: PackingProblem
    loop: Loop
    start: Any
    run: RunDirectory

    @property
    def key(self) -> Any:
        """The PRNG key from which all randomness derives."""
        return jax.random.key(self.config.seed)

    def initial(self) -> LoopState:
        """Create the state before the first step."""
        return self.loop.init(self.problem, self.placed, self.key, self.start)

    def initial_points(self) -> Any:
        """Create only the starting points; those of the first restart, if there are several."""
        if self.loop.num_restarts is None:
            return self.loop.initial_points(self.problem, self.key, self.start)
        return self.initial().now.x[0]
