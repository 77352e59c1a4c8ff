"""Trials of a search: packings with a symmetry or without, optimized in batches under one ``vmap``."""

from __future__ import annotations

import math
from functools import cache, partial
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

_STEPS, _FEWEST_STEPS, _MOST_STEPS = 16, 250, 2000
"""Steps for each representative, and the limits: the more there are, the more a slow annealing gains."""
_CHANGE_STEPS = 500
_SCREEN_STEPS = 60
_MOMENTUM = 0.9
_STEP_FACTOR, _MAX_STEP = 4.0, 0.1
_HOT, _COLD = 1.4, 20_000.0
_FEW, _HALF = 20, 0.55
_BATCH, _BATCH_ENTRIES, _ACCELERATOR = 64, 500_000, 64
_QUICK = 500
_CPU_OPTIONS = {"xla_backend_optimization_level": 1, "xla_cpu_multi_thread_eigen": False}
"""More costs half of the time to compile and makes it no faster; each core has a batch of its own."""


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

    @property
    def bucket(self) -> int:
        """The rounded number of representatives, which all trials of a batch share."""
        return bucket_of(len(self.x), len(self.orbits.owner))


def plain(points: Array, max_cosine: float) -> Trial:
    """Return a packing without symmetry, from all of its points."""
    return Trial(points, no_symmetry(*points.shape), max_cosine)


def most_representatives(num_points: int) -> int:
    """Return how many representatives a packing with symmetry may have: half of n, and a few."""
    return min(num_points, max(_FEW, math.ceil(_HALF * num_points)))


def bucket_of(count: int, num_points: int) -> int:
    """Round a number of representatives up to n, about a half of it, and so on: few are compiled."""
    size = most_representatives(num_points)
    if count > size:
        return num_points
    while size > _FEW and count <= (half := math.ceil(size / 2)):
        size = half
    return size


def batch_size(size: int, num_points: int, dim: int) -> int:
    """Return the number of trials of a batch, whose cosines and maps stay in a core's cache.

    ``size`` is the rounded number of representatives, n without symmetry.
    """
    more = 1 if jax.default_backend() == "cpu" else _ACCELERATOR
    entries = num_points * (size + (dim**2 if size < num_points else 0))
    return max(1, min(more * _BATCH, more * _BATCH_ENTRIES // entries))


def screened(trials: list[Trial], count: int) -> list[Trial]:
    """Return the most promising starts: those that a quick optimization takes farthest.

    Starts with most groups end far above the best; a few steps show which. The starts themselves are
    returned, because a slow optimization from them ends lower than one from where the quick one ended.
    """
    batches = [trials[i : i + count] for i in range(0, len(trials), count)]
    reached = [
        t for batch in batches for t in _optimized(batch, np.ones(len(batch)), _SCREEN_STEPS)
    ]
    order = np.argsort([trial.max_cosine for trial in reached], kind="stable")
    return [trials[i] for i in order[:count]]


def annealed(trials: list[Trial], heat: Array) -> list[Trial]:
    """Optimize a batch of trials side by side, all with a symmetry or all without."""
    slow = min(max(_STEPS * trials[0].bucket, _FEWEST_STEPS), _MOST_STEPS)
    is_from_nothing = bool(np.all(np.asarray(heat) == 1))
    return _optimized(trials, heat, slow if is_from_nothing else min(slow, _CHANGE_STEPS))


class _Images(NamedTuple):
    """The orbits of a batch in single precision; representatives of size 0 are padding."""

    maps: Any
    owner: Any
    first: Any
    sizes: Any


def _optimized(trials: list[Trial], heat: Array, num_steps: int) -> list[Trial]:
    dim, size = trials[0].x.shape[1], trials[0].bucket
    x = np.zeros((len(trials), size, dim), np.float32)
    x[:, :, 0] = 1.0
    for rows, trial in zip(x, trials, strict=True):
        rows[: len(trial.x)] = trial.x
    images = None if trials[0].symmetry is None else _images(trials, size)
    hot = _HOT * dim**0.5
    start = (hot ** np.asarray(heat) * _COLD ** (1 - np.asarray(heat))).astype(np.float32)
    found, cosines = _descend()(num_steps, x, images, start)
    rows, values = np.asarray(found, np.float64), np.asarray(cosines, np.float64)
    return [
        trial._replace(
            x=trial.orbits.projected(rows[i, : len(trial.x)]), max_cosine=float(values[i])
        )
        for i, trial in enumerate(trials)
    ]


def _images(trials: list[Trial], size: int) -> _Images:
    first = np.zeros((len(trials), size), np.int32)
    sizes = np.zeros((len(trials), size), np.float32)
    for i, trial in enumerate(trials):
        k = len(trial.x)
        first[i, :k] = trial.orbits.first
        sizes[i, :k] = np.bincount(trial.orbits.owner, minlength=k)
    # Converted one by one: together they are the largest arrays of a batch.
    maps = np.stack([trial.orbits.maps.astype(np.float32) for trial in trials])
    owner = np.stack([trial.orbits.owner for trial in trials]).astype(np.int32)
    return _Images(maps, owner, first, sizes)


@cache
def _descend() -> Any:
    """Return the compiled optimization of a batch."""

    def descend(num_steps: Any, x: Any, images: _Images | None, start: Any) -> tuple[Any, Any]:
        return jax.vmap(partial(_descend_one, num_steps))(x, images, start)

    options = _CPU_OPTIONS if jax.default_backend() == "cpu" else None
    return jax.jit(descend, compiler_options=options)


def _descend_one(num_steps: Any, x: Any, images: _Images | None, start: Any) -> tuple[Any, Any]:
    """Anneal one trial from representatives ``[K, d]``; without images they are all points."""
    if images is None:
        counts, projectors = ~jnp.eye(len(x), dtype=bool), None
    else:
        projectors = images.maps[images.first]
        is_own = images.first[:, None] == jnp.arange(len(images.owner))[None, :]
        counts = (images.sizes[:, None] > 0) & ~is_own

    def cosines(x: Any) -> tuple[Any, Any]:
        if images is None:
            return jnp.where(counts, scores(x, x), -2.0), x
        points = jax.lax.optimization_barrier(_applied(images.maps, x[images.owner]))
        return jnp.where(counts, scores(x, points), -2.0), points

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

    def kept(x: Any) -> Any:
        """Project onto the subspaces: where a gradient is zero, its direction is noise."""
        return x if projectors is None else _applied(projectors, x)

    optimizer = riemannian_adam(
        lambda step: jnp.minimum(_MAX_STEP, _STEP_FACTOR / beta(step)), _MOMENTUM
    )

    def advance(step: Any, carry: Any) -> tuple[Any, Any]:
        x, state = carry
        updates, state = optimizer.update(slope(x, step), state, x)
        return sphere.normalize(kept(optax.apply_updates(x, updates))), state

    x, _ = jax.lax.fori_loop(0, num_steps, advance, (x, optimizer.init(x)))
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


def _applied(maps: Any, x: Any) -> Any:
    """Apply each map to its own row; XLA's batched product of small ones takes 3 to 15 times as long."""
    return jnp.sum(maps * x[:, None, :], axis=-1)
