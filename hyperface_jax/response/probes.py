"""Probes: conditions whose faces were drawn and embedded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.packing.inputs import unit_rows


class Probes(NamedTuple):
    """What was measured of a generator, on the host.

    Attributes:
        conditions: unit rows, float32 ``[m, d]``.
        means: mean of the unit embeddings of the faces drawn from each condition, float32 ``[m, d]``;
            its length says how much these faces agree.
        counts: number of those faces, ``[m]``, at least 1.
        noise: variance of a single face's embedding around the mean of its condition, summed over the
            coordinates; pooled over all conditions.
    """

    conditions: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    noise: float


def probes_of(conditions: Any, embeddings: Any, identities: Any) -> Probes:
    """Summarize the faces of conditions.

    Args:
        conditions: rows of any float type, ``[n, d]``; rows that do not have unit length are normalized.
        embeddings: embeddings of faces, ``[k, d]``, normalized in the same way.
        identities: number of the condition of each face, ``[k]``.

    Returns:
        The probes of the conditions that have a face. If none has two, the noise is taken from the
        lengths of single embeddings around the mean of all, which overestimates it.

    Raises:
        InputError: the shapes do not fit together, there is no face, or a row is zero or not finite.
    """
    x = np.asarray(unit_rows("conditions", conditions), np.float32)
    faces = np.asarray(unit_rows("embeddings", embeddings, x.shape[1]), np.float32)
    own = np.asarray(identities)
    if own.shape != (len(faces),):
        raise InputError(
            f"identities: shape {own.shape} for {len(faces)} embeddings; give one number for each face"
        )
    if own.min() < 0 or own.max() >= len(x):
        raise InputError(
            f"identities: must be between 0 and {len(x) - 1}, the numbers of the conditions"
        )
    sums = np.zeros(x.shape, np.float64)
    np.add.at(sums, own, faces)
    counts = np.bincount(own, minlength=len(x))
    kept = np.flatnonzero(counts)
    means = sums[kept] / counts[kept, None]
    # The embeddings have unit length, so their variance follows from the length of the mean.
    scatter = float(np.sum(counts[kept] * (1 - np.sum(means**2, axis=1))))
    freedom = int(np.sum(counts[kept] - 1))
    noise = scatter / freedom if freedom else float(1 - np.sum(means.mean(axis=0) ** 2))
    return Probes(x[kept], means.astype(np.float32), counts[kept], noise)


def pool(parts: Sequence[Probes] | Iterable[Probes]) -> Probes:
    """Put probes together; a condition that was measured twice stays two probes.

    Raises:
        InputError: there are no parts, or their dimensions differ.
    """
    parts = list(parts)
    dims = {part.conditions.shape[1] for part in parts}
    if len(dims) != 1:
        raise InputError(f"probes: dimensions {sorted(dims)}; give parts of one dimension")
    freedom = np.array([max(np.sum(part.counts - 1), 1) for part in parts], float)
    return Probes(
        np.concatenate([part.conditions for part in parts]),
        np.concatenate([part.means for part in parts]),
        np.concatenate([part.counts for part in parts]),
        float(np.average([part.noise for part in parts], weights=freedom)),
    )


def padded_rows(num: int) -> np.ndarray:
    """Return row numbers, repeated to fill a power of two, so that one program serves many rounds."""
    return np.arange(1 << (num - 1).bit_length()) % num
