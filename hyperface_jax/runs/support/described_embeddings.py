"""Code shared by the stages that describe embeddings: folders, devices and thresholds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from hyperface_jax.errors import InputError
from hyperface_jax.io.claims import refuse_foreign
from hyperface_jax.io.embedding_sets import open_embedding_set
from hyperface_jax.io.files import one_line, writing
from hyperface_jax.io.run_directory import SUMMARY
from hyperface_jax.pairwise import Sweep
from hyperface_jax.runs.support.jobs import local_mesh
from hyperface_jax.runs.support.versions import versions

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from hyperface_jax.io.embedding_sets import EmbeddingSet

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Cosine thresholds that are reported in addition to the requested ones."""

_PACKAGES = ("hyperface_jax", "jax", "jaxlib", "numpy")


def check_folder(path: Path, verb: str, *, unfinished: Collection[str] = ()) -> None:
    """Refuse a folder that holds anything but a result of this verb.

    Args:
        path: the folder; it may be missing.
        verb: the verb that writes to it.
        unfinished: names of files that the verb leaves there when it is stopped.

    Raises:
        InputError: the folder holds something else, or is a file.
    """
    refuse_foreign(
        path, SUMMARY, lambda summary: summary.get("verb") == verb, unfinished=unfinished
    )


def make_folder(path: Path) -> None:
    """Create the folder of a result.

    Raises:
        InputError: the operating system refuses.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


def all_thresholds(given: Sequence[float]) -> list[float]:
    """Return the usual thresholds and the given ones, sorted.

    Raises:
        InputError: a threshold is not a cosine.
    """
    for value in given:
        if not (math.isfinite(value) and -1 <= value <= 1):
            raise InputError(f"`threshold={value}`: must be a cosine, from -1 to 1")
    return sorted({*THRESHOLDS, *given})


def open_sets(**paths: Path | None) -> dict[str, EmbeddingSet]:
    """Open the given sets of embeddings, and check that their dimensions agree.

    Args:
        **paths: paths by the name of their setting; the first one sets the dimension.

    Raises:
        InputError: a set cannot be read, or the dimensions differ.
    """
    found: dict[str, EmbeddingSet] = {}
    for name, path in paths.items():
        if path is None:
            continue
        found[name] = part = open_embedding_set(path)
        first_name, first = next(iter(found.items()))
        if part.shape[1] != first.shape[1]:
            raise InputError(
                f"`{name}={one_line(path)}`: rows have dimension {part.shape[1]}, not "
                f"{first.shape[1]} as those of `{first_name}={one_line(first.path)}`; use "
                "embeddings of the same recognizer"
            )
    return found


def make_sweep(num_devices: int | None) -> Sweep:
    """Return a sweep over pairs on the first devices, or on all devices.

    Raises:
        InputError: there are fewer devices than requested.
    """
    mesh = local_mesh(num_devices)
    return Sweep() if mesh.size == 1 else Sweep(mesh)


def describe(embeddings: EmbeddingSet) -> dict[str, Any]:
    """Return what a summary says about a set of embeddings."""
    num_rows, dim = embeddings.shape
    return {
        "path": embeddings.path,
        "sha256": embeddings.sha256,
        "num_rows": num_rows,
        "dim": dim,
    }


def circumstances(verb: str) -> dict[str, Any]:
    """Return what a summary says about how it was made."""
    return {
        "verb": verb,
        "device": jax.devices()[0].device_kind,
        "versions": versions(*_PACKAGES),
    }
