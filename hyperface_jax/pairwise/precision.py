"""Precision of the matrix products of a sweep: full, or coarser and faster on accelerators.

The largest and the root mean square error of a cosine are 2e-7 and 2e-8 for ``"float32"``, 2e-6 and
4e-7 for ``"bf16_x3"``, and about 1e-3 and 1e-4 for ``"tf32"`` and ``"bf16"``. Sums are always in
float32.

``"bf16_x3"`` splits each operand into two bfloat16 parts and sums three of the four products of parts,
which takes three passes of the matrix units instead of six (TPUs) or about fifteen (GPUs). A CPU
emulates it, at three times the cost of float32, and computes ``"tf32"`` in float32.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from jax import lax

from hyperface_jax.typing import Array, Float

Precision = Literal["float32", "bf16_x3", "tf32", "bf16"]

FINE: tuple[Precision, ...] = ("float32", "bf16_x3")
"""Precisions whose max cosines are good enough to choose the best iterate of a run."""

_FLAGS = {
    "float32": lax.Precision.HIGHEST,
    "tf32": lax.Precision.DEFAULT,
    "bf16": lax.Precision.DEFAULT,
}


def scores(
    x: Float[Array, "b d"], y: Float[Array, "c d"], precision: Precision = "float32"
) -> Float[Array, "b c"]:
    """Compute the inner products of the rows of two blocks."""
    return _product(x, y, (((1,), (1,)), ((), ())), precision)


def weighted_sum(
    weight: Float[Array, "b c"], y: Float[Array, "c d"], precision: Precision = "float32"
) -> Float[Array, "b d"]:
    """Sum the rows of ``y``, weighted by each row of ``weight``."""
    return _product(weight, y, (((1,), (0,)), ((), ())), precision)


def weighted_sum_of_columns(
    weight: Float[Array, "b c"], x: Float[Array, "b d"], precision: Precision = "float32"
) -> Float[Array, "c d"]:
    """Sum the rows of ``x``, weighted by each column of ``weight``.

    The transpose of the result is what XLA computes fast on a CPU.
    """
    return _product(x, weight, (((0,), (0,)), ((), ())), precision).T


def _product(a: Any, b: Any, dimensions: Any, precision: Precision) -> Any:
    result = a.dtype
    if precision == "bf16_x3":
        return _three_passes(a, b, dimensions).astype(result)
    if precision == "bf16":
        a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return lax.dot_general(
        a, b, dimensions, precision=_FLAGS[precision], preferred_element_type=result
    )


def _three_passes(a: Any, b: Any, dimensions: Any) -> Any:
    """Choose the way of the platform that the program is lowered for, which need not be this one."""
    product = partial(
        lax.dot_general, dimension_numbers=dimensions, preferred_element_type=jnp.float32
    )
    return lax.platform_dependent(
        a.astype(jnp.float32),
        b.astype(jnp.float32),
        cuda=partial(product, precision=lax.DotAlgorithmPreset.BF16_BF16_F32_X3),
        tpu=partial(product, precision=lax.Precision.HIGH),
        default=partial(_emulated, product),
    )


def _emulated(product: Any, a: Any, b: Any) -> Any:
    """Sum the products of the parts, the small ones first; bfloat16 times bfloat16 is exact here."""
    exact = partial(product, precision=lax.Precision.HIGHEST)
    a_high, a_low = _parts(a)
    b_high, b_low = _parts(b)
    return (exact(a_low, b_high) + exact(a_high, b_low)) + exact(a_high, b_high)


def _parts(a: Any) -> tuple[Any, Any]:
    """Split into two bfloat16 parts that are stored as float32.

    XLA may drop a conversion to bfloat16 and back, but not ``reduce_precision``.
    """
    high = _rounded(a)
    return high, _rounded(a - high)


def _rounded(a: Any) -> Any:
    return lax.reduce_precision(a, exponent_bits=8, mantissa_bits=7)
