"""What the verbs share that describe embeddings: their folder, their devices, their thresholds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperface_jax.cli.versions import versions
from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line, os_input_error, read_json
from hyperface_jax.io.run_directory import SUMMARY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hyperface_jax.io.embedding_sets import EmbeddingSet
    from hyperface_jax.pairwise import Sweep

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Cosines whose rates are reported besides those asked for."""

_PACKAGES = ("hyperface_jax", "jax", "jaxlib", "numpy")


def check_folder(path: Path, verb: str) -> None:
    """Refuse a folder that holds other things than a result of this verb.

    Raises:
        InputError: it does, or is a file.
    """
    name = one_line(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"--out {name}: is a file; choose a folder")
    if not path.exists() or not any(path.iterdir()):
        return
    summary = path / SUMMARY
    if not summary.exists() or read_json(summary).get("verb") != verb:
        raise InputError(f"--out {name}: holds files of something else; choose an empty folder")


def make_folder(path: Path) -> None:
    """Make the folder of a result.

    Raises:
        InputError: the system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_input_error(path, "cannot write", error) from error


def all_thresholds(given: Sequence[float]) -> list[float]:
    """Return the usual thresholds and those given, in order.

    Raises:
        InputError: one is no cosine.
    """
    for value in given:
        if not (math.isfinite(value) and -1 <= value <= 1):
            raise InputError(f"--threshold {value}: must be a cosine, from -1 to 1")
    return sorted({*THRESHOLDS, *given})


def open_sets(**paths: Path | None) -> dict[str, EmbeddingSet]:
    """Open the sets of embeddings that are given, and check that their dimensions agree.

    Args:
        **paths: by flag, with underscores; the first counts for the dimension.

    Raises:
        InputError: one cannot be read, or they differ.
    """
    from hyperface_jax.io.embedding_sets import open_embedding_set

    found: dict[str, EmbeddingSet] = {}
    for flag, path in paths.items():
        if path is None:
            continue
        found[flag] = part = open_embedding_set(path)
        first_flag, first = next(iter(found.items()))
        if part.shape[1] != first.shape[1]:
            raise InputError(
                f"--{flag} {one_line(path)}: rows have dimension {part.shape[1]}, not "
                f"{first.shape[1]} as those of --{first_flag} {one_line(first.path)}; use "
                "embeddings of one recognizer"
            )
    return found


def make_sweep(num_devices: int | None) -> Sweep:
    """Return how pairs are visited on the first devices, or on all.

    Raises:
        InputError: there are fewer.
    """
    from hyperface_jax.pairwise import Sweep
    from hyperface_jax.runs.support.jobs import local_mesh

    mesh = local_mesh(num_devices)
    return Sweep() if mesh.size == 1 else Sweep(mesh)


def row_progress(
    update: Callable[[int, str], None], num_rows: int, num_pairs: int, what: str
) -> Any:
    """Return what turns the pairs done into rows done, with ``what`` and a cosine as the figure."""

    def watch(done: int, cosine: float) -> None:
        update(round(done / num_pairs * num_rows), f"{what} {cosine:.4f}")

    return watch


def describe(embeddings: EmbeddingSet) -> dict[str, Any]:
    """Return what a summary says of a file."""
    num_rows, dim = embeddings.shape
    return {
        "path": embeddings.path,
        "sha256": embeddings.sha256,
        "num_rows": num_rows,
        "dim": dim,
    }


def circumstances(verb: str) -> dict[str, Any]:
    """Return what a summary says of how it was made."""
    import jax

    return {
        "verb": verb,
        "device": jax.devices()[0].device_kind,
        "versions": versions(*_PACKAGES),
    }
