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

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from hyperface_jax import bounds
from hyperface_jax.codes import SphericalCode
from hyperface_jax.errors import InputError
from hyperface_jax.packing.batches import CHANGES, Batches, Waiting
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
"""Those that differ while the best packing is without symmetry."""
_PLAIN_POINTS = 200
_TRIED, _BEHIND, _LESS = 300, 3e-3, 0.2
"""Constructions get a fifth of their time after so many trials that all ended so far behind."""
_SEARCHED = 0.9
_POPULATION = 8
_POLISHED, _POLISHING = 8, 0.25
"""Most packings of a batch that are polished, and the share of the time of their optimization for it."""
_PROMISING = 1e-4
_ALIKE = 1e-8
_DIFFERENT, _LOWER = 1e-7, 1e-12
_MET = 1e-12
_FIRST_GUESS = 0.5
_NOISE = 1e-4
_MOST_NEWTON_STEPS = 150
_CLOSE = 1e-3
"""How much worse a packing may be that could become the best when all of its points are polished."""
_APART = 1 - 1e-6
_TURN = 1e-4
"""Seconds after which a thread lets others run."""


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

    def take(self, trial: Trial) -> None:
        """Take a packing in, unless it is known or worse than all."""
        if all(abs(trial.max_cosine - other.max_cosine) > _DIFFERENT for other in self.best):
            best = sorted([*self.best, trial], key=lambda known: known.max_cosine)
            self.best = best[:_POPULATION]


@dataclass
class _Worker:
    """A core, which one batch after another keeps busy.

    Attributes:
        kind: kind of trials of its batch.
        number: number of the batch.
        guess: seconds that it may take.
        waiting: starts that are left of its batches before.
    """

    kind: str = ""
    number: int = 0
    guess: float = 0.0
    waiting: Waiting = field(default_factory=dict)


class _Reached(NamedTuple):
    """What a batch reached: all, the best before and after a polish, and the seconds that it took."""

    trials: list[Trial]
    best: list[tuple[float, Trial]]
    seconds: float


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
        codes = near_codes(n, d) if self.from_codes else []
        self._batches = Batches(n, d, codes)
        self._shares = _shares(n)
        self._spent = dict.fromkeys(self._shares, 0.0)
        self._guesses = dict.fromkeys(self._shares, _FIRST_GUESS)
        self._codes_tried, self._codes_lowest = 0, float("inf")
        self._lock = Lock()
        self._workers = [_Worker() for _ in range(_num_workers())]
        self._symmetric, self._plain = _Niche(), _Niche()
        optimum = bounds.tightest(n, d).value + _MET
        self._goal = optimum if self.target is None else max(self.target, optimum)
        if self.found.x is not None:
            self._plain.take(plain(self.found.x, self.found.max_cosine))
        if codes:
            self._take_construction(codes[0])

    def advance(self) -> None:
        """Optimize batches of trials on all cores, of the kinds that are behind their share of time.

        A core that is done before the others goes on with another batch if there is time for it.
        """
        started = time.perf_counter()
        self._batches.leave_out(self.found.max_cosine)
        for worker in self._workers:
            self._plan(worker, self._next_kind())
        is_alone = len(self._workers) == 1
        end = started + (0.0 if is_alone else max(worker.guess for worker in self._workers))
        # The limit belongs to the process: that of a thread would end in the middle of another one.
        with one_blas_thread(), _short_turns():
            _side_by_side(partial(self._work_until, end), self._workers)
        self.found.seconds += time.perf_counter() - started

    def _work_until(self, end: float, worker: _Worker) -> None:
        """Optimize the planned batch, and others that can be done before the end."""
        while True:
            reached = self._work(worker)
            with self._lock:
                self._take_in(worker, reached)
                kind = self._next_kind()
                if time.perf_counter() + self._guesses[kind] > end:
                    return
                self._plan(worker, kind)

    def _take_in(self, worker: _Worker, reached: _Reached) -> None:
        self.found.num_trials += len(reached.trials)
        self._spent[worker.kind] += reached.seconds - worker.guess
        self._guesses[worker.kind] = reached.seconds
        if worker.kind == "codes":
            self._codes_tried += len(reached.trials)
            lowest = min(trial.max_cosine for trial in reached.trials)
            self._codes_lowest = min(self._codes_lowest, lowest)
        self._batches.note(worker.kind, reached.trials, reached.seconds)
        self._keep(reached, worker.kind)

    def _next_kind(self) -> str:
        """Return the kind that is the farthest behind its share of time."""
        shares = self._shares
        if self._leading is self._plain:
            shares = shares | _SHARES_WITHOUT
        if self._codes_are_behind:
            shares = shares | {"codes": _LESS * shares["codes"]}
        useful = [kind for kind in self._shares if kind != "codes" or self._batches.codes]
        kind = min(useful, key=lambda kind: self._spent[kind] / shares[kind])
        has_to_wait = kind in (*CHANGES, "good groups") and not self._population(kind)
        return "groups" if has_to_wait else kind

    def _plan(self, worker: _Worker, kind: str) -> None:
        """Give a worker its next batch, whose time is guessed until it is known."""
        worker.kind, worker.guess, worker.number = kind, self._guesses[kind], self.found.num_batches
        self._spent[kind] += worker.guess
        self.found.num_batches += 1

    @property
    def _codes_are_behind(self) -> bool:
        """Whether constructions were tried enough, and always ended far above the best packing."""
        is_far = self._codes_lowest > self.found.max_cosine + _BEHIND
        return self._codes_tried >= _TRIED and is_far

    def _work(self, worker: _Worker) -> _Reached:
        """Draw the trials of a batch, optimize them, and polish the best.

        The search itself is only read, because other workers do the same; what they read is replaced
        and never changed.
        """
        started = time.perf_counter()
        rng = np.random.default_rng((self.seed, worker.number))
        batch = self._batches.draw(worker.kind, self._population(worker.kind), worker.waiting, rng)
        optimizing = time.perf_counter()
        reached = batch.optimized()
        spare = _POLISHING * (time.perf_counter() - optimizing)
        best, begun = [], time.perf_counter()
        for trial in sorted(reached, key=lambda trial: trial.max_cosine)[:_POLISHED]:
            is_in_time = not best or time.perf_counter() - begun < spare
            is_polished = is_in_time and self._is_promising(trial)
            best.append((trial.max_cosine, polished(trial) if is_polished else trial))
        return _Reached(reached, best, time.perf_counter() - started)

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

    def _is_promising(self, trial: Trial) -> bool:
        """Tell whether a polish may make a packing one of the best, and a new one."""
        niche, rough = self._niche(trial), trial.max_cosine
        lowest = min(niche.rough, default=_APART)
        return niche.is_candidate(rough) and rough < lowest + _PROMISING

    def _keep(self, reached: _Reached, kind: str) -> None:
        """Take the best of a batch into the population if they are new."""
        for rough, trial in reached.best:
            niche = self._niche(trial)
            if niche.is_candidate(rough):
                niche.rough = [*niche.rough, rough]
                self._take(trial, kind)

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
        callback: called with what was found so far, each time that all cores have done a batch or more.

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


def _num_workers() -> int:
    """Return the number of cores, of which a batch keeps one busy; it keeps a whole accelerator busy."""
    if jax.default_backend() != "cpu":
        return 1
    is_known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if is_known else os.cpu_count() or 1


@contextmanager
def _short_turns() -> Iterator[None]:
    """Let threads take turns often: one that comes back from XLA waits for those that draw groups."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _side_by_side(work: Callable[[_Worker], None], workers: list[_Worker]) -> None:
    """Do the work of each worker in a thread of its own."""
    if len(workers) == 1:
        work(workers[0])
        return
    with ThreadPoolExecutor(len(workers)) as pool:
        list(pool.map(work, workers))
