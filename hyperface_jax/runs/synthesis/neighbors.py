"""The nearest other identity of each identity of a data set, found once and kept in its folder.

Identities of a packing have many neighbors that are nearly as near as the nearest. Another machine could
round them into another order, so all workers and later runs read the same file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_save_npy, one_line, os_input_error
from hyperface_jax.synthesis.negatives import nearest_identities
from hyperface_jax.synthesis.shards import locked

if TYPE_CHECKING:
    from pathlib import Path

    from hyperface_jax.io.embeddings import Embeddings
    from hyperface_jax.runs.support.watch import Watch
    from hyperface_jax.synthesis.shards import DataSet

NEIGHBORS = "neighbors.npy"


def find_neighbors(data_set: DataSet, embeddings: Embeddings, watch: Watch) -> np.ndarray:
    """Return the nearest other identity of each, among those that the data set draws.

    Args:
        data_set: the data set, which must have been claimed; several workers may call this at the same
            time.
        embeddings: embeddings of the identities, of which the data set takes the first ones.
        watch: is told before the search.

    Returns:
        Numbers of identities, int64 ``[num_ids]``.

    Raises:
        InputError: the file cannot be written, or holds something else.
    """
    path, num_ids = data_set.path / NEIGHBORS, data_set.plan.num_ids
    with locked(data_set.lock_file(NEIGHBORS), wait=True):
        if not path.exists():
            watch.say(f"finding the nearest other identity of each of {num_ids}")
            atomic_save_npy(path, nearest_identities(embeddings.points[:num_ids]))
        return _read(path, num_ids)


def _read(path: Path, num_ids: int) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error
    except ValueError:
        found = np.zeros(0)
    is_whole = found.shape == (num_ids,) and found.dtype == np.int64
    if not is_whole or found.min() < 0 or found.max() >= num_ids:
        raise InputError(
            f"{one_line(path)}: not the neighbors of {num_ids} identities; remove it and run again"
        )
    return found
