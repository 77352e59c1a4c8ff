"""Fidelity of rendering: how close faces come to their identities, and how far apart these stay.

A packing spreads embeddings, but a recognizer is trained on faces, and the embeddings of the faces are
less spread out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line, os_input_error
from hyperface_jax.pairwise import Sweep, first_rows, max_cosine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FACE_EMBEDDINGS = "embeddings"
"""Folder in a data set for the embeddings of its faces."""
_MOST_ROWS = 20_000


class FaceEmbeddings(NamedTuple):
    """Unit embeddings of faces, float32 ``[n, d]``, and the identity of each, ``[n]``."""

    embeddings: np.ndarray
    identities: np.ndarray


class Fidelity(NamedTuple):
    """Cosines between targets and the mean directions of their faces.

    Attributes:
        num_measured: number of identities with at least one face.
        target_cosine: mean cosine between an identity's mean face and its target.
        within_cosine: mean cosine between a face and the mean face of its identity.
        nearest_before: cosine between each target and the nearest other one.
        nearest_after: cosine between each mean face and the nearest other one.
    """

    num_measured: int
    target_cosine: float
    within_cosine: float
    nearest_before: np.ndarray
    nearest_after: np.ndarray

    def summary(self) -> dict[str, Any]:
        """Return the figures as JSON values, with the mean and maximum of the nearest cosines."""
        before, after = self.nearest_before, self.nearest_after
        return {
            "num_measured": self.num_measured,
            "target_cosine": self.target_cosine,
            "within_cosine": self.within_cosine,
            "nearest_rows": len(after),
            "nearest_before_mean": float(before.mean()),
            "nearest_before_max": float(before.max()),
            "nearest_after_mean": float(after.mean()),
            "nearest_after_max": float(after.max()),
        }


def fidelity(targets: np.ndarray, parts: Iterable[FaceEmbeddings]) -> Fidelity | None:
    """Compare faces with the targets that they were drawn for.

    Args:
        targets: the packing, unit rows ``[n, d]``.
        parts: embeddings of the faces, split into parts in any way and order.

    Returns:
        The figures; None if fewer than two identities have a face. Nearest cosines are computed from
        all identities with a face, or from the first 20,000 of them, to all the others.

    Cost: O(n d) memory, and twice ``2 min(n, 20000) n d`` FLOPs.
    """
    sums, num_images = face_sums(targets.shape, parts)
    lengths = np.linalg.norm(sums, axis=1)
    has_face = lengths > 0
    if has_face.sum() < 2:
        return None
    kept = targets[has_face]
    means = (sums[has_face] / lengths[has_face, None]).astype(np.float32)
    return Fidelity(
        int(has_face.sum()),
        float(np.mean(np.sum(means * kept, axis=1))),
        float(lengths.sum() / num_images),
        _nearest(kept),
        _nearest(means),
    )


def face_sums(shape: tuple[int, ...], parts: Iterable[FaceEmbeddings]) -> tuple[np.ndarray, int]:
    """Add up the embeddings of the faces of each identity.

    Args:
        shape: number of identities and dimension, ``(n, d)``.
        parts: embeddings of the faces, split into parts in any way and order.

    Returns:
        The sums, float64 ``[n, d]``, which are zero for identities without a face, and the number of
        faces.
    """
    sums = np.zeros(shape)
    num_images = 0
    for part in parts:
        np.add.at(sums, part.identities, part.embeddings)
        num_images += len(part.identities)
    return sums, num_images


def read_face_embeddings(paths: Iterable[Path]) -> Iterator[FaceEmbeddings]:
    """Read the embeddings of the faces of each shard.

    Raises:
        InputError: a file cannot be read or is damaged.
    """
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as archive:
                yield FaceEmbeddings(archive["embeddings"], archive["identities"])
        except OSError as error:
            raise os_input_error(path, "cannot read", error) from error
        except (KeyError, ValueError) as error:
            raise InputError(
                f"{one_line(path)}: damaged ({one_line(error)}); remove it and the shard's manifest, "
                "and run again"
            ) from error


def _nearest(points: np.ndarray) -> np.ndarray:
    return np.asarray(_nearest_others(jnp.asarray(points)))


@jax.jit  # Without it, the loop of a sweep would be compiled again at each call.
def _nearest_others(x: jax.Array) -> jax.Array:
    rows = first_rows(x, min(_MOST_ROWS, len(x)))
    return Sweep().among(rows, x, reduction=max_cosine())
