"""*What* is packed: the energy, the size, and the sets of rows that shape it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperface_jax import sharding, sphere
from hyperface_jax.packing.constraints import gallery_pull, keep_out_push
from hyperface_jax.packing.energies import DEFAULT_SWEEP, Energy, Evaluation, Schedule
from hyperface_jax.packing.manifolds import NEAREST_ROW, Manifold

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from hyperface_jax.pairwise import Sweep
    from hyperface_jax.typing import Gallery, Points, Scalar

_VIOLATION_PENALTY = 10.0


class ProblemEvaluation(NamedTuple):
    """The regularised energy of a packing and the exact figures found on the way."""

    value: Scalar
    """Energy plus ``alpha`` times the gallery distance plus the keep-out penalty."""
    force: Points
    """Euclidean gradient of ``value``, ``[n, d]``."""
    max_cosine: Scalar
    """Exact max cosine over all pairs with a free point."""
    mean_nearest_cosine: Scalar
    """Mean over free points of the cosine to the nearest other point."""
    gallery_cosine: Scalar
    """Mean cosine to the manifold, of the gallery rows taken as nearest; NaN without a gallery."""
    keep_out_cosine: Scalar
    """Largest cosine of a point to a keep-out row; NaN without a keep-out set."""
    objective: Scalar
    """What the best iterate is chosen by: max cosine + alpha (1 - gallery cosine) + violations."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["gallery", "keep_out", "frozen"],
    meta_fields=[
        "num_points",
        "dim",
        "energy",
        "alpha",
        "alpha_schedule",
        "manifold",
        "keep_out_cosine",
    ],
)
@dataclass(frozen=True, kw_only=True)
class PackingProblem:
    """A packing to be found. A pytree: the arrays are leaves, the rest is static.

    Attributes:
        num_points: free points n, not counting frozen ones.
        dim: dimension d of the sphere's space.
        energy: what stands in for the max cosine; None lets the solver anneal a soft maximum.
        gallery: unit rows that stand for the face manifold, ``[m, d]``.
        alpha: weight of the mean cosine distance to the manifold.
        alpha_schedule: weight of its force at a step; None means ``alpha`` at every step. The exact
            objective, by which the best iterate is chosen, always has ``alpha``.
        manifold: what the gallery says of it: its rows, or what lies between and beyond them.
        keep_out: unit rows that no point may come near, ``[k, d]``.
        keep_out_cosine: largest allowed cosine to a keep-out row.
        frozen: unit rows that are part of the packing but do not move, ``[f, d]``.

    Raises:
        ValueError: on construction, naming the field that cannot be used.
    """

    num_points: int
    dim: int
    energy: Energy | None = None
    gallery: Gallery | None = None
    alpha: float = 0.5
    alpha_schedule: Schedule | None = None
    manifold: Manifold = NEAREST_ROW
    keep_out: Gallery | None = None
    keep_out_cosine: float | None = None
    frozen: Points | None = None

    def __post_init__(self):
        if self.num_points + _rows(self.frozen) < 2:
            raise ValueError(f"num_points={self.num_points}: a packing needs at least 2 points")
        if self.num_points < 1:
            raise ValueError(f"num_points={self.num_points}: at least 1 point must be free")
        if self.alpha < 0:
            raise ValueError(f"alpha={self.alpha}: the gallery weight must be >= 0")
        if 0 < _rows(self.gallery) < self.manifold.num_neighbours:
            raise ValueError(
                f"manifold={self.manifold}: the gallery has {_rows(self.gallery)} rows"
            )
        if (self.keep_out is None) != (self.keep_out_cosine is None):
            raise ValueError("keep_out and keep_out_cosine go together: give both or neither")
        if self.keep_out_cosine is not None and not -1 < self.keep_out_cosine < 1:
            raise ValueError(f"keep_out_cosine={self.keep_out_cosine}: must lie in (-1, 1)")
        for name in ("gallery", "keep_out", "frozen"):
            shape = getattr(getattr(self, name), "shape", (0, self.dim))
            if len(shape) != 2 or shape[1] != self.dim:
                raise ValueError(f"{name} has shape {shape} and dim is {self.dim}")

    def on(self, mesh: Mesh | None, num_parts: int = 1) -> PackingProblem:
        """Return the problem with the rows of its sets sharded over a mesh; the solvers call it.

        Each process reads the rows of its own devices only, so the sets may be memory maps. Sets that
        are sharded already stay as they are.

        Args:
            mesh: the devices; None leaves the sets on one.
            num_parts: parts that the rows of each set are filled up to, a multiple of the devices.
        """
        if num_parts == 1:
            return self

        def placed(x: Any) -> Any:
            if x is None or _is_sharded(x):
                return x
            size = sharding.padded_size(x.shape[0], num_parts)
            if mesh is None:
                return sharding.pad_rows(jnp.asarray(x), size)
            return sharding.shard_rows(x, mesh, size)

        sets = {name: placed(getattr(self, name)) for name in ("gallery", "keep_out", "frozen")}
        return replace(self, **sets)

    def evaluate(
        self,
        x: Points,
        *,
        step: Any = 0,
        shift: Any = None,
        sweep: Sweep = DEFAULT_SWEEP,
        gallery_index: Any = None,
    ) -> ProblemEvaluation:
        """Evaluate energy, regularisers and exact figures at ``x``, ``[n, d]``."""
        if self.energy is None:
            raise ValueError("energy=None: give the problem an energy, or use solve()")
        evaluation = self.energy.evaluate(
            x, frozen=self.frozen, step=step, shift=shift, sweep=sweep
        )
        return self.regularise(x, evaluation, step=step, sweep=sweep, gallery_index=gallery_index)

    def regularise(
        self,
        x: Points,
        evaluation: Evaluation,
        *,
        step: Any = 0,
        sweep: Sweep = DEFAULT_SWEEP,
        gallery_index: Any = None,
    ) -> ProblemEvaluation:
        """Add the gallery and keep-out terms to an evaluated energy."""
        value, force = evaluation.value, evaluation.force
        objective = evaluation.max_cosine
        gallery_cosine = keep_out_cosine = jnp.asarray(jnp.nan)
        if self.gallery is not None:
            pull = gallery_pull(
                x, self.gallery, manifold=self.manifold, index=gallery_index, sweep=sweep
            )
            weight = self.alpha_schedule(step) if self.alpha_schedule else self.alpha
            weight = jnp.asarray(weight, x.dtype)
            value, force = value + weight * pull.value, force + weight * pull.force
            objective += self.alpha * pull.value
            gallery_cosine = 1 - pull.value
        if self.keep_out is not None and self.keep_out_cosine is not None:
            push = keep_out_push(x, self.keep_out, self.keep_out_cosine, sweep=sweep)
            value, force = value + push.value, force + push.force
            keep_out_cosine = jnp.max(push.cosine)
            violation = jnp.maximum(keep_out_cosine - self.keep_out_cosine, 0)
            objective += _VIOLATION_PENALTY * violation
        return ProblemEvaluation(
            value,
            force,
            evaluation.max_cosine,
            _mean_over_points(x, evaluation.row_max),
            gallery_cosine,
            keep_out_cosine,
            objective,
        )


def _mean_over_points(x: Points, values: Any) -> Scalar:
    return jnp.sum(jnp.where(sphere.is_point(x), values, 0)) / sphere.count_points(x)


def _is_sharded(x: Any) -> bool:
    return isinstance(x, jax.Array) and len(x.sharding.device_set) > 1


def _rows(points: Any) -> int:
    return getattr(points, "shape", (0,))[0]
