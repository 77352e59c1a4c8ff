"""What a search tries next: batches of starts, drawn from groups, constructions and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from hyperface_jax.codes import SphericalCode
from hyperface_jax.packing.changes import changed, relaxed
from hyperface_jax.packing.contact_pairs import unit_rows
from hyperface_jax.packing.groups import Symmetries, Symmetry, one_of_the_first
from hyperface_jax.packing.near_codes import fitted
from hyperface_jax.packing.orbits import composed
from hyperface_jax.packing.trials import (
    Trial,
    annealed,
    batch_size,
    most_representatives,
    plain,
    screened,
)

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
CHANGES = "changes", "plain changes"
"""Kinds of batches that change the packings of a population."""
_STARTS_A_GROUP, _SCREENED = 10, 8
_SCREENED_AGAIN = 2
"""Starts that are screened for each that goes on, of new groups and of one that is known to be good."""
_MOST_GROUPS, _MOST_STARTS = 3, 1000
_HOTTEST_NEAR_CODES = 0.8
_PLACE = 0.4
_EQUAL = 1e-6


class Batch(NamedTuple):
    """Trials of a kind with about as many representatives.

    Attributes:
        trials: the trials, more than ``heat`` has entries if only the promising ones are to go on.
        heat: how hot each optimization begins, from 0 to 1.
    """

    trials: list[Trial]
    heat: Array

    def optimized(self) -> list[Trial]:
        """Optimize the trials, those of them that are promising."""
        count, trials = len(self.heat), self.trials
        return annealed(trials if len(trials) == count else screened(trials, count), self.heat)


@dataclass
class Batches:
    """Draws batches of packings of n points in ``R^d``.

    Attributes:
        num_points: number of points n.
        dim: dimension d.
        codes: constructions to go on from, whose points are no nearer than those of the best packing.
    """

    num_points: int
    dim: int
    codes: list[SphericalCode]
    _symmetries: Symmetries = field(init=False)
    _spent: dict[int, float] = field(init=False, default_factory=dict)
    _waiting: dict[int, list[Trial]] = field(init=False, default_factory=dict)
    """Starts with symmetry that wait for a full batch, by their rounded number of representatives."""

    def __post_init__(self) -> None:
        self._symmetries = Symmetries(self.num_points, self.dim)

    def draw(self, kind: str, population: list[Trial], rng: np.random.Generator) -> Batch:
        """Draw a batch.

        Args:
            kind: ``"groups"``, ``"good groups"``, one of :data:`CHANGES`, ``"codes"`` or ``"restarts"``.
            population: packings to be changed.
            rng: source of randomness.
        """
        if kind == "groups":
            return self._with_symmetry(rng)
        if kind == "good groups":
            return self._again(rng) or self._with_symmetry(rng)
        if kind in CHANGES:
            return self._changed(population, rng)
        count = batch_size(self.num_points, self.num_points, self.dim)
        if kind == "codes":
            points = [self._from_code(rng) for _ in range(count)]
            heat = rng.uniform(0.0, _HOTTEST_NEAR_CODES, size=count)
        else:
            points = [self._from_nothing(rng) for _ in range(count)]
            heat = np.ones(count)
        return Batch([plain(x, 2.0) for x in points], heat)

    def note(self, kind: str, reached: list[Trial], seconds: float) -> None:
        """Remember what a batch reached, and the time that it took."""
        self.note_groups(reached)
        if kind == "groups":
            size = reached[0].bucket
            self._spent[size] = self._spent.get(size, 0.0) + seconds

    def note_groups(self, trials: list[Trial]) -> None:
        """Remember what packings with symmetry reached."""
        for trial in trials:
            if trial.symmetry:
                self._symmetries.note(trial.symmetry, trial.max_cosine)

    def leave_out(self, max_cosine: float) -> None:
        """Leave constructions out whose points are nearer to each other than those of a packing."""
        self.codes = [code for code in self.codes if code.max_cosine <= max_cosine + _EQUAL]

    def _from_nothing(self, rng: np.random.Generator) -> Array:
        return unit_rows(rng.normal(size=(self.num_points, self.dim)))

    def _from_code(self, rng: np.random.Generator) -> Array:
        codes = self.codes
        return fitted(codes[int(rng.integers(len(codes)))], self.num_points, rng)

    def _with_symmetry(self, rng: np.random.Generator) -> Batch:
        """Draw groups until there are enough starts with about as many representatives.

        Starts with many representatives are the most common and the slowest, so they are drawn less
        often where they had more than their share of time.
        """
        while True:
            symmetry = self._symmetries.draw(rng)
            for _ in range(_STARTS_A_GROUP):
                trial = self._start(symmetry, rng)
                if trial is None:
                    break
                if rng.random() > self._share(trial.bucket):
                    continue
                if batch := self._filled(self._waiting, trial, _SCREENED):
                    return batch

    def _again(self, rng: np.random.Generator) -> Batch | None:
        """Draw starts with one of the groups that gave the best packings; None if they do not fit."""
        for _ in range(_MOST_GROUPS):
            symmetry = self._symmetries.one_of_the_best(rng)
            waiting: dict[int, list[Trial]] = {}
            for _ in range(_MOST_STARTS):
                trial = self._start(symmetry, rng)
                if trial and (batch := self._filled(waiting, trial, _SCREENED_AGAIN)):
                    return batch
        return None

    def _start(self, symmetry: Symmetry, rng: np.random.Generator) -> Trial | None:
        """Place orbits of a group; None if no choice fits, or the group hardly helps."""
        placed = composed(symmetry.types, self.num_points, rng)
        if placed is None or len(placed[1]) > most_representatives(self.num_points):
            return None
        orbits, x = placed
        return Trial(x, orbits, 2.0, symmetry)

    def _filled(
        self, waiting: dict[int, list[Trial]], trial: Trial, num_screened: int
    ) -> Batch | None:
        """Add a start to those that wait, and return a batch when it is full."""
        size = trial.bucket
        starts = waiting.setdefault(size, [])
        starts.append(trial)
        count = batch_size(size, self.num_points, self.dim)
        if len(starts) < num_screened * count:
            return None
        return Batch(waiting.pop(size), np.ones(count))

    def _share(self, size: int) -> float:
        """Return the share of starts with about as many representatives that are tried."""
        spent = self._spent
        if size not in spent:
            return 1.0
        return min(1.0, sum(spent.values()) / len(spent) / spent[size]) ** 2

    def _changed(self, population: list[Trial], rng: np.random.Generator) -> Batch:
        """Change packings of a population, with their symmetry, a part of it, or none."""
        parent = relaxed(one_of_the_first(population, _PLACE, rng), rng)
        count = batch_size(parent.bucket, self.num_points, self.dim)
        pairs = [changed(parent, rng) for _ in range(count)]
        return Batch([trial for trial, _ in pairs], np.array([heat for _, heat in pairs]))
