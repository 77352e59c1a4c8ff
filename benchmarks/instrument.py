"""The instrument of the study: a recognizer on many unseen persons, all against all.

A verification set of 800 pairs carries a standard error of half a point by itself. Here a recognizer is
measured on over ten million pairs in each of five circumstances.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from hyperface_jax.evaluation.verification import num_allowed
from hyperface_jax.faces.flax_recognizer import load_recognizer
from hyperface_jax.toyfaces.faces import SIZE, embed_persons
from hyperface_jax.toyfaces.parameters import BENCHMARKS
from hyperface_jax.toyfaces.population import image_nuisance, sample_identities, split_key
from hyperface_jax.toyfaces.renderer import draw_batches

NUM_PERSONS = 1200
IMAGES_PER_PERSON = 4
"""Half of them in each of the two circumstances of a preset."""


@lru_cache(maxsize=8)
def images_of(seed: int, preset: str, num_persons: int = NUM_PERSONS) -> np.ndarray:
    """Draw the test images of a preset, uint8 ``[num_persons, 4, 32, 32, 3]``."""
    key = split_key(seed, "test")
    person = np.repeat(np.arange(num_persons), IMAGES_PER_PERSON)
    picture = np.tile(np.arange(IMAGES_PER_PERSON), num_persons)
    latents = np.asarray(sample_identities(key, num_persons).latents)[person]
    sides = [image_nuisance(key, person, picture, preset=preset, side=side) for side in (0, 1)]
    is_second = picture >= IMAGES_PER_PERSON // 2
    nuisance = jnp.where(is_second[:, None], sides[1], sides[0])
    images = np.concatenate([*draw_batches(jnp.asarray(latents), nuisance, size=SIZE)])
    return images.reshape(num_persons, IMAGES_PER_PERSON, *images.shape[1:])


def measure(model: Path, seed: int, num_persons: int = NUM_PERSONS) -> dict[str, dict[str, Any]]:
    """Return, for each circumstance: EER, TAR at 1e-3 and 1e-4, and the rank-1 rate."""
    recognizer = load_recognizer(model)
    persons = np.repeat(np.arange(num_persons), IMAGES_PER_PERSON)
    found = {}
    for preset in BENCHMARKS:
        unit = embed_persons(recognizer, images_of(seed, preset, num_persons)).embeddings
        found[preset] = figures_of(unit.reshape(len(persons), -1), persons)
    return found


def figures_of(unit: np.ndarray, persons: np.ndarray) -> dict[str, float | None]:
    """Return the figures of all pairs of unit rows ``[n, d]`` of persons ``[n]``.

    They are those of :func:`hyperface_jax.evaluation.all_pairs`, but for the interpolation of the EER,
    at a quarter of its cost, as no curve is kept.
    """
    cosines = unit @ unit.T
    is_later = np.tri(len(unit), k=-1, dtype=bool)
    is_same = persons[:, None] == persons[None]
    genuine = np.sort(cosines[is_same & is_later])
    impostor = np.sort(cosines[~is_same & is_later])
    first = np.unique(persons, return_index=True)[1]
    probes = np.setdiff1d(np.arange(len(unit)), first)
    best = persons[first[np.argmax(cosines[np.ix_(probes, first)], axis=1)]]
    return {
        "eer": _equal_error_rate(genuine, impostor),
        "tar_at_far_1e-3": _tar(genuine, impostor, 1e-3),
        "tar_at_far_1e-4": _tar(genuine, impostor, 1e-4),
        "rank_1": float(np.mean(best == persons[probes])),
    }


def _equal_error_rate(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Interpolate between the thresholds at sorted genuine scores."""
    rejected = np.arange(len(genuine)) / len(genuine)
    accepted = 1 - np.searchsorted(impostor, genuine) / len(impostor)
    excess = accepted - rejected
    after = int(np.argmax(excess <= 0))
    share = excess[after - 1] / (excess[after - 1] - excess[after])
    return float(rejected[after - 1] + share * (rejected[after] - rejected[after - 1]))


def _tar(genuine: np.ndarray, impostor: np.ndarray, far: float) -> float | None:
    allowed = num_allowed(far, len(impostor))
    if not allowed:
        return None
    return float(np.mean(genuine > impostor[-allowed - 1]))
