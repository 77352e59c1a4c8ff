"""Selection among measured conditions: those whose faces are far apart, without falling for luck.

The faces that one condition happened to give are a sample. Whoever chooses the best of many samples
chooses lucky ones, whose next faces are worse. Each mean is therefore shrunk towards a prediction, as
far as its noise explains the difference.

References:
    Efron and Morris, Data analysis using Stein's estimator and its generalizations, JASA 1975.
    Gonzalez, Clustering to minimize the maximum intercluster distance, 1985 (farthest first).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hyperface_jax import sphere
from hyperface_jax.errors import InputError
from hyperface_jax.response.probes import padded_rows

if TYPE_CHECKING:
    from hyperface_jax.response.learned import ResponseModel
    from hyperface_jax.response.probes import Probes

_LEAST_LENGTH = 1e-6
_NEVER = 1e6


class Selection(NamedTuple):
    """Chosen conditions.

    Attributes:
        rows: numbers of the chosen probes, ``[n]``.
        means: expected mean embedding of further faces of each, ``[n, d]``; see :func:`shrunk_means`.
        nearest: cosine of each to its nearest other by these means, ``[n]``.
    """

    rows: np.ndarray
    means: np.ndarray
    nearest: np.ndarray


def shrunk_means(probes: Probes, model: ResponseModel | None = None) -> np.ndarray:
    """Return the expected embeddings of further faces of each condition, ``[m, d]``.

    A mean of k faces is moved towards its prediction p: ``p + s (mean - p)`` with
    ``s = t / (t + noise / k)``, where t is the variance of true means around predictions. It is
    estimated from how far the measured means are from them.

    Args:
        probes: what was measured.
        model: predicts the means; None predicts that a face resembles its condition as much as the
            average face does.
    """
    if model is None:
        resemblance = np.mean(np.sum(probes.means * probes.conditions, axis=1))
        predicted = resemblance * probes.conditions
    else:
        predicted = np.asarray(model(jnp.asarray(probes.conditions)).mean)
    rest = probes.means - predicted
    errors = probes.noise / probes.counts
    spread = max(float(np.mean(np.sum(rest**2, axis=1) - errors)), 0.0)
    share = spread / np.maximum(spread + errors, 1e-12)
    return (predicted + share[:, None] * rest).astype(np.float32)


def select(
    probes: Probes,
    num: int,
    *,
    model: ResponseModel | None = None,
    agreement: float = 0.5,
    fidelity: float = 0.5,
    passes: int = 2,
) -> Selection:
    """Choose conditions whose faces are far apart, agree within an identity and meet their target.

    Farthest first, then swaps: each chosen condition in turn is replaced by the best candidate.

    Args:
        probes: the candidates.
        num: number n of conditions to choose.
        model: see :func:`shrunk_means`.
        agreement: weight of ``1 - |mean|`` of a candidate, against a cosine to its nearest other.
        fidelity: weight of ``1 - <condition, direction of the mean>``.
        passes: number of rounds of swaps over all chosen conditions.

    Returns:
        The selection.

    Raises:
        InputError: there are fewer candidates than conditions to choose, or only one to choose.

    Cost: ``2 m n d`` FLOPs and ``m n`` floats of memory.
    """
    if not 2 <= num <= len(probes.counts):
        raise InputError(
            f"num={num}: must be between 2 and {len(probes.counts)}, the number of candidates"
        )
    shrunk = shrunk_means(probes, model)
    rows = padded_rows(len(shrunk))
    # A repeated row is never chosen.
    is_extra = jnp.arange(len(rows)) >= len(shrunk)
    means, conditions = jnp.asarray(shrunk[rows]), jnp.asarray(probes.conditions[rows])
    length = jnp.linalg.norm(means, axis=1)
    unit = means / jnp.maximum(length, _LEAST_LENGTH)[:, None]
    missed = 1 - sphere.inner(unit, conditions)[:, 0]
    cost = agreement * (1 - length) + fidelity * missed
    chosen, nearest = _select(unit, jnp.where(is_extra, _NEVER, cost), num, passes)
    found = np.asarray(chosen)
    return Selection(found, shrunk[found], np.asarray(nearest))


@partial(jax.jit, static_argnums=(2, 3))
def _select(unit: jax.Array, cost: jax.Array, num: int, passes: int) -> tuple[jax.Array, jax.Array]:
    """Choose rows of ``unit``, ``[m, d]``, which have a ``cost`` each, ``[m]``."""

    def to(row: jax.Array) -> jax.Array:
        return jnp.matmul(unit, unit[row], precision="highest")

    def add(i: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
        rows, cosines, nearest = carry
        best = jnp.argmin(nearest + cost)
        column = to(best)
        nearest = jnp.maximum(nearest, column).at[best].set(jnp.inf)
        return rows.at[i].set(best), cosines.at[:, i].set(column), nearest

    def swap(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rows, cosines = carry
        others = jnp.where(jnp.arange(num) == i, -jnp.inf, cosines)
        taken = jnp.zeros(len(unit), bool).at[rows].set(True).at[rows[i]].set(False)
        best = jnp.argmin(jnp.where(taken, jnp.inf, jnp.max(others, axis=1) + cost))
        return rows.at[i].set(best), cosines.at[:, i].set(to(best))

    start = jnp.zeros(num, jnp.int32), jnp.zeros((len(unit), num)), jnp.full(len(unit), -1.0)
    rows, cosines, _ = lax.fori_loop(0, num, add, start)
    rows, cosines = lax.fori_loop(
        0, passes * num, lambda i, carry: swap(i % num, carry), (rows, cosines)
    )
    own = jnp.where(jnp.eye(num, dtype=bool), -jnp.inf, cosines[rows])
    return rows, jnp.max(own, axis=1)
