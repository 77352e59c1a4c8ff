"""Trials of a search: packings with a symmetry or without, optimized in batches under one ``vmap``."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hyperface_jax import sphere
from hyperface_jax.errors import InputError
from hyperface_jax.packing.contact_pairs import unit_rows
from hyperface_jax.packing.groups import Symmetry
from hyperface_jax.packing.orbits import Orbits, no_symmetry, polish_orbits
from hyperface_jax.packing.transforms import riemannian_adam
from hyperface_jax.pairwise.precision import scores, weighted_sum

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_STEPS, _STEPS_OF_FEW = 500, 300
_MOMENTUM = 0.9
_STEP_FACTOR, _MAX_STEP = 4.0, 0.1
_HOT, _COLD = 1.4, 20_000.0
_FEW = 16
_BATCH, _BATCH_ENTRIES, _ACCELERATOR = 64, 500_000, 64
_QUICK = 500


class Trial(NamedTuple):
    """Representatives ``[k, d]``, float64, how the points follow from them, and their max cosine."""

    x: Array
    orbits: Orbits
    max_cosine: float
    symmetry: Symmetry | None = None

    @property
    def points(self) -> Array:
        """All points, ``[n, d]``, unit rows."""
        return unit_rows(self.orbits.points(self.x))


def plain(points: Array, max_cosine: float) -> Trial:
    """Return a packing without symmetry, from all of its points."""
    return Trial(points, no_symmetry(*points.shape), max_cosine)


def bucket_of(count: int, num_points: int) -> int:
    """Round a number of representatives up to a power of 2 or n, so that few sizes are compiled."""
    bucket = _FEW
    while bucket < count:
        bucket *= 2
    return min(bucket, num_points)


def batch_size(bucket: int, num_points: int) -> int:
    """Return the number of trials of a batch."""
    more = 1 if jax.default_backend() == "cpu" else _ACCELERATOR
    return max(1, min(more * _BATCH, more * _BATCH_ENTRIES // (bucket * num_points)))


def annealed(trials: list[Trial], heat: Array) -> list[Trial]:
    """Optimize a batch of trials side by side."""
    num_points, dim = trials[0].orbits.maps.shape[:2]
    bucket = bucket_of(max(len(trial.x) for trial in trials), num_points)
    count = len(trials)
    x = np.zeros((count, bucket, dim), np.float32)
    x[:, :, 0] = 1.0
    first = np.zeros((count, bucket), np.int32)
    sizes = np.zeros((count, bucket), np.float32)
    for i, trial in enumerate(trials):
        k = len(trial.x)
        x[i, :k], first[i, :k] = trial.x, trial.orbits.first
        sizes[i, :k] = np.bincount(trial.orbits.owner, minlength=k)
    # Converted one by one: together they are the largest arrays of a batch.
    maps = np.stack([trial.orbits.maps.astype(np.float32) for trial in trials])
    owner = np.stack([trial.orbits.owner for trial in trials]).astype(np.int32)
    hot = _HOT * dim**0.5
    start = (hot ** np.asarray(heat) * _COLD ** (1 - np.asarray(heat))).astype(np.float32)
    num_steps = _STEPS_OF_FEW if bucket <= _FEW else _STEPS
    found, cosines = _descend(num_steps, x, maps, owner, first, sizes, start)
    rows, values = np.asarray(found, np.float64), np.asarray(cosines, np.float64)
    return [
        trial._replace(
            x=trial.orbits.projected(rows[i, : len(trial.x)]), max_cosine=float(values[i])
        )
        for i, trial in enumerate(trials)
    ]


@partial(jax.jit, static_argnums=0)
def _descend(num_steps: int, *trials: Any) -> tuple[Any, Any]:
    return jax.vmap(partial(_descend_one, num_steps))(*trials)


def _descend_one(
    num_steps: int, x: Any, maps: Any, owner: Any, first: Any, sizes: Any, start: Any
) -> tuple[Any, Any]:
    """Anneal one trial: representatives ``[K, d]``, of which those of size 0 are padding."""
    is_own = first[:, None] == jnp.arange(maps.shape[0])[None, :]
    counts = (sizes[:, None] > 0) & ~is_own

    def cosines(x: Any) -> tuple[Any, Any]:
        points = jnp.einsum("nab,nb->na", maps, x[owner], precision="highest")
        return jnp.where(counts, scores(points[first], points), -2.0), points

    def beta(step: Any) -> Any:
        progress = step.astype(jnp.float32) / (num_steps - 1)
        return start * (_COLD / start) ** (progress**2)

    def slope(x: Any, step: Any) -> Any:
        """Return the gradient of the soft maximum, up to the length of each row, which is not used.

        Its two parts are equal: a group takes the pairs that end in a representative to pairs that
        start there.
        """
        found, points = cosines(x)
        highest = jnp.max(found, axis=1, keepdims=True)
        return weighted_sum(jnp.exp(beta(step) * (found - highest)), points)

    optimizer = riemannian_adam(
        lambda step: jnp.minimum(_MAX_STEP, _STEP_FACTOR / beta(step)), _MOMENTUM
    )

    def advance(carry: Any, step: Any) -> tuple[Any, None]:
        x, state = carry
        updates, state = optimizer.update(slope(x, step), state, x)
        # Where a gradient is zero, its direction is noise that leads out of the subspace.
        moved = optax.apply_updates(x, updates)
        moved = jnp.einsum("kab,kb->ka", maps[first], moved, precision="highest")
        return (sphere.normalize(moved), state), None

    (x, _), _ = jax.lax.scan(advance, (x, optimizer.init(x)), jnp.arange(num_steps))
    return x, jnp.max(cosines(x)[0])


def polished(trial: Trial) -> Trial:
    """Polish a trial if that takes less time than to optimize a batch."""
    if trial.x.size > _QUICK:
        return trial
    try:
        x, cosine = polish_orbits(trial.x, trial.orbits)
    except InputError:  # two points are equal: orbits that cannot be separated
        return trial
    return trial._replace(x=x, max_cosine=cosine)
