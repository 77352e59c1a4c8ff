"""All-pairs sweeps, which separate what is reduced (:mod:`.reductions`) from how pairs are visited.

This folder imports ``typing``, ``sphere`` and ``meshes``. The layers above, such as ``codes``,
``packing``, ``synthesis``, ``evaluation`` and ``runs``, may import it.
"""

from hyperface_jax.pairwise.api import Implementation, Sweep, sweep
from hyperface_jax.pairwise.precision import Precision
from hyperface_jax.pairwise.reductions import (
    Nearest,
    Neighbors,
    PairSum,
    Reduction,
    count_above,
    k_nearest,
    max_cosine,
    nearest,
    pair_sum,
)
from hyperface_jax.pairwise.rows import NumberedRows, first_rows
from hyperface_jax.pairwise.streamed import RowSource, SweepState, SweepStore, sweep_streamed

__all__ = [
    "Implementation",
    "Nearest",
    "Neighbors",
    "NumberedRows",
    "PairSum",
    "Precision",
    "Reduction",
    "RowSource",
    "Sweep",
    "SweepState",
    "SweepStore",
    "count_above",
    "first_rows",
    "k_nearest",
    "max_cosine",
    "nearest",
    "pair_sum",
    "sweep",
    "sweep_streamed",
]
