"""Packing through a generator: conditions move, and the predicted faces are what is spread.

Each condition stays within a trust region, a cap around a condition whose faces were measured, because
a learned response is exploited wherever it is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hyperface_jax import sphere
from hyperface_jax.errors import InputError
from hyperface_jax.packing import (
    SoftMax,
    as_objective,
    default_annealing,
    manifolds,
    riemannian_adam,
)
from hyperface_jax.packing.constraints import gallery_pull
from hyperface_jax.packing.energies import DEFAULT_SWEEP, row_max
from hyperface_jax.packing.inputs import unit_rows
from hyperface_jax.packing.manifolds import NEAREST_ROW, Manifold
from hyperface_jax.packing.schedules import AnnealedStep, default_momentum
from hyperface_jax.pairwise import Sweep
from hyperface_jax.response.learned import Response, ResponseModel
from hyperface_jax.typing import Gallery, PerRow, Points, RowsLike, Scalar

_LEAST_LENGTH = 1e-6


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights against the largest cosine of two predicted faces; each term is a mean over identities.

    Attributes:
        agreement: of ``1 - |mean|``: faces of an identity should agree.
        fidelity: of ``1 - <condition, direction of the mean>``: faces should meet their target.
        doubt: of the members' disagreement.
        alpha: of the cosine distance of the condition to the gallery.
    """

    agreement: float = 0.5
    fidelity: float = 0.5
    doubt: float = 0.5
    alpha: float = 0.5


class Through(NamedTuple):
    """A packing through a response.

    Attributes:
        conditions: unit rows, ``[n, d]``.
        faces: predicted directions of the faces, unit rows ``[n, d]``.
        nearest: predicted cosine of each to its nearest other face, ``[n]``.
        agreement: predicted length of the mean of an identity's faces, ``[n]``.
        moved: angle between each condition and its center, in radians, ``[n]``.
        history: value of the objective at each step.
    """

    conditions: Points
    faces: Points
    nearest: PerRow
    agreement: PerRow
    moved: PerRow
    history: Any


def pack_through(
    model: ResponseModel,
    centers: RowsLike,
    *,
    offset: RowsLike | None = None,
    gallery: RowsLike | None = None,
    manifold: Manifold = NEAREST_ROW,
    weights: Weights | None = None,
    radius: float = 0.15,
    num_steps: int = 200,
    sweep: Sweep = DEFAULT_SWEEP,
) -> Through:
    """Move conditions so that the faces drawn from them are as far apart as possible.

    Args:
        model: predicts the faces.
        centers: conditions to start from, ``[n, d]``; each stays within ``radius`` of its own. Rows of
            any float type, normalized if they do not have unit length.
        offset: difference of the measured and the predicted mean at each center, ``[n, d]``, which is
            added to all predictions for that identity; None adds nothing.
        gallery: rows that stand for the face manifold, ``[m, d]``, treated as the centers are.
        manifold: how the gallery represents the manifold.
        weights: weights of the terms.
        radius: angle of the trust region, in radians.
        num_steps: number of steps.
        sweep: how pairs are visited.

    Returns:
        The packing.

    Raises:
        InputError: a number is out of range, or rows cannot be used.

    Cost: a sweep of ``3 n^2 d`` FLOPs and a pass through the networks in both directions per step;
    O(n d) memory.
    """
    if not 0 < radius <= jnp.pi:
        raise InputError(f"radius={radius}: must be above 0 and at most pi, in radians")
    if num_steps < 1:
        raise InputError(f"num_steps={num_steps}: must be 1 or more")
    centers = jnp.asarray(unit_rows("centers", centers))
    if gallery is not None:
        gallery = jnp.asarray(unit_rows("gallery", gallery, centers.shape[1]))
    weights = weights or Weights()
    numbers = {name: jnp.float32(value) for name, value in vars(weights).items()}
    offset = jnp.zeros_like(centers) if offset is None else jnp.asarray(offset, centers.dtype)
    static, traced = manifolds.split(manifold)
    settings = num_steps, static, sweep
    near = gallery, traced
    return _pack_through(settings, model, centers, offset, near, numbers, jnp.float32(radius))


def within(x: Points, centers: Points, radius: Any) -> Points:
    """Move unit rows that are more than ``radius`` radians from their center to that distance."""
    cosine = sphere.inner(x, centers)
    tangent = sphere.normalize(x - cosine * centers)
    rim = jnp.cos(radius) * centers + jnp.sin(radius) * tangent
    return jnp.where(cosine < jnp.cos(radius), sphere.normalize(rim), x)


@partial(jax.jit, static_argnums=0)
def _pack_through(
    settings: Any,
    model: ResponseModel,
    centers: Points,
    offset: Points,
    near: tuple[Gallery | None, Any],
    weights: dict[str, Any],
    radius: Any,
) -> Through:
    num_steps, fixed, sweep = settings
    gallery, traced = near
    manifold = manifolds.joined(fixed, traced)
    annealing = default_annealing(centers.shape[1], num_steps)
    objective = as_objective(SoftMax(annealing), sweep=sweep)
    optimizer = riemannian_adam(AnnealedStep(annealing), default_momentum(num_steps))

    def value(x: Points, step: Any) -> Scalar:
        response, faces, length = _faces(model, offset, x)
        missed = 1 - sphere.inner(x, faces)
        return (
            objective(faces, step)
            + weights["agreement"] * jnp.mean(1 - length)
            + weights["fidelity"] * jnp.mean(missed)
            + weights["doubt"] * jnp.mean(response.doubt)
        )

    def move(carry: Any, step: Any) -> Any:
        x, state = carry
        found, force = jax.value_and_grad(value)(x, step)
        if gallery is not None:
            pull = gallery_pull(x, gallery, manifold=manifold, sweep=sweep)
            found, force = (
                found + weights["alpha"] * pull.value,
                force + weights["alpha"] * pull.force,
            )
        updates, state = optimizer.update(force, state, x)
        moved: Any = optax.apply_updates(x, updates)
        return (within(moved, centers, radius), state), found

    start = centers, optimizer.init(centers)
    (x, _), history = jax.lax.scan(move, start, jnp.arange(num_steps))
    _, faces, length = _faces(model, offset, x)
    moved = sphere.distance(x, centers)
    return Through(x, faces, row_max(faces, sweep=sweep), length, moved, history)


def _faces(model: ResponseModel, offset: Points, x: Points) -> tuple[Response, Points, PerRow]:
    """Return the response, the predicted directions of faces and the lengths of their means."""
    response = model(x)
    mean = response.mean + offset
    length = jnp.sqrt(jnp.sum(mean**2, axis=1) + _LEAST_LENGTH**2)
    return response, mean / length[:, None], length
