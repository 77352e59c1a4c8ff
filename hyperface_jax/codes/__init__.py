"""Spherical codes with a proven max cosine, as starts of packings and for comparison with them.

This folder imports ``typing`` and ``pairwise``. The layers above, such as ``packing`` and ``runs``,
may import it.
"""

from hyperface_jax.codes.basic import cross_polytope, polygon, simplex
from hyperface_jax.codes.best import best_known, refinable
from hyperface_jax.codes.closures import direct_sum, padded, subset
from hyperface_jax.codes.code import SphericalCode, joined
from hyperface_jax.codes.linear import (
    LinearCode,
    delsarte_goethals,
    extended_bch,
    gold,
    kerdock,
    quadratic,
)
from hyperface_jax.codes.records import Record, better_record, record
from hyperface_jax.codes.sharp import (
    SHARP,
    cameron_goethals_seidel,
    derived_quadrangle,
    sharp_configuration,
)
from hyperface_jax.codes.shortening import punctured, restricted, shortened
from hyperface_jax.codes.verification import CodeCheck, verify
from hyperface_jax.codes.vertices import with_vertices

__all__ = [
    "SHARP",
    "CodeCheck",
    "LinearCode",
    "Record",
    "SphericalCode",
    "best_known",
    "better_record",
    "cameron_goethals_seidel",
    "cross_polytope",
    "delsarte_goethals",
    "derived_quadrangle",
    "direct_sum",
    "extended_bch",
    "gold",
    "joined",
    "kerdock",
    "padded",
    "polygon",
    "punctured",
    "quadratic",
    "record",
    "refinable",
    "restricted",
    "sharp_configuration",
    "shortened",
    "simplex",
    "subset",
    "verify",
    "with_vertices",
]
