"""*What* is packed: the size, and the sets of rows that shape the packing.

A method (:mod:`.methods`) says how it is packed. Problems and methods share nothing, so one compiled
program serves all problems of the same shape.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from hyperface_jax import meshes, sphere
from hyperface_jax.errors import InputError
from hyperface_jax.packing import manifolds
from hyperface_jax.packing.constraints import gallery_pull, keep_out_push
from hyperface_jax.packing.energies import DEFAULT_SWEEP, Evaluation
from hyperface_jax.packing.inputs import real, unit_rows, whole
from hyperface_jax.packing.manifolds import NEAREST_ROW, Manifold
from hyperface_jax.packing.subspaces import GallerySubspace
from hyperface_jax.pairwise import Sweep
from hyperface_jax.typing import Number, Points, RowsLike, Scalar

_VIOLATION_PENALTY = 10.0
_SETS = ("gallery", "keep_out", "frozen")
_LEAVES = (*_SETS, "alpha", "keep_out_cosine")
_STATIC = ("num_points", "dim")


class Evaluated(NamedTuple):
    """A regularized energy at a configuration, and the figures computed along with it."""

    value: Scalar
    """Energy plus the weighted gallery distance plus the keep-out penalty."""
    force: Points
    """Euclidean gradient of ``value``, ``[n, d]``."""
    max_cosine: Scalar
    """Max cosine over all pairs with a free point that the energy has evaluated."""
    mean_nearest_cosine: Scalar
    """Mean over free points of the cosine to the nearest other point."""
    gallery_cosine: Scalar | None
    """Mean cosine to the manifold, by the gallery rows taken as nearest; None without a gallery."""
    keep_out_cosine: Scalar | None
    """Largest cosine of a point to a keep-out row; None without a keep-out set."""
    objective: Scalar
    """Value that chooses the best iterate: max cosine + alpha (1 - gallery cosine) + violations."""


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, kw_only=True, eq=False)
class PackingProblem:
    """A packing to be found: a pytree with sets and weights as leaves, static sizes and manifold.

    Sets may be JAX, NumPy or torch arrays, memory maps or lists, of any float type. They are checked
    here, and rows that do not have unit length are normalized.

    Attributes:
        num_points: number n of free points, not counting frozen ones.
        dim: dimension d of the space that contains the sphere, at least 2.
        gallery: rows that represent the face manifold, ``[m, d]``.
        alpha: weight of the mean cosine distance to the manifold, 0 or more.
        manifold: how the gallery represents the manifold: by its rows alone, or also by what lies
            between and beyond them.
        keep_out: rows that no point may come near, ``[k, d]``.
        keep_out_cosine: largest allowed cosine to a keep-out row, in (-1, 1).
        frozen: rows that are part of the packing but do not move, ``[f, d]``.

    Raises:
        InputError: a field cannot be used; the message names it and says how to fix it.
    """

    num_points: int
    dim: int
    gallery: RowsLike | None = None
    alpha: Number = 0.5
    manifold: Manifold = NEAREST_ROW
    keep_out: RowsLike | None = None
    keep_out_cosine: Number | None = None
    frozen: RowsLike | None = None

    def __post_init__(self):
        dim = whole("dim", self.dim, least=2)
        checked: dict[str, Any] = {
            "dim": dim,
            "num_points": whole("num_points", self.num_points, least=1),
            "alpha": real("alpha", self.alpha, least=0),
        }
        for name in _SETS:
            if getattr(self, name) is not None:
                checked[name] = unit_rows(name, getattr(self, name), dim)
        if self.keep_out_cosine is not None:
            limit = real("keep_out_cosine", self.keep_out_cosine, within=1)
            checked["keep_out_cosine"] = limit
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self._check_together()

    def _check_together(self) -> None:
        if self.num_points + _count(self.frozen) < 2:
            raise InputError(f"num_points={self.num_points}: a packing needs at least 2 points")
        if 0 < _count(self.gallery) < self.manifold.num_neighbors:
            raise InputError(
                f"manifold={self.manifold}: the gallery has {_count(self.gallery)} rows, too few for it"
            )
        if isinstance(self.manifold, GallerySubspace) and len(self.manifold.mean) != self.dim:
            raise InputError(
                f"manifold: is a subspace in {len(self.manifold.mean)} dimensions, not {self.dim}"
            )
        if (self.keep_out is None) != (self.keep_out_cosine is None):
            raise InputError("keep_out and keep_out_cosine go together: give both or neither")

    def tree_flatten_with_keys(self):
        """Return the leaves with their names, and the static fields."""
        key = jax.tree_util.GetAttrKey
        static, traced = manifolds.split(self.manifold)
        leaves = [(key(name), getattr(self, name)) for name in _LEAVES]
        sizes = tuple(getattr(self, name) for name in _STATIC)
        return [*leaves, (key("manifold"), traced)], (*sizes, static)

    @classmethod
    def tree_unflatten(cls, static: tuple[Any, ...], leaves: Any) -> PackingProblem:
        """Rebuild a problem from leaves of any kind, without checks."""
        *values, traced = leaves
        *sizes, fixed = static
        named = zip((*_STATIC, *_LEAVES), (*sizes, *values), strict=True)
        return cls._unchecked({**dict(named), "manifold": manifolds.joined(fixed, traced)})

    @classmethod
    def _unchecked(cls, values: dict[str, Any]) -> PackingProblem:
        problem = object.__new__(cls)
        for name, value in values.items():
            object.__setattr__(problem, name, value)
        return problem

    @property
    def num_frozen(self) -> int:
        """Number of frozen points, including rows of zeros that pad a shard."""
        return _count(self.frozen)

    def on(self, mesh: Mesh | None, num_parts: int = 1) -> PackingProblem:
        """Place the problem on its devices, with the rows of its sets sharded over a mesh.

        Each process reads only the rows of its own devices, so the sets may be memory maps. Sets that
        are already sharded are left unchanged.

        Args:
            mesh: the devices; None leaves the sets on one device.
            num_parts: number of equal parts that the rows of each set are padded to, a multiple of the
                number of devices.
        """

        def placed(x: Any) -> Any:
            if x is None or _is_sharded(x):
                return x
            size = x.shape[0] if num_parts == 1 else meshes.padded_size(x.shape[0], num_parts)
            if mesh is None:
                return meshes.pad_rows(jnp.asarray(x), size)
            return meshes.shard_rows(x, mesh, size)

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return self._unchecked(values | {name: placed(values[name]) for name in _SETS})

    def regularize(
        self,
        x: Points,
        evaluation: Evaluation,
        *,
        share: Any = 1.0,
        sweep: Sweep = DEFAULT_SWEEP,
        gallery_index: Any = None,
    ) -> Evaluated:
        """Add the gallery and keep-out terms to an evaluated energy.

        Args:
            x: unit rows, ``[n, d]``.
            evaluation: evaluation of an energy at ``x``.
            share: share of ``alpha`` in the energy and its force; the objective always uses all of it.
            sweep: how pairs are visited.
            gallery_index: gallery rows to take as nearest, ``[n, k]``, instead of a search.
        """
        value, force = evaluation.value, evaluation.force
        objective = evaluation.max_cosine
        gallery_cosine = keep_out_cosine = None
        if self.gallery is not None:
            pull = gallery_pull(
                x, self.gallery, manifold=self.manifold, index=gallery_index, sweep=sweep
            )
            weight = jnp.asarray(self.alpha * share, x.dtype)
            value, force = value + weight * pull.value, force + weight * pull.force
            objective += self.alpha * pull.value
            gallery_cosine = 1 - pull.value
        if self.keep_out is not None and self.keep_out_cosine is not None:
            push = keep_out_push(x, self.keep_out, self.keep_out_cosine, sweep=sweep)
            value, force = value + push.value, force + push.force
            keep_out_cosine = jnp.max(push.cosine)
            violation = jnp.maximum(keep_out_cosine - self.keep_out_cosine, 0)
            objective += _VIOLATION_PENALTY * violation
        return Evaluated(
            value,
            force,
            evaluation.max_cosine,
            _mean_over_points(x, evaluation.row_max),
            gallery_cosine,
            keep_out_cosine,
            objective,
        )

    def objective(self, x: Points, highest: Scalar, *, sweep: Sweep = DEFAULT_SWEEP) -> Scalar:
        """Return the value by which iterates are compared, given the max cosine of ``x``."""
        unforced = Evaluation(jnp.zeros((), x.dtype), x, jnp.full_like(x[:, 0], highest))
        return self.regularize(x, unforced, sweep=sweep).objective


def _mean_over_points(x: Points, values: Any) -> Scalar:
    return jnp.sum(jnp.where(sphere.is_point(x), values, 0)) / sphere.count_points(x)


def _is_sharded(x: Any) -> bool:
    return isinstance(x, jax.Array) and len(x.sharding.device_set) > 1


def _count(rows: Any) -> int:
    return 0 if rows is None else rows.shape[0]
