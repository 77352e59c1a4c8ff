"""Changes of a packing that a search has found, from which it goes on."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from hyperface_jax.packing.contact_pairs import unit_rows
from hyperface_jax.packing.orbits import orbits_of
from hyperface_jax.packing.trials import Trial, most_representatives, plain

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_HOLES = 200
_RELAXED = 0.3
_SHAKEN, _STIRRED = 0.3, 0.35


def changed(parent: Trial, rng: np.random.Generator) -> tuple[Trial, float]:
    """Change a packing at random.

    Returns:
        The changed packing with the same symmetry, and how hot its optimization begins, from 0 to 1.
    """
    chance, heat = rng.random(), float(rng.uniform(0.1, 0.7))
    if chance < _SHAKEN:
        x, heat = _shaken(parent, rng), max(heat, 0.3)
    elif chance < _SHAKEN + _STIRRED:
        x, heat = _stirred(parent, rng), min(heat, 0.4)
    else:
        x = _put_back(parent, rng)
    return parent._replace(x=parent.orbits.projected(x), max_cosine=2.0), heat


def relaxed(trial: Trial, rng: np.random.Generator) -> Trial:
    """Give up no symmetry, some of it, or all of it."""
    chance, points = rng.random(), trial.points
    if trial.symmetry and chance < _RELAXED:
        part = trial.symmetry.part(rng)
        orbits = orbits_of(points, part.group)
        if orbits.num_representatives <= most_representatives(len(points)):
            return Trial(points[orbits.first], orbits, trial.max_cosine, part)
    if trial.symmetry and chance < 1.5 * _RELAXED:
        return plain(points, trial.max_cosine)
    return trial


def _shaken(parent: Trial, rng: np.random.Generator) -> Array:
    """Move all representatives a little."""
    noise = rng.normal(size=parent.x.shape) / parent.x.shape[1] ** 0.5
    return parent.x + 10 ** rng.uniform(-1.5, -0.3) * noise


def _stirred(parent: Trial, rng: np.random.Generator) -> Array:
    """Move the representatives around a random point, far enough to change places."""
    count, dim = parent.x.shape
    chosen = np.argsort(parent.x @ rng.normal(size=dim))[
        : int(rng.integers(2, max(count // 4, 2) + 1))
    ]
    x = parent.x.copy()
    noise = rng.normal(size=(len(chosen), dim)) / dim**0.5
    x[chosen] += 10 ** rng.uniform(-1.0, 0.0) * noise
    return x


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
