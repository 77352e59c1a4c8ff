"""From packed embeddings to a face data set: conditions, generators, rendering and writing."""

from hyperface_jax.synthesis.conditions import Draws, Variation, draw
from hyperface_jax.synthesis.generators import FunctionGenerator, Generator, import_generator
from hyperface_jax.synthesis.rendering import Rendered, Renderer, render

__all__ = [
    "Draws",
    "FunctionGenerator",
    "Generator",
    "Rendered",
    "Renderer",
    "Variation",
    "draw",
    "import_generator",
    "render",
]
