"""The response of a generator: which embedding the face drawn from a condition has.

A packing is chosen among conditions, but separation counts among the drawn faces. :mod:`.probes` keeps
what was measured, :mod:`.learned` predicts it for other conditions, :mod:`.selection` chooses measured
conditions, and :mod:`.through` packs conditions by their predicted responses.

This folder may import the layers below it, up to :mod:`hyperface_jax.packing`.
"""

from hyperface_jax.response.learned import Response, ResponseModel, fit_response
from hyperface_jax.response.probes import Probes, pool, probes_of
from hyperface_jax.response.selection import Selection, select
from hyperface_jax.response.through import Through, Weights, pack_through

__all__ = [
    "Probes",
    "Response",
    "ResponseModel",
    "Selection",
    "Through",
    "Weights",
    "fit_response",
    "pack_through",
    "pool",
    "probes_of",
    "select",
]
