"""Spread points over an embedding hypersphere, in JAX.

This module exports the public core: geometry (:mod:`.sphere`), lower bounds (:mod:`.bounds`),
spherical codes (:mod:`.codes`), all-pairs sweeps (:mod:`.pairwise`) and packing (:mod:`.packing`).
Importing it loads only jax and optax, and jaxtyping if it is installed. The rest (data files,
synthesis, recognition, evaluation, reports and the stages of the method in :mod:`.runs`) is imported
by name, and nothing in the core may import it, except for the file helpers of :mod:`.io`.
"""

from hyperface_jax import bounds, codes, meshes, packing, pairwise, processes, sphere
from hyperface_jax.packing import (
    Annealed,
    Custom,
    GallerySubspace,
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
    "GallerySubspace",
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
