"""Other people's solvers for the packing problem, each tuned, behind one interface.

A rival gets the same random start and the same wall time as our own solver, keeps its best iterate
by the exact max cosine, and says where its code comes from. Importing this package is cheap;
:func:`load_rivals` imports torch, geoopt and pymanopt.
"""

from __future__ import annotations

from benchmarks.rivals.core import Rival, Settings, Trace

__all__ = ["Rival", "Settings", "Trace", "load_rivals", "set_num_threads"]


def load_rivals() -> dict[str, Rival]:
    """Import every rival module and merge their ``RIVALS``.

    Raises:
        ImportError: The ``bench`` extra (torch, geoopt, pymanopt) is not installed.
    """
    from benchmarks.rivals import ledoh_rivals, pymanopt_rivals, torch_rivals

    return torch_rivals.RIVALS | ledoh_rivals.RIVALS | pymanopt_rivals.RIVALS


def set_num_threads(threads: int) -> None:
    """Set how many threads the matrix products of the rivals use."""
    import torch

    torch.set_num_threads(threads)
