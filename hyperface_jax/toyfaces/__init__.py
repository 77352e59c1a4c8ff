"""A procedural world of faces: a population, a renderer, their image folders, and small models.

This folder may import the layers below it, up to :mod:`hyperface_jax.faces`. Only
:mod:`hyperface_jax.reports`, :mod:`hyperface_jax.runs`, :mod:`hyperface_jax.cli` and code outside of
the package may import it.
"""

from hyperface_jax.toyfaces.parameters import (
    BENCHMARKS,
    NUM_IDENTITY,
    NUM_NUISANCE,
    PRESETS,
    Circumstances,
    Nuisance,
    Traits,
    pack_nuisance,
    traits,
    unpack_nuisance,
)
from hyperface_jax.toyfaces.population import (
    ROLES,
    DrawnPairs,
    Identities,
    benchmark_pairs,
    image_counts,
    image_nuisance,
    persons_at,
    sample_identities,
    sample_nuisance,
    split_key,
    write_attributes,
    write_folder,
    write_pairs,
)
from hyperface_jax.toyfaces.renderer import render, to_uint8

__all__ = [
    "BENCHMARKS",
    "NUM_IDENTITY",
    "NUM_NUISANCE",
    "PRESETS",
    "ROLES",
    "Circumstances",
    "DrawnPairs",
    "Identities",
    "Nuisance",
    "Traits",
    "benchmark_pairs",
    "image_counts",
    "image_nuisance",
    "pack_nuisance",
    "persons_at",
    "render",
    "sample_identities",
    "sample_nuisance",
    "split_key",
    "to_uint8",
    "traits",
    "unpack_nuisance",
    "write_attributes",
    "write_folder",
    "write_pairs",
]
