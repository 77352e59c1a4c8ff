"""All-pairs sweeps: what is reduced (:mod:`.reductions`) and how pairs are visited, kept apart."""

from hyperface_jax.pairwise.api import Implementation, sweep
from hyperface_jax.pairwise.reductions import (
    Nearest,
    PairSum,
    Reduction,
    count_above,
    max_cosine,
    nearest,
    pair_sum,
)

__all__ = [
    "Implementation",
    "Nearest",
    "PairSum",
    "Reduction",
    "count_above",
    "max_cosine",
    "nearest",
    "pair_sum",
    "sweep",
]
