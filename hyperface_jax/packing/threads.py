"""How many cores NumPy and SciPy use."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any


def one_blas_thread() -> AbstractContextManager[Any]:
    """Keep matrix products and factorizations on one core, in a ``with`` block.

    Those of a polish are small. Where all cores are busy, threads of BLAS that wait for each other make
    it several times slower.
    """
    return _libraries().limit(limits=1, user_api="blas")


@cache
def _libraries() -> Any:
    import scipy.linalg  # noqa: F401  It brings a BLAS of its own, which must be loaded to be found.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
