"""Synthesis of a face data set from packed embeddings: conditions, generators, rendering and writing.

It may import the layers up to ``packing``, and gets recognizers and detectors only as functions of
arrays. :mod:`hyperface_jax.faces` and the layers above it, such as :mod:`hyperface_jax.runs`, may import
it.
"""

from hyperface_jax.synthesis.conditions import Draws, Variation, draw
from hyperface_jax.synthesis.generators import (
    FunctionGenerator,
    Generator,
    GuidedGenerator,
    import_generator,
)
from hyperface_jax.synthesis.negatives import Negatives
from hyperface_jax.synthesis.rendering import Rendered, Renderer, render

__all__ = [
    "Draws",
    "FunctionGenerator",
    "Generator",
    "GuidedGenerator",
    "Negatives",
    "Rendered",
    "Renderer",
    "Variation",
    "draw",
    "import_generator",
    "render",
]
