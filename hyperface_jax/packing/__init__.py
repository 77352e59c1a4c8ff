"""Packing identities on the hypersphere: energies, constraints, optimisers and solvers."""

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
    as_objective,
    row_max,
)
from hyperface_jax.packing.initializers import (
    Initializer,
    farthest_first,
    from_code,
    from_gallery,
    from_points,
    uniform,
)
from hyperface_jax.packing.manifolds import LocalSpan, Manifold, NearestRow
from hyperface_jax.packing.paper import paper
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.packing.restarts import solve_restarts
from hyperface_jax.packing.schedules import (
    AnnealedStep,
    Annealing,
    Ramp,
    default_annealing,
    refining_annealing,
)
from hyperface_jax.packing.solver import (
    PackingOutput,
    PackingSolver,
    PackingState,
    StepRecord,
    annealed,
    solve,
)
from hyperface_jax.packing.stochastic import StochasticSolver, stochastic
from hyperface_jax.packing.transforms import (
    add_dispersion,
    on_sphere,
    project_updates,
    retract_updates,
    riemannian_adam,
    scale_by_riemannian_adam,
)

__all__ = [
    "AnnealedStep",
    "Annealing",
    "ClosestPair",
    "Energy",
    "Evaluation",
    "Hinge",
    "Initializer",
    "LocalSpan",
    "Manifold",
    "MeanRowMax",
    "NearestRow",
    "PackingOutput",
    "PackingProblem",
    "PackingSolver",
    "PackingState",
    "PairEnergy",
    "Ramp",
    "Riesz",
    "RowMaxEnergy",
    "SoftMax",
    "StepRecord",
    "StochasticSolver",
    "add_dispersion",
    "annealed",
    "as_objective",
    "default_annealing",
    "farthest_first",
    "from_code",
    "from_gallery",
    "from_points",
    "on_sphere",
    "paper",
    "project_updates",
    "refining_annealing",
    "retract_updates",
    "riemannian_adam",
    "row_max",
    "scale_by_riemannian_adam",
    "solve",
    "solve_restarts",
    "stochastic",
    "uniform",
]
