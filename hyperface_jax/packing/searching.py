"""A search for the best packings of a few hundred points, where independent restarts get stuck.

It begins with the best construction, and spends its time on these kinds of trials, each a batch under
one ``vmap``:

* packings with the symmetry of a random finite group, whose representatives are optimized; a quick
  optimization screens eight starts for each that goes on;
* others with the groups that gave the best packings;
* changes of the best packings so far (a population): moved points, or points removed and put back into
  the largest holes, with or without the symmetry;
* known constructions, with points taken away, or added in sets of their deepest holes;
* independent restarts.

Each trial is an annealed soft maximum. The best of a batch are polished in float64.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from hyperface_jax import bounds
from hyperface_jax.codes import SphericalCode
from hyperface_jax.errors import InputError
from hyperface_jax.packing.batches import CHANGES, Batches
from hyperface_jax.packing.blas import one_blas_thread
from hyperface_jax.packing.contact_pairs import unit_rows
from hyperface_jax.packing.inputs import whole
from hyperface_jax.packing.interior_point import MAX_VARIABLES, polish
from hyperface_jax.packing.near_codes import fitted, near_codes
from hyperface_jax.packing.trials import Trial, plain, polished

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_SHARES = {"groups": 0.4, "good groups": 0.2, "changes": 0.2, "codes": 0.1}
"""Shares of time; changes are of the best packings with symmetry."""
_PLAIN_SHARES = {"plain changes": 0.1, "restarts": 0.05}
"""Shares of time of more trials without, up to 200 points; with more they are slow, and rarely best."""
_SHARES_WITHOUT = {
    "groups": 0.25,
    "good groups": 0.1,
    "changes": 0.1,
    "plain changes": 0.25,
    "codes": 0.25,
}
"""Those that differ while the best packing is without symmetry, or no better one with it is found."""
_PLAIN_POINTS = 200
_TRIED, _BEHIND, _LESS = 300, 3e-3, 0.2
"""Constructions get a fifth of their time after so many trials that all ended so far behind."""
_SEARCHED = 0.9
_PATIENCE, _PATIENT = 600, 2.0
"""Trials with symmetry after which there are more without: so many, and twice those to the best one."""
_POPULATION = 8
_POLISHED, _POLISHING = 8, 0.25
"""Most packings of a batch that are polished, and the share of the time of their optimization for it."""
_PROMISING = 1e-4
_ALIKE = 1e-8
_DIFFERENT, _LOWER = 1e-7, 1e-12
_MET = 1e-12
_NOISE = 1e-4
_MOST_NEWTON_STEPS = 150
_CLOSE = 1e-3
"""How much worse a packing may be that could become the best when all of its points are polished."""
_APART = 1 - 1e-6


@dataclass
class _Niche:
    """The best packings with symmetry, or without; those with a little less of it are a bit better.

    Attributes:
        best: the best, and all different.
        rough: the max cosines of those that were taken in, before they were polished.
        num_trials: number of trials so far.
        num_useful: number of those until the best was found.
    """

    best: list[Trial] = field(default_factory=list)
    rough: list[float] = field(default_factory=list)
    num_trials: int = 0
    num_useful: int = 0

    @property
    def is_stuck(self) -> bool:
        """Whether most of the trials came after the best packing was found, and they were not few."""
        return self.num_trials > max(_PATIENCE, _PATIENT * self.num_useful)

    @property
    def lowest(self) -> float:
        """The max cosine of the best."""
        return self.best[0].max_cosine if self.best else float("inf")

    @property
    def admits(self) -> float:
        """Max cosine below which a packing is taken in, which a polish may still lower."""
        is_full = len(self.best) == _POPULATION
        return self.best[-1].max_cosine + _PROMISING if is_full else _APART

    def is_candidate(self, rough: float) -> bool:
        """Tell whether a packing that was not polished yet may be taken in, and was not seen before."""
        return rough < self.admits and all(abs(rough - other) > _ALIKE for other in self.rough)

    def is_promising(self, rough: float) -> bool:
        """Tell whether a polish may make a candidate one of the best."""
        return rough < min(self.rough, default=_APART) + _PROMISING

    def take(self, trial: Trial) -> bool:
        """Take a packing in, unless it is known or worse than all; tell whether it was."""
        if any(abs(trial.max_cosine - other.max_cosine) <= _DIFFERENT for other in self.best):
            return False
        if trial.max_cosine < self.lowest:
            self.num_useful = self.num_trials
        best = sorted([*self.best, trial], key=lambda known: known.max_cosine)
        self.best = best[:_POPULATION]
        return any(trial is other for other in self.best)


@dataclass
class News:
    """What a search did since it was last asked.

    Attributes:
        taken: packings that it took into its populations, each with the kind of trial that gave it.
        num_trials: number of packings that were optimized.
        num_batches: number of batches.
    """

    taken: list[tuple[Trial, str]] = field(default_factory=list)
    num_trials: int = 0
    num_batches: int = 0


@dataclass
class Found:
    """What a search has found so far.

    Attributes:
        x: ``[n, d]`` float64 unit rows, the best packing; None before the first batch.
        max_cosine: its max cosine.
        num_trials: number of packings that were optimized.
        num_batches: number of batches.
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
    """A search on one core, or on an accelerator, that can be stopped and continued at any batch.

    Several can search side by side, and tell each other what they found: :mod:`.islands`.

    Attributes:
        num_points: number of points n.
        dim: dimension d.
        seed: seed of all randomness.
        found: the best so far; give that of an earlier search to continue it.
        target: max cosine that is good enough; None goes on until a proven lower bound is met.
        from_codes: whether to use the constructions of :mod:`hyperface_jax.codes`.
        island: number of a search beside others, which draws other random numbers.
    """

    num_points: int
    dim: int
    seed: int = 0
    found: Found = field(default_factory=Found)
    target: float | None = None
    from_codes: bool = True
    island: int = 0

    def __post_init__(self) -> None:
        n, d = checked_size(self.num_points, self.dim)
        codes = near_codes(n, d) if self.from_codes else []
        self._batches = Batches(n, d, codes)
        self._shares = _shares(n)
        self._spent = dict.fromkeys(self._shares, 0.0)
        self._number, self._news = self.found.num_batches, News()
        self._codes_tried, self._codes_lowest = 0, float("inf")
        self._symmetric, self._plain = _Niche(), _Niche()
        optimum = bounds.tightest(n, d).value + _MET
        self._goal = optimum if self.target is None else max(self.target, optimum)
        if self.found.x is not None:
            self._plain.take(plain(self.found.x, self.found.max_cosine))
        if codes:
            self._take_construction(codes[0])

    def advance(self) -> None:
        """Optimize a batch of trials, of the kind that is the farthest behind its share of time."""
        started = time.perf_counter()
        self._batches.leave_out(self.found.max_cosine)
        kind = self._next_kind()
        rng = np.random.default_rng((self.seed, self._number, self.island))
        with one_blas_thread():
            batch = self._batches.draw(kind, self._population(kind), rng)
            optimizing = time.perf_counter()
            reached = batch.optimized()
            self._keep(reached, kind, _POLISHING * (time.perf_counter() - optimizing))
        self._number += 1
        for figures in (self.found, self._news):
            figures.num_trials += len(reached)
            figures.num_batches += 1
        seconds = time.perf_counter() - started
        self._note(kind, reached, seconds)
        self.found.seconds += seconds

    @property
    def settings(self) -> tuple[int, int, int, Found, float | None, bool]:
        """The arguments of a search beside this one, but for its number."""
        return self.num_points, self.dim, self.seed, self.found, self.target, self.from_codes

    def so_far(self) -> News:
        """Return the best packings, for a search that begins later."""
        return News([(trial, "") for trial in (*self._symmetric.best, *self._plain.best)])

    def news(self) -> News:
        """Return what was done since this was last called."""
        news, self._news = self._news, News()
        return news

    def hear(self, news: News) -> None:
        """Take over what another search found."""
        self.found.num_trials += news.num_trials
        self.found.num_batches += news.num_batches
        self._batches.note_groups([trial for trial, _ in news.taken])
        for trial, kind in news.taken:
            self._take(trial, kind)

    def _note(self, kind: str, reached: list[Trial], seconds: float) -> None:
        """Remember what a batch reached, and the time that it took."""
        self._spent[kind] += seconds
        if kind == "codes":
            self._codes_tried += len(reached)
            lowest = min(trial.max_cosine for trial in reached)
            self._codes_lowest = min(self._codes_lowest, lowest)
        self._batches.note(kind, reached, seconds)
        for trial in reached:
            self._niche(trial).num_trials += 1

    def _next_kind(self) -> str:
        """Return the kind that is the farthest behind its share of time."""
        shares = self._shares
        if self._leading is self._plain or self._symmetric.is_stuck:
            shares = shares | _SHARES_WITHOUT
        if self._codes_are_behind:
            shares = shares | {"codes": _LESS * shares["codes"]}
        useful = [kind for kind in self._shares if kind != "codes" or self._batches.codes]
        kind = min(useful, key=lambda kind: self._spent[kind] / shares[kind])
        has_to_wait = kind in (*CHANGES, "good groups") and not self._population(kind)
        if not has_to_wait:
            return kind
        return "restarts" if kind == "plain changes" else "groups"

    @property
    def _codes_are_behind(self) -> bool:
        """Whether constructions were tried enough, and always ended far above the best packing."""
        is_far = self._codes_lowest > self.found.max_cosine + _BEHIND
        return self._codes_tried >= _TRIED and is_far

    def _population(self, kind: str) -> list[Trial]:
        """Return the packings that a batch goes on from."""
        return (self._plain if kind == "plain changes" else self._symmetric).best

    @property
    def _leading(self) -> _Niche:
        """The niche with the best packing."""
        return self._plain if self._plain.lowest < self._symmetric.lowest else self._symmetric

    def _take_construction(self, code: SphericalCode) -> None:
        x = fitted(code, self.num_points, np.random.default_rng(self.seed))
        self._take(polished(plain(x, measured(x))), f"construction {code.name}")

    def _keep(self, reached: list[Trial], kind: str, seconds: float) -> None:
        """Take the best of a batch into the population if they are new, polished if there is time."""
        begun = time.perf_counter()
        best = sorted(reached, key=lambda trial: trial.max_cosine)[:_POLISHED]
        for place, trial in enumerate(best):
            is_in_time = place == 0 or time.perf_counter() - begun < seconds
            niche, rough = self._niche(trial), trial.max_cosine
            if not niche.is_candidate(rough):
                continue
            kept = polished(trial) if is_in_time and niche.is_promising(rough) else trial
            niche.rough.append(rough)
            if self._take(kept, kind):
                self._news.taken.append((kept, kind))

    def _take(self, trial: Trial, kind: str) -> bool:
        """Take a packing into its population; tell whether it is new and good enough."""
        if trial.max_cosine < self.found.max_cosine - _LOWER:
            of = f" of {trial.symmetry.family}" if trial.symmetry else ""
            self._take_best(trial, f"{kind}{of}, {len(trial.x)} representatives")
        return self._niche(trial).take(trial)

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
        noisy = unit_rows(points + _NOISE * rng.normal(size=points.shape))
        result = polish(noisy, max_iterations=_MOST_NEWTON_STEPS)
        if result.max_cosine < self.found.max_cosine - _LOWER:
            trial = plain(result.x, result.max_cosine)
            self._take_best(trial, f"{origin}, then all points polished")

    def _take_best(self, trial: Trial, origin: str) -> None:
        x = trial.points
        cosine = measured(x)
        if cosine < self.found.max_cosine:
            self.found.x, self.found.max_cosine, self.found.origin = x, cosine, origin


def _shares(num_points: int) -> dict[str, float]:
    """Return the shares of time of the kinds of trials."""
    scale = min(1.0, _PLAIN_POINTS / num_points)
    return _SHARES | {kind: scale * share for kind, share in _PLAIN_SHARES.items()}


def measured(x: Array) -> float:
    """Return the max cosine of rows ``[n, d]`` in float64, over all pairs."""
    x = unit_rows(np.asarray(x, np.float64))
    cosines = x @ x.T
    np.fill_diagonal(cosines, -1.0)
    return float(cosines.max())
