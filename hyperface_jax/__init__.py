"""Points spread over an embedding hypersphere, in JAX.

The public core: geometry (:mod:`.sphere`), lower bounds (:mod:`.bounds`), all-pairs sweeps
(:mod:`.pairwise`) and packing (:mod:`.packing`). Importing it loads jax and optax only.
"""

from hyperface_jax import bounds, packing, pairwise, sharding, sphere
from hyperface_jax.packing import (
    PackingOutput,
    PackingProblem,
    PackingSolver,
    SoftMax,
    add_dispersion,
    as_objective,
    on_sphere,
    riemannian_adam,
    solve,
    solve_restarts,
)
from hyperface_jax.pairwise import sweep

__version__ = "0.1.0"

__all__ = [
    "PackingOutput",
    "PackingProblem",
    "PackingSolver",
    "SoftMax",
    "__version__",
    "add_dispersion",
    "as_objective",
    "bounds",
    "on_sphere",
    "packing",
    "pairwise",
    "riemannian_adam",
    "sharding",
    "solve",
    "solve_restarts",
    "sphere",
    "sweep",
]
