"""A search for the best packings of a few hundred points, where independent restarts get stuck.

It spends its time on three kinds of trials, each a batch under one ``vmap``:

* packings with the symmetry of a random finite group, whose representatives are optimized;
* changes of the best packings so far (a population): moved points, or points removed and put back into
  the largest holes, with or without the symmetry;
* independent restarts.

Each trial is an annealed soft maximum. The best of a batch are polished in float64.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hyperface_jax import bounds, sphere
from hyperface_jax.errors import InputError
from hyperface_jax.packing.contact_pairs import unit_rows
from hyperface_jax.packing.groups import random_group
from hyperface_jax.packing.inputs import whole
from hyperface_jax.packing.interior_point import MAX_VARIABLES, polish
from hyperface_jax.packing.orbits import (
    Orbits,
    composed,
    no_symmetry,
    orbit_types,
    polish_orbits,
)
from hyperface_jax.packing.transforms import riemannian_adam
from hyperface_jax.pairwise.precision import scores, weighted_sum

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_STEPS, _STEPS_OF_FEW = 500, 300
_MOMENTUM = 0.9
_STEP_FACTOR, _MAX_STEP = 4.0, 0.1
_HOT, _COLD = 1.4, 20_000.0
_SHARES = {"groups": 0.5, "changes": 0.35, "restarts": 0.15}
_FEW = 16
_BATCH, _BATCH_ENTRIES, _ACCELERATOR = 64, 500_000, 64
_STARTS_A_GROUP = 12
_QUICK = 500
_SEARCHED = 0.9
_POPULATION = 8
_POLISHED = 2
_PROMISING = 1e-4
_ALIKE = 1e-5
_DIFFERENT, _LOWER = 1e-7, 1e-12
_MET = 1e-12
_NOISE = 1e-4
_HOLES = 200
_APART = 1 - 1e-6


class Trial(NamedTuple):
    """Representatives ``[k, d]``, float64, how the points follow from them, and their max cosine."""

    x: Array
    orbits: Orbits
    max_cosine: float

    @property
    def points(self) -> Array:
        """All points, ``[n, d]``, unit rows."""
        return unit_rows(self.orbits.points(self.x))


@dataclass
class Found:
    """What a search has found so far.

    Attributes:
        x: ``[n, d]`` float64 unit rows, the best packing; None before the first batch.
        max_cosine: its max cosine.
        num_trials: number of packings that were optimized.
        num_batches: number of batches; batch b of a seed draws the same random numbers in every search.
        seconds: time spent.
        origin: kind of trial that gave the best packing, and the number of its representatives.
    """

    x: Array | None = None
    max_cosine: float = float("inf")
    num_trials: int = 0
    num_batches: int = 0
    seconds: float = 0.0
    origin: str = ""


@dataclass
class Search:
    """A search that can be stopped and continued at any batch.

    Attributes:
        num_points: number of points n.
        dim: dimension d.
        seed: seed of all randomness.
        found: the best so far; give that of an earlier search to continue it.
        target: max cosine that is good enough; None goes on until a proven lower bound is met.
    """

    num_points: int
    dim: int
    seed: int = 0
    found: Found = field(default_factory=Found)
    target: float | None = None

    def __post_init__(self) -> None:
        n = whole("num_points", self.num_points, least=2)
        d = whole("dim", self.dim, least=2)
        if n * (d - 1) > MAX_VARIABLES:
            raise InputError(
                f"num_points={n}, dim={d}: a search takes at most {MAX_VARIABLES} for num_points x "
                "(dim - 1); use fewer points"
            )
        self._spent = dict.fromkeys(_SHARES, 0.0)
        self._waiting: dict[int, list[Trial]] = {}
        self._population: list[Trial] = []
        self._rough: list[float] = []
        optimum = bounds.tightest(n, d).value + _MET
        self._goal = optimum if self.target is None else max(self.target, optimum)
        if self.found.x is not None:
            plain = no_symmetry(n, d)
            self._population = [Trial(self.found.x, plain, self.found.max_cosine)]

    def advance(self) -> None:
        """Optimize one batch of trials, of the kind that is the furthest behind its share of time."""
        started = time.perf_counter()
        rng = np.random.default_rng((self.seed, self.found.num_batches))
        kind = min(self._spent, key=lambda kind: self._spent[kind] / _SHARES[kind])
        if kind == "changes" and not self._population:
            kind = "groups"
        trials, heat = self._batch(kind, rng)
        reached = _annealed(trials, heat)
        self.found.num_trials += len(trials)
        self.found.num_batches += 1
        self._keep(reached, kind)
        took = time.perf_counter() - started
        self._spent[kind] += took
        self.found.seconds += took

    def _batch(self, kind: str, rng: np.random.Generator) -> tuple[list[Trial], Array]:
        """Return trials with about as many representatives, and how hot each begins, from 0 to 1."""
        if kind == "groups":
            trials = self._with_symmetry(rng)
            return trials, np.ones(len(trials))
        n, d = self.num_points, self.dim
        if kind == "restarts":
            plain = no_symmetry(n, d)
            trials = [
                Trial(unit_rows(rng.normal(size=(n, d))), plain, 2.0) for _ in range(_size(n, n))
            ]
            return trials, np.ones(len(trials))
        return self._changed(rng)

    def _with_symmetry(self, rng: np.random.Generator) -> list[Trial]:
        """Draw groups until a batch of about as many representatives is full."""
        while True:
            group = random_group(rng, self.dim, 2 * self.num_points)
            types = orbit_types(group, rng)
            for _ in range(_STARTS_A_GROUP):
                placed = composed(types, self.num_points, rng)
                if placed is None:
                    break
                orbits, x = placed
                bucket = _bucket(len(x), self.num_points)
                waiting = self._waiting.setdefault(bucket, [])
                waiting.append(Trial(x, orbits, 2.0))
                if len(waiting) >= _size(bucket, self.num_points):
                    return self._waiting.pop(bucket)

    def _changed(self, rng: np.random.Generator) -> tuple[list[Trial], Array]:
        """Change packings of the population; half of the time, the symmetry is given up."""
        place = min(int(rng.geometric(0.4)) - 1, len(self._population) - 1)
        parent = self._population[place]
        if rng.random() < 0.5:
            plain = no_symmetry(self.num_points, self.dim)
            parent = Trial(parent.points, plain, parent.max_cosine)
        count = _size(_bucket(len(parent.x), self.num_points), self.num_points)
        trials, heat = [], rng.uniform(0.1, 0.7, size=count)
        for i in range(count):
            if rng.random() < 0.5:
                noise = rng.normal(size=parent.x.shape) / self.dim**0.5
                x = parent.x + 10 ** rng.uniform(-1.5, -0.3) * noise
                heat[i] = max(heat[i], 0.3)
            else:
                x = _put_back(parent, rng)
            trials.append(Trial(parent.orbits.projected(x), parent.orbits, 2.0))
        return trials, heat

    def _keep(self, reached: list[Trial], kind: str) -> None:
        """Polish the best of a batch, and take them into the population if they are new."""
        best = sorted(reached, key=lambda trial: trial.max_cosine)[:_POLISHED]
        for trial in best:
            rough = trial.max_cosine
            is_new = all(abs(rough - other) > _ALIKE for other in self._rough)
            if is_new and rough < min([*self._rough, _APART]) + _PROMISING:
                self._rough.append(rough)
                self._take(_polished(trial), kind)

    def _take(self, trial: Trial, kind: str) -> None:
        if trial.max_cosine < self.found.max_cosine - _LOWER:
            self._take_best(trial, f"{kind}, {len(trial.x)} representatives")
        if any(abs(trial.max_cosine - other.max_cosine) < _DIFFERENT for other in self._population):
            return
        self._population = sorted([*self._population, trial], key=lambda t: t.max_cosine)
        del self._population[_POPULATION:]

    def is_short_of(self, seconds: float) -> bool:
        """Tell whether there is time for another batch in a search of so many seconds."""
        if self.found.x is None:
            return True
        return not self.is_done and self.found.seconds < _SEARCHED * seconds

    @property
    def is_done(self) -> bool:
        """Whether the target is met, or a bound below which no packing is."""
        return self.found.max_cosine <= self._goal

    def finish(self) -> None:
        """Polish the best packing, without its symmetry, unless it is good enough."""
        x = self.found.x
        if x is None or self.is_done:
            return
        rng = np.random.default_rng(self.seed)
        result = polish(unit_rows(x + _NOISE * rng.normal(size=x.shape)))
        if result.max_cosine < self.found.max_cosine - _LOWER:
            plain = no_symmetry(self.num_points, self.dim)
            origin = f"{self.found.origin}, then all points polished"
            self._take_best(Trial(result.x, plain, result.max_cosine), origin)

    def _take_best(self, trial: Trial, origin: str) -> None:
        x = trial.points
        cosine = measured(x)
        if cosine < self.found.max_cosine:
            self.found.x, self.found.max_cosine, self.found.origin = x, cosine, origin


def search(
    num_points: int,
    dim: int,
    *,
    seconds: float,
    seed: int = 0,
    target: float | None = None,
    callback: Callable[[Found], Any] | None = None,
) -> Found:
    """Search for the packing of n points in ``R^d`` with the smallest max cosine.

    Args:
        num_points: number of points n.
        dim: dimension d.
        seconds: time to spend, compilations included; at least one batch is finished. The last tenth is
            kept for polishing the best packing, which takes up to ten seconds.
        seed: seed of all randomness. How far a search comes depends on the machine too.
        target: max cosine that is good enough, where the search ends early; None goes on. It ends anyway
            at a proven lower bound, below which there is nothing to find.
        callback: called after every batch with what was found so far.

    Returns:
        The best packing, in float64; not polished as a whole where it met the target.

    Raises:
        InputError: a size is too small, or ``num_points (dim - 1)`` is above 20,000.

    Examples:
        >>> found = search(12, 3, seconds=1)
        >>> round(found.max_cosine, 9)  # the icosahedron
        0.447213595
    """
    running = Search(num_points, dim, seed, target=target)
    while running.is_short_of(seconds):
        running.advance()
        if callback:
            callback(running.found)
    running.finish()
    return running.found


def measured(x: Array) -> float:
    """Return the max cosine of rows ``[n, d]`` in float64, over all pairs."""
    x = unit_rows(np.asarray(x, np.float64))
    cosines = x @ x.T
    np.fill_diagonal(cosines, -1.0)
    return float(cosines.max())


def _polished(trial: Trial) -> Trial:
    """Polish a trial if that takes less time than to optimize a batch."""
    if trial.x.size > _QUICK:
        return trial
    try:
        x, cosine = polish_orbits(trial.x, trial.orbits)
    except InputError:  # two points are equal: orbits that cannot be separated
        return trial
    return Trial(x, trial.orbits, cosine)


def _put_back(parent: Trial, rng: np.random.Generator) -> Array:
    """Remove one to three representatives, and put them where they are far from all other points."""
    x, orbits = parent.x.copy(), parent.orbits
    count = min(len(x), int(rng.integers(1, 4)))
    for i in rng.choice(len(x), size=count, replace=False):
        others = orbits.points(x)[orbits.owner != i]
        drawn = unit_rows(rng.normal(size=(_HOLES, x.shape[1])) @ orbits.projectors[i].T)
        if len(others):
            ranks = np.argsort((drawn @ others.T).max(axis=1))
            x[i] = drawn[ranks[int(rng.integers(4))]]
        else:
            x[i] = drawn[0]
    return x


def _bucket(count: int, num_points: int) -> int:
    """Round a number of representatives up to a power of 4 or n, so that few sizes are compiled."""
    bucket = _FEW
    while bucket < count:
        bucket *= 4
    return min(bucket, num_points)


def _size(bucket: int, num_points: int) -> int:
    """Return the number of trials of a batch."""
    more = 1 if jax.default_backend() == "cpu" else _ACCELERATOR
    return max(1, min(more * _BATCH, more * _BATCH_ENTRIES // (bucket * num_points)))


def _annealed(trials: list[Trial], heat: Array) -> list[Trial]:
    """Optimize a batch of trials side by side."""
    num_points, dim = trials[0].orbits.maps.shape[:2]
    bucket = _bucket(max(len(trial.x) for trial in trials), num_points)
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
        Trial(trial.orbits.projected(rows[i, : len(trial.x)]), trial.orbits, float(values[i]))
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
        return weighted_sum(jax.nn.softmax(beta(step) * found, axis=1), points)

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
