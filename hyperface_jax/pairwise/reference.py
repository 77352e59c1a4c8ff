"""The dense sweep: the whole score matrix at once. It is the oracle in tests, and fast for small n."""

from __future__ import annotations

from typing import Any

from hyperface_jax.pairwise.precision import Precision, scores
from hyperface_jax.pairwise.reductions import Reduction, empty, masked
from hyperface_jax.pairwise.rows import NumberedRows, as_rows
from hyperface_jax.typing import Gallery


def among(
    rows: NumberedRows,
    y: Gallery | NumberedRows,
    reduction: Reduction,
    precision: Precision = "float32",
) -> Any:
    """Reduce over all pairs of a row of ``rows`` and a row of ``y`` with a different id.

    Memory: O(n m).
    """
    columns = as_rows(y)
    values = masked(scores(rows.x, columns.x, precision), rows.ids, columns.ids)
    carry = reduction.update(
        empty(reduction, rows.x), reduction.tile(values), columns.x, columns.ids
    )
    return reduction.finalize(carry)
