"""A procedural world of faces: a population, a renderer, and image folders of both."""

from hyperface_jax.toyfaces.parameters import (
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
    Identities,
    Pairs,
    benchmark_pairs,
    image_counts,
    image_nuisance,
    sample_identities,
    sample_nuisance,
    split_key,
    write_folder,
    write_pairs,
)
from hyperface_jax.toyfaces.renderer import render, to_uint8

__all__ = [
    "NUM_IDENTITY",
    "NUM_NUISANCE",
    "PRESETS",
    "ROLES",
    "Circumstances",
    "Identities",
    "Nuisance",
    "Pairs",
    "Traits",
    "benchmark_pairs",
    "image_counts",
    "image_nuisance",
    "pack_nuisance",
    "render",
    "sample_identities",
    "sample_nuisance",
    "split_key",
    "to_uint8",
    "traits",
    "unpack_nuisance",
    "write_folder",
    "write_pairs",
]
