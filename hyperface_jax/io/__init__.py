"""Reading and writing files: embeddings, images, models, benchmarks and run directories.

This folder imports only the bottom layers of the package: typing, errors, sphere, bounds, meshes and
processes. Every layer above may import it.
"""

from hyperface_jax.io.embeddings import (
    Embeddings,
    check_same_dim,
    file_sha256,
    read_embeddings,
    read_points,
    write_embeddings,
)
from hyperface_jax.io.files import (
    JsonLines,
    atomic_save_npy,
    atomic_save_npz,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_jsonl,
    atomic_write_text,
    read_json,
    read_jsonl,
)
from hyperface_jax.io.sharded import read_sharded, write_sharded

__all__ = [
    "Embeddings",
    "JsonLines",
    "atomic_save_npy",
    "atomic_save_npz",
    "atomic_write_bytes",
    "atomic_write_json",
    "atomic_write_jsonl",
    "atomic_write_text",
    "check_same_dim",
    "file_sha256",
    "read_embeddings",
    "read_json",
    "read_jsonl",
    "read_points",
    "read_sharded",
    "write_embeddings",
    "write_sharded",
]
