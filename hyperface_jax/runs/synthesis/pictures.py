"""The images of a data set that a user wants to see: a sample, and those that came out worst."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.io.images import decode, encode
from hyperface_jax.reports.contact_sheet import contact_sheet
from hyperface_jax.synthesis.fidelity import FACE_EMBEDDINGS, face_sums, read_face_embeddings
from hyperface_jax.synthesis.manifest import read_manifest
from hyperface_jax.synthesis.shards import shard_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hyperface_jax.synthesis.shards import DataSet

_ROWS, _COLUMNS, _TILE = 12, 10, 112
_WORST = 12
_MOST_COMPARED = 20_000
_COLUMNS_READ = ("identity", "sample", "shard", "key")

Shown = tuple[str, bytes]
"""What is to be said about a picture, and a PNG file."""


def sheet(data_set: DataSet) -> np.ndarray:
    """Lay out the first images of identities from all over the data set, an identity in each row."""
    plan = data_set.plan
    count = plan.num_ids
    chosen = np.unique(np.linspace(0, count - 1, min(_ROWS, count)).astype(int)).tolist()
    table = read_manifest(data_set.path, _COLUMNS_READ)
    columns = min(_COLUMNS, plan.images_per_id)
    rows = [table.slice(i * plan.images_per_id, columns).to_pylist() for i in chosen]
    files = _read_images(data_set, [row for part in rows for row in part if row["key"]])
    images = [[files.get(row["key"]) for row in part] for part in rows]
    return contact_sheet(images, tile=_TILE, labels=[str(identity) for identity in chosen])


def farthest_faces(data_set: DataSet, num: int = _WORST) -> list[Shown]:
    """Return ``num`` kept images whose embeddings are farthest from their targets, the farthest first.

    There are none if the data set was made without a recognizer.
    """
    table = read_manifest(data_set.path, [*_COLUMNS_READ, "target_cosine", "is_kept"])
    kept = table.filter(table["is_kept"])
    kept = kept.filter(kept["target_cosine"].is_valid())
    order = np.argsort(kept["target_cosine"].to_numpy(), kind="stable")[:num]
    rows = kept.take(order).to_pylist()
    files = _read_images(data_set, rows)
    return [
        (
            f"{row['target_cosine']:.4f}: identity {row['identity']}, image {row['sample']}",
            encode(contact_sheet([[files[row["key"]]]], tile=_TILE)),
        )
        for row in rows
    ]


def closest_identities(data_set: DataSet, num: int = _WORST) -> list[Shown]:
    """Return ``num`` pairs of identities whose mean faces are closest, the closest first.

    The data set must have embeddings of its faces. At most its first 20,000 identities are compared.
    Cost: ``n^2 d`` FLOPs.
    """
    from hyperface_jax.evaluation.neighbors import nearest_pairs

    means, identities = _mean_faces(data_set)
    if len(means) < 2:
        return []
    pairs = nearest_pairs(means, num_pairs=num).pairs
    firsts = _first_images(data_set, identities[np.concatenate([pairs.row, pairs.column])])
    found = []
    for row, column, cosine in zip(pairs.row, pairs.column, pairs.cosine, strict=True):
        one, other = int(identities[row]), int(identities[column])
        if one in firsts and other in firsts:
            both = contact_sheet([[firsts[one], firsts[other]]], tile=_TILE)
            found.append((f"{cosine:.4f}: identities {one} and {other}", encode(both)))
    return found


def _mean_faces(data_set: DataSet) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean directions of the faces of identities, and which identities these are."""
    plan, folder = data_set.plan, data_set.path / FACE_EMBEDDINGS
    parts = list(
        read_face_embeddings(folder / f"{shard_name(i)}.npz" for i in range(plan.num_shards))
    )
    sums, _ = face_sums((plan.num_ids, parts[0].embeddings.shape[1]), parts)
    lengths = np.linalg.norm(sums, axis=1)
    identities = np.flatnonzero(lengths > 0)[:_MOST_COMPARED]
    return (sums[identities] / lengths[identities, None]).astype(np.float32), identities


def _first_images(data_set: DataSet, identities: np.ndarray) -> dict[int, np.ndarray]:
    """Return the first kept image of each identity that has one."""
    table, count = read_manifest(data_set.path, _COLUMNS_READ), data_set.plan.images_per_id
    rows = [
        next((row for row in table.slice(i * count, count).to_pylist() if row["key"]), None)
        for i in sorted(set(identities.tolist()))
    ]
    kept = [row for row in rows if row is not None]
    files = _read_images(data_set, kept)
    return {row["identity"]: files[row["key"]] for row in kept}


def _read_images(data_set: DataSet, rows: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return images by key, in one pass over each shard that holds any of them."""
    root, suffix = data_set.roots[0], f".{data_set.settings['image_format']}"
    if data_set.format == "folder":
        names = [row["key"] + suffix for row in rows]
        contents = {name: (root / name).read_bytes() for name in names}
    else:
        contents = {}
        for shard in sorted({row["shard"] for row in rows}):
            wanted = {row["key"] + suffix for row in rows if row["shard"] == shard}
            contents |= _members(root / f"{shard_name(shard)}.tar", wanted)
    return {name.removesuffix(suffix): decode(data, name=name) for name, data in contents.items()}


def _members(path: Path, wanted: set[str]) -> dict[str, bytes]:
    """Read some members of a .tar file, and no further than the last of them."""
    found: dict[str, bytes] = {}
    with tarfile.open(path, "r:") as tar:
        while len(found) < len(wanted) and (member := tar.next()) is not None:
            if member.name in wanted and (file := tar.extractfile(member)):
                found[member.name] = file.read()
    return found
