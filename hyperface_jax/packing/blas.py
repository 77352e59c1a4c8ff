"""How many cores the matrix products and factorizations of NumPy and SciPy use."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any


def one_blas_thread() -> AbstractContextManager[Any]:
    """Keep matrix products and factorizations on one core, in a ``with`` block.

    Many small ones gain little from more, and where all cores are busy, threads of BLAS that wait for
    each other make them several times slower.
    """
    return _controller().limit(limits=1, user_api="blas")


@cache
def _controller() -> Any:
    import scipy.linalg  # noqa: F401  It brings a BLAS of its own, which must be loaded to be found.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
