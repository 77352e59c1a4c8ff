"""What rendering did to the identities: how near their faces came, and how far apart they stayed.

A packing parts embeddings; what trains a recognizer are faces, whose embeddings part less.
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
"""Folder of a data set for the embeddings of its faces."""
_MOST_ROWS = 20_000


class FaceEmbeddings(NamedTuple):
    """Unit embeddings of faces, float32 ``[n, d]``, and the identities they were drawn for, ``[n]``."""

    embeddings: np.ndarray
    identities: np.ndarray


class Fidelity(NamedTuple):
    """Cosines between targets and the mean directions of their faces.

    Attributes:
        num_measured: identities with a face.
        target_cosine: mean cosine of an identity's mean face to its target.
        within_cosine: mean cosine of a face to the mean face of its identity.
        nearest_before: cosine of each target to the nearest other one, of ``num_rows`` of them.
        nearest_after: the same of the mean faces.
    """

    num_measured: int
    target_cosine: float
    within_cosine: float
    nearest_before: np.ndarray
    nearest_after: np.ndarray

    def summary(self) -> dict[str, Any]:
        """Return the figures in terms of JSON: mean and maximum of the nearest cosines."""
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
        targets: unit rows ``[n, d]``, the packing.
        parts: embeddings of the faces, in any order and any cut.

    Returns:
        The figures; None if fewer than two identities have a face. Nearest cosines are those of all
        identities with a face, or of the first 20,000 to all.

    Cost: O(n d) memory, ``2 min(n, 20000) n d`` FLOPs twice.
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
        shape: identities and dimension, ``(n, d)``.
        parts: embeddings of the faces, in any order and any cut.

    Returns:
        The sums, float64 ``[n, d]``, zero where an identity has no face; and the number of faces.
    """
    sums = np.zeros(shape)
    num_images = 0
    for part in parts:
        np.add.at(sums, part.identities, part.embeddings)
        num_images += len(part.identities)
    return sums, num_images


def read_face_embeddings(paths: Iterable[Path]) -> Iterator[FaceEmbeddings]:
    """Read the embeddings that a recognizer gave to the faces of each shard.

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


@jax.jit  # Outside of one, the loop of a sweep is compiled anew at each call.
def _nearest_others(x: jax.Array) -> jax.Array:
    rows = first_rows(x, min(_MOST_ROWS, len(x)))
    return Sweep().among(rows, x, reduction=max_cosine())
