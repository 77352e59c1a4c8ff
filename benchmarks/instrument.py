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

from hyperface_jax import evaluation, sphere
from hyperface_jax.faces.flax_recognizer import load_recognizer
from hyperface_jax.toyfaces.parameters import BENCHMARKS
from hyperface_jax.toyfaces.population import image_nuisance, sample_identities, split_key
from hyperface_jax.toyfaces.renderer import draw_batches

NUM_PERSONS = 1200
IMAGES_PER_PERSON = 4
"""Half of them in each of the two circumstances of a preset."""
_BATCH = 512


@lru_cache(maxsize=8)
def images_of(seed: int, preset: str, num_persons: int = NUM_PERSONS) -> np.ndarray:
    """Draw the test images of a preset, uint8 ``[num_persons * 4, 32, 32, 3]``, person by person."""
    key = split_key(seed, "test")
    person = np.repeat(np.arange(num_persons), IMAGES_PER_PERSON)
    picture = np.tile(np.arange(IMAGES_PER_PERSON), num_persons)
    latents = np.asarray(sample_identities(key, num_persons).latents)[person]
    sides = [image_nuisance(key, person, picture, preset=preset, side=side) for side in (0, 1)]
    is_second = picture >= IMAGES_PER_PERSON // 2
    nuisance = jnp.where(is_second[:, None], sides[1], sides[0])
    return np.concatenate([*draw_batches(jnp.asarray(latents), nuisance, size=32)])


def measure(model: Path, seed: int, num_persons: int = NUM_PERSONS) -> dict[str, dict[str, Any]]:
    """Return, for each circumstance: EER, TAR at 1e-3 and 1e-4, and the rank-1 rate."""
    recognizer = load_recognizer(model)
    persons = np.repeat(np.arange(num_persons), IMAGES_PER_PERSON)
    found = {}
    for preset in BENCHMARKS:
        images = images_of(seed, preset, num_persons)
        starts = range(0, len(images), _BATCH)
        raw = np.concatenate([recognizer(images[start : start + _BATCH]) for start in starts])
        unit = np.asarray(sphere.normalize(jnp.asarray(raw)))
        pairs = evaluation.all_pairs(unit, persons)
        tar = pairs.separation.tar_at_far
        found[preset] = {
            "eer": pairs.separation.eer,
            "tar_at_far_1e-3": tar[1e-3],
            "tar_at_far_1e-4": tar[1e-4],
            "rank_1": pairs.rank_1,
        }
    return found
