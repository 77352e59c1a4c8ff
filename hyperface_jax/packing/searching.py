"""A search for the best packings of a few hundred points, where independent restarts get stuck.

It begins with the best construction, and spends its time on four kinds of trials, each a batch under
one ``vmap``:

* packings with the symmetry of a random finite group, whose representatives are optimized;
* changes of the best packings so far (a population): moved points, or points removed and put back into
  the largest holes, with or without the symmetry;
* known constructions with about as many points, some taken away or added;
* independent restarts.

Each trial is an annealed soft maximum. The best of a batch are polished in float64.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from hyperface_jax import bounds
from hyperface_jax.errors import InputError
from hyperface_jax.packing.changes import changed, relaxed
from hyperface_jax.packing.contact_pairs import unit_rows
from hyperface_jax.packing.groups import Symmetries
from hyperface_jax.packing.inputs import whole
from hyperface_jax.packing.interior_point import MAX_VARIABLES, polish
from hyperface_jax.packing.near_codes import fitted, near_codes
from hyperface_jax.packing.orbits import composed
from hyperface_jax.packing.trials import Trial, annealed, batch_size, bucket_of, plain, polished

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_SHARES = {"groups": 0.55, "changes": 0.35, "codes": 0.05, "restarts": 0.05}
_STARTS_A_GROUP = 6
_SEARCHED = 0.9
_POPULATION = 8
_POLISHED = 8
_PROMISING = 1e-4
_ALIKE = 1e-8
_DIFFERENT, _LOWER = 1e-7, 1e-12
_MET = 1e-12
_FIRST_GUESS = 0.5
_NOISE = 1e-4
_CLOSE = 1e-3
"""How much worse a packing may be that could become the best when all of its points are polished."""
_SYMMETRIC = 0.65
"""Share of changes of packings with symmetry; those without are better in the end, and slower."""
_APART = 1 - 1e-6


@dataclass
class _Niche:
    """The best packings with symmetry, or without; those with a little less of it are a bit better.

    Attributes:
        best: the best, and all different.
        rough: the max cosines of those that were taken in, before they were polished.
    """

    best: list[Trial] = field(default_factory=list)
    rough: list[float] = field(default_factory=list)

    @property
    def admits(self) -> float:
        """Max cosine below which a packing is taken in, which a polish may still lower."""
        is_full = len(self.best) == _POPULATION
        return self.best[-1].max_cosine + _PROMISING if is_full else _APART

    def take(self, trial: Trial) -> None:
        """Take a packing in, unless it is known or worse than all."""
        if all(abs(trial.max_cosine - other.max_cosine) > _DIFFERENT for other in self.best):
            self.best.append(trial)
            self.best.sort(key=lambda known: known.max_cosine)
            del self.best[_POPULATION:]


class _Batch(NamedTuple):
    """Trials of a kind with about as many representatives, how hot they begin, and the guessed time."""

    kind: str
    trials: list[Trial]
    heat: Array
    guess: float


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


def checked_size(num_points: int, dim: int) -> tuple[int, int]:
    """Return a size that can be searched.

    Raises:
        InputError: a size is too small, or ``num_points (dim - 1)`` is above 20,000.
    """
    n, d = whole("num_points", num_points, least=2), whole("dim", dim, least=2)
    if n * (d - 1) > MAX_VARIABLES:
        raise InputError(
            f"num_points={n}, dim={d}: a search takes at most {MAX_VARIABLES} for num_points x "
            "(dim - 1); use fewer points"
        )
    return n, d


@dataclass
class Search:
    """A search that can be stopped and continued at any batch.

    Attributes:
        num_points: number of points n.
        dim: dimension d.
        seed: seed of all randomness.
        found: the best so far; give that of an earlier search to continue it.
        target: max cosine that is good enough; None goes on until a proven lower bound is met.
        from_codes: whether to use the constructions of :mod:`hyperface_jax.codes`.
    """

    num_points: int
    dim: int
    seed: int = 0
    found: Found = field(default_factory=Found)
    target: float | None = None
    from_codes: bool = True

    def __post_init__(self) -> None:
        n, d = checked_size(self.num_points, self.dim)
        self._codes = near_codes(n, d) if self.from_codes else []
        kinds = [kind for kind in _SHARES if kind != "codes" or self._codes]
        self._spent, self._guesses = dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, _FIRST_GUESS)
        self._waiting: dict[int, list[Trial]] = {}
        self._symmetric, self._plain = _Niche(), _Niche()
        self._symmetries = Symmetries(n, d)
        optimum = bounds.tightest(n, d).value + _MET
        self._goal = optimum if self.target is None else max(self.target, optimum)
        if self.found.x is not None:
            self._plain.take(plain(self.found.x, self.found.max_cosine))
        if self._codes:
            self._take_construction()

    def advance(self) -> None:
        """Optimize a batch of trials on each core, of the kinds that are behind their share of time."""
        started = time.perf_counter()
        batches = [self._drawn(self.found.num_batches + i) for i in range(_num_workers())]
        for batch, (reached, took) in zip(batches, _side_by_side(batches), strict=True):
            self.found.num_trials += len(reached)
            self.found.num_batches += 1
            self._spent[batch.kind] += took - batch.guess
            self._guesses[batch.kind] = took
            self._keep(reached, batch.kind)
        self.found.seconds += time.perf_counter() - started

    def _drawn(self, number: int) -> _Batch:
        """Draw the trials of a batch; its time is guessed until it is known."""
        rng = np.random.default_rng((self.seed, number))
        kind = min(self._spent, key=lambda kind: self._spent[kind] / _SHARES[kind])
        if kind == "changes" and not (self._symmetric.best or self._plain.best):
            kind = "groups"
        guess = self._guesses[kind]
        self._spent[kind] += guess
        return _Batch(kind, *self._trials(kind, rng), guess)

    def _take_construction(self) -> None:
        code = self._codes[0]
        x = fitted(code, self.num_points, np.random.default_rng(self.seed))
        self._take(polished(plain(x, measured(x))), f"construction {code.name}")

    def _trials(self, kind: str, rng: np.random.Generator) -> tuple[list[Trial], Array]:
        """Return trials with about as many representatives, and how hot each begins, from 0 to 1."""
        if kind == "groups":
            trials = self._with_symmetry(rng)
            return trials, np.ones(len(trials))
        if kind == "changes":
            return self._changed(rng)
        count = batch_size(self.num_points, self.num_points)
        make = self._from_code if kind == "codes" else self._from_nothing
        trials = [plain(make(rng), 2.0) for _ in range(count)]
        heat = rng.uniform(0.0, 0.5, size=count) if kind == "codes" else np.ones(count)
        return trials, heat

    def _from_nothing(self, rng: np.random.Generator) -> Array:
        return unit_rows(rng.normal(size=(self.num_points, self.dim)))

    def _from_code(self, rng: np.random.Generator) -> Array:
        code = self._codes[int(rng.integers(len(self._codes)))]
        return fitted(code, self.num_points, rng)

    def _with_symmetry(self, rng: np.random.Generator) -> list[Trial]:
        """Draw groups until a batch of about as many representatives is full."""
        while True:
            symmetry = self._symmetries.draw(rng)
            for _ in range(_STARTS_A_GROUP):
                placed = composed(symmetry.types, self.num_points, rng)
                if placed is None:
                    break
                orbits, x = placed
                bucket = bucket_of(len(x), self.num_points)
                waiting = self._waiting.setdefault(bucket, [])
                waiting.append(Trial(x, orbits, 2.0, symmetry))
                if len(waiting) >= batch_size(bucket, self.num_points):
                    return self._waiting.pop(bucket)

    def _changed(self, rng: np.random.Generator) -> tuple[list[Trial], Array]:
        """Change packings of the population, with their symmetry, a part of it, or none."""
        symmetric, others = self._symmetric.best, self._plain.best
        is_symmetric = symmetric and (not others or rng.random() < _SYMMETRIC)
        population = symmetric if is_symmetric else others
        place = min(int(rng.geometric(0.4)) - 1, len(population) - 1)
        parent = relaxed(population[place], rng)
        count = batch_size(bucket_of(len(parent.x), self.num_points), self.num_points)
        pairs = [changed(parent, rng) for _ in range(count)]
        return [trial for trial, _ in pairs], np.array([heat for _, heat in pairs])

    def _keep(self, reached: list[Trial], kind: str) -> None:
        """Polish the best of a batch, and take them into the population if they are new."""
        for trial in reached:
            if trial.symmetry:
                self._symmetries.note(trial.symmetry, trial.max_cosine)
        for trial in sorted(reached, key=lambda trial: trial.max_cosine)[:_POLISHED]:
            rough, niche = trial.max_cosine, self._niche(trial)
            is_new = all(abs(rough - other) > _ALIKE for other in niche.rough)
            if is_new and rough < niche.admits:
                niche.rough.append(rough)
                is_promising = rough < min(niche.rough) + _PROMISING
                self._take(polished(trial) if is_promising else trial, kind)

    def _take(self, trial: Trial, kind: str) -> None:
        if trial.max_cosine < self.found.max_cosine - _LOWER:
            of = f" of {trial.symmetry.family}" if trial.symmetry else ""
            self._take_best(trial, f"{kind}{of}, {len(trial.x)} representatives")
        self._niche(trial).take(trial)

    def _niche(self, trial: Trial) -> _Niche:
        return self._symmetric if trial.symmetry else self._plain

    def is_short_of(self, seconds: float) -> bool:
        """Tell whether there is time for another batch in a search of so many seconds."""
        if self.found.x is None:
            return True
        return not self.is_done and self.found.seconds < _SEARCHED * seconds

    @property
    def is_done(self) -> bool:
        """Whether the target is met, or a bound below which no packing is."""
        return self.found.max_cosine <= self._goal

    def finish(self, seconds: float) -> None:
        """Polish the best packing without its symmetry, and others in the time that is left.

        Nothing is done if the best one is good enough.
        """
        started, spent = time.perf_counter(), self.found.seconds
        for points, origin in self._candidates():
            if self.is_done or (self.found.seconds > seconds and self.found.seconds > spent):
                return
            self._polish_all(points, origin)
            self.found.seconds = spent + time.perf_counter() - started

    def _candidates(self) -> Iterator[tuple[Array, str]]:
        """Yield packings to be polished and where they are from, the best first."""
        if self.found.x is None:
            return
        yield self.found.x, self.found.origin
        others = [*self._symmetric.best, *self._plain.best]
        for trial in sorted(others, key=lambda trial: trial.max_cosine):
            if trial.max_cosine < self.found.max_cosine + _CLOSE:
                yield trial.points, f"another one of {len(trial.x)} representatives"

    def _polish_all(self, points: Array, origin: str) -> None:
        rng = np.random.default_rng(self.seed)
        result = polish(unit_rows(points + _NOISE * rng.normal(size=points.shape)))
        if result.max_cosine < self.found.max_cosine - _LOWER:
            trial = plain(result.x, result.max_cosine)
            self._take_best(trial, f"{origin}, then all points polished")

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
    from_codes: bool = True,
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
        from_codes: whether to begin with the best construction of :mod:`hyperface_jax.codes`, and to
            try others with about as many points.
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
    running = Search(num_points, dim, seed, target=target, from_codes=from_codes)
    while running.is_short_of(seconds):
        running.advance()
        if callback:
            callback(running.found)
    running.finish(seconds)
    return running.found


def measured(x: Array) -> float:
    """Return the max cosine of rows ``[n, d]`` in float64, over all pairs."""
    x = unit_rows(np.asarray(x, np.float64))
    cosines = x @ x.T
    np.fill_diagonal(cosines, -1.0)
    return float(cosines.max())


def _num_workers() -> int:
    """Return the number of cores, of which a batch keeps one busy; it keeps a whole accelerator busy."""
    if jax.default_backend() != "cpu":
        return 1
    is_known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if is_known else os.cpu_count() or 1


def _side_by_side(batches: list[_Batch]) -> list[tuple[list[Trial], float]]:
    """Optimize batches in threads, and return what they reached and the seconds that each took."""

    def timed(batch: _Batch) -> tuple[list[Trial], float]:
        started = time.perf_counter()
        return annealed(batch.trials, batch.heat), time.perf_counter() - started

    if len(batches) == 1:
        return [timed(batches[0])]
    with ThreadPoolExecutor(len(batches)) as workers:
        return list(workers.map(timed, batches))
