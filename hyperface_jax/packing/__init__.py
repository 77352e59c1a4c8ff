"""Packing identities on the hypersphere: problems, methods, energies, optimizers and the loop.

This folder imports ``typing``, ``errors``, ``sphere``, ``bounds``, ``meshes``, ``io``, ``pairwise`` and
``codes``. The layers above, such as ``planning`` and ``runs``, may import it.
"""

from hyperface_jax.packing.api import Progress, run, solve, solve_restarts
from hyperface_jax.packing.compiled import Loop
from hyperface_jax.packing.energies import (
    ClosestPair,
    Energy,
    Evaluation,
    Hinge,
    MeanRowMax,
    PairEnergy,
    Riesz,
    RowMaxEnergy,
    SoftMax,
    pair_energy,
    row_max,
)
from hyperface_jax.packing.interior_point import PolishResult, polish
from hyperface_jax.packing.islands import search
from hyperface_jax.packing.loop import LoopState, StepRecord
from hyperface_jax.packing.manifolds import LocalSpan, Manifold, NearestRow
from hyperface_jax.packing.methods import Annealed, Custom, Method, PackingState, Paper
from hyperface_jax.packing.minibatch import MiniBatch
from hyperface_jax.packing.objectives import as_objective, max_cosine
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.packing.progress import PrintProgress
from hyperface_jax.packing.result import Packing
from hyperface_jax.packing.schedules import (
    AnnealedStep,
    Annealing,
    Ramp,
    default_annealing,
    refining_annealing,
)
from hyperface_jax.packing.searching import Found
from hyperface_jax.packing.starts import Start
from hyperface_jax.packing.subspaces import GallerySubspace
from hyperface_jax.packing.transforms import (
    add_dispersion,
    on_sphere,
    project_updates,
    retract_updates,
    riemannian_adam,
    scale_by_riemannian_adam,
)

__all__ = [
    "Annealed",
    "AnnealedStep",
    "Annealing",
    "ClosestPair",
    "Custom",
    "Energy",
    "Evaluation",
    "Found",
    "GallerySubspace",
    "Hinge",
    "LocalSpan",
    "Loop",
    "LoopState",
    "Manifold",
    "MeanRowMax",
    "Method",
    "MiniBatch",
    "NearestRow",
    "Packing",
    "PackingProblem",
    "PackingState",
    "PairEnergy",
    "Paper",
    "PolishResult",
    "PrintProgress",
    "Progress",
    "Ramp",
    "Riesz",
    "RowMaxEnergy",
    "SoftMax",
    "Start",
    "StepRecord",
    "add_dispersion",
    "as_objective",
    "default_annealing",
    "max_cosine",
    "on_sphere",
    "pair_energy",
    "polish",
    "project_updates",
    "refining_annealing",
    "retract_updates",
    "riemannian_adam",
    "row_max",
    "run",
    "scale_by_riemannian_adam",
    "search",
    "solve",
    "solve_restarts",
]
