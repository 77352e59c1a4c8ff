"""Points spread over an embedding hypersphere, in JAX.

The public core: geometry (:mod:`.sphere`), lower bounds (:mod:`.bounds`), spherical codes
(:mod:`.codes`), all-pairs sweeps (:mod:`.pairwise`) and packing (:mod:`.packing`). Importing it loads
jax and optax only (and jaxtyping, where it is installed).
"""

from hyperface_jax import bounds, codes, meshes, packing, pairwise, processes, sphere
from hyperface_jax.packing import (
    Annealed,
    Custom,
    LocalSpan,
    MiniBatch,
    Packing,
    PackingProblem,
    Paper,
    PrintProgress,
    SoftMax,
    add_dispersion,
    as_objective,
    max_cosine,
    on_sphere,
    pair_energy,
    polish,
    riemannian_adam,
    run,
    solve,
    solve_restarts,
)
from hyperface_jax.pairwise import sweep

__version__ = "0.1.0"

__all__ = [
    "Annealed",
    "Custom",
    "LocalSpan",
    "MiniBatch",
    "Packing",
    "PackingProblem",
    "Paper",
    "PrintProgress",
    "SoftMax",
    "__version__",
    "add_dispersion",
    "as_objective",
    "bounds",
    "codes",
    "max_cosine",
    "meshes",
    "on_sphere",
    "packing",
    "pair_energy",
    "pairwise",
    "polish",
    "processes",
    "riemannian_adam",
    "run",
    "solve",
    "solve_restarts",
    "sphere",
    "sweep",
]
