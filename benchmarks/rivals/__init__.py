"""Other people's solvers for the packing problem, each tuned, behind one interface.

A rival gets the same start and the same wall time or FLOPs as our own solver, keeps its best iterate
by the exact objective, and says where its code comes from. ``python -m benchmarks.rivals`` compares
them, ``python -m benchmarks.rivals.grid`` tunes them. Importing this package is cheap;
:func:`load_rivals` imports torch, geoopt and pymanopt.
"""

from __future__ import annotations

import jax

from benchmarks.rivals.core import Budget, Gallery, Rival, Settings, Trace

__all__ = ["Budget", "Gallery", "Rival", "Settings", "Trace", "load_rivals", "set_num_threads"]


def load_rivals() -> dict[str, Rival]:
    """Import every rival module and merge their ``RIVALS``.

    Raises:
        ImportError: The ``bench`` extra (torch, geoopt, pymanopt) is not installed.
    """
    x64 = jax.config.read("jax_enable_x64")
    from benchmarks.rivals import ledoh_rivals, pymanopt_rivals, torch_rivals

    # Importing pymanopt switches on float64 in JAX for the whole process.
    jax.config.update("jax_enable_x64", x64)
    return torch_rivals.RIVALS | ledoh_rivals.RIVALS | pymanopt_rivals.RIVALS


def set_num_threads(threads: int) -> None:
    """Set how many threads the matrix products of the rivals use."""
    import torch

    torch.set_num_threads(threads)
