"""The paper's Algorithm 1, as published, so that everyone can compare.

One step finds the closest pair of all identities, takes the gradient of
``-d(closest pair) + alpha mean_k min_g d(x_k, g)`` with the cosine distance d, updates all points by
plain Adam (a second moment a coordinate, no projection) and renormalises.

References:
    Otroshi Shahreza and Marcel, *HyperFace: Generating Synthetic Face Recognition Datasets by
    Exploring Face Embedding Hypersphere*, ICLR 2025, Algorithm 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import optax

from hyperface_jax.packing.energies import DEFAULT_SWEEP, ClosestPair
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.packing.solver import (
    PackingSolver,
    default_initializer,
    default_inner_iterations,
)
from hyperface_jax.packing.transforms import retract_updates

if TYPE_CHECKING:
    from hyperface_jax.packing.initializers import Initializer
    from hyperface_jax.pairwise import Sweep

DEFAULT_ITERATIONS = 100_000
_DECAY_STEPS = 5_000
_DECAY = 0.75


def paper(
    problem: PackingProblem,
    *,
    num_iterations: int = DEFAULT_ITERATIONS,
    learning_rate: float = 0.01,
    initializer: Initializer | None = None,
    sweep: Sweep = DEFAULT_SWEEP,
) -> tuple[PackingProblem, PackingSolver]:
    """Return the problem with the closest-pair energy, and Algorithm 1 as its solver.

    Args:
        problem: what to pack; its energy is replaced.
        num_iterations: steps, one sweep each.
        learning_rate: Adam's, multiplied by 0.75 every 5,000 steps. The paper names 0.1 and 0.01.
        initializer: start; None means random gallery rows where there is a gallery.
        sweep: how pairs are visited. With a mesh, every device holds all points.
    """
    schedule = optax.exponential_decay(learning_rate, _DECAY_STEPS, _DECAY, staircase=True)
    solver = PackingSolver(
        optax.chain(optax.adam(schedule), retract_updates()),
        num_iterations,
        default_inner_iterations(problem.num_points, problem.dim),
        initializer or default_initializer(problem),
        sweep,
        gallery_every=1,
    )
    problem = problem.on(sweep.mesh, sweep.num_devices)
    return replace(problem, energy=ClosestPair(), alpha_schedule=None), solver
