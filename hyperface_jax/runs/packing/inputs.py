"""The input files of a packing: reading them, and checking that they fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.embeddings import Embeddings, check_same_dim, read_embeddings, read_points
from hyperface_jax.io.files import read_json
from hyperface_jax.io.run_directory import CONFIG
from hyperface_jax.packing.interior_point import MAX_VARIABLES
from hyperface_jax.packing.manifolds import NEAREST_ROW, LocalSpan, Manifold
from hyperface_jax.packing.subspaces import FEWEST_ROWS, GallerySubspace
from hyperface_jax.runs.packing.settings import ALPHA, LEARNING_RATE, NAMED_STARTS, Pack
from hyperface_jax.runs.support.settings import command, plain
from hyperface_jax.runs.support.watch import Watch


class Inputs(NamedTuple):
    """Everything that was read from files, checked to fit together."""

    dim: int
    gallery: Embeddings | None
    init: Embeddings | None
    frozen: Embeddings | None
    frozen_rows: np.ndarray | None
    """The frozen rows as they will be written, bit for bit."""
    keep_out: Embeddings | None

    def digests(self) -> dict[str, Any]:
        """Return the hash of every file's content, to tell whether a resumed run sees the same data."""
        files = {name: getattr(self, name) for name in ("gallery", "init", "frozen", "keep_out")}
        return {f"{name}_sha256": file.sha256 for name, file in files.items() if file}


def read_inputs(config: Pack, watch: Watch) -> Inputs:
    """Read all files and check that they fit together."""
    gallery = read_embeddings(config.gallery) if config.gallery else None
    start = None
    if config.init is not None and config.init not in NAMED_STARTS:
        start = read_embeddings(config.init)
    frozen = read_embeddings(config.frozen) if config.frozen else None
    keep_out = read_embeddings(config.keep_out) if config.keep_out else None
    files = [file for file in (gallery, start, frozen, keep_out) if file]
    dim = check_same_dim(*files, dim=config.dim)
    if start and start.num_points != config.num_ids:
        raise InputError(
            f"{start.path}: has {start.num_points} rows, but `num_ids` is {config.num_ids}: "
            "make them equal"
        )
    num_variables = config.num_ids * (dim - 1)
    if gallery and config.neighbors > gallery.num_points:
        raise InputError(
            f"{gallery.path}: has {gallery.num_points} rows, but `neighbors` is {config.neighbors}: "
            "lower it"
        )
    if gallery and "subspace" in (config.init, config.manifold):
        _check_subspace(config, gallery)
    if config.polish and num_variables > MAX_VARIABLES:
        raise InputError(
            f"`polish`: num_ids x (dim - 1) is {num_variables}, but the limit is {MAX_VARIABLES}: "
            "drop it"
        )
    for file in files:
        if file.num_duplicates:
            watch.warn(f"{file.path}: {file.num_duplicates} rows repeat an earlier row")
    if frozen and not gallery and _has_gallery(frozen.path.parent / CONFIG):
        watch.warn(
            f"{frozen.path}: was packed near a gallery; without `gallery` the new rows are not"
        )
    return Inputs(dim, gallery, start, frozen, _output_rows(frozen), keep_out)


def _check_subspace(config: Pack, gallery: Embeddings) -> None:
    if gallery.num_points < FEWEST_ROWS:
        raise InputError(
            f"{gallery.path}: has {gallery.num_points} rows, but a subspace needs {FEWEST_ROWS}"
        )
    if (config.subspace_dims or 1) >= gallery.dim:
        raise InputError(
            f"{gallery.path}: has {gallery.dim} dimensions, but `subspace_dims` is "
            f"{config.subspace_dims}: lower it"
        )


def manifold_of(config: Pack, gallery: Any) -> Manifold:
    """Return what stands for the face manifold; every process fits the same model to the same rows."""
    if config.manifold == "subspace":
        return jax.device_get(GallerySubspace.fit(gallery, num_dims=config.subspace_dims))
    return NEAREST_ROW if config.neighbors == 1 else LocalSpan(config.neighbors)


def _has_gallery(config: Path) -> bool:
    """Return whether the run whose settings are in a file was given a gallery; no file, no run."""
    return config.exists() and bool(read_json(config).get("gallery"))


def _output_rows(frozen: Embeddings | None) -> np.ndarray | None:
    """Keep the exact bits of a float64 packing; other rows are written as the float32 that was read."""
    if frozen is None:
        return None
    raw = read_points(frozen.path)
    return np.array(raw) if raw.dtype == np.float64 else frozen.points


def resolved_config(config: Pack, inputs: Inputs, **resolved: Any) -> dict[str, Any]:
    """Return the settings as plain values, with defaults resolved and files given by content hash."""
    return {
        **plain(config),
        "dim": inputs.dim,
        "alpha": ALPHA if config.alpha is None else config.alpha,
        "learning_rate": config.learning_rate or LEARNING_RATE,
        "coarse_steps": config.coarse_steps or 0,
        **resolved,
        **inputs.digests(),
        "command": command(config),
    }
