"""The recognizer and the generators of toy faces that come with the package."""

from __future__ import annotations

from pathlib import Path

MODELS = Path(__file__).parent / "models"
RECOGNIZER = MODELS / "recognizer"
"""Folder of the recognizer, as ``hyperface train`` writes it; a value for ``--recognizer``."""
GENERATOR = MODELS / "generator"
"""Folder of the generator, for :func:`hyperface_jax.toyfaces.diffusion.load_generator`."""
GENERATOR_NAME = "hyperface_jax.toyfaces.diffusion:generator"
"""Name of the generator; a value for ``hyperface synthesize --generator``."""
PARAMETRIC = MODELS / "parametric"
"""Folder of the parametric generator, for :func:`hyperface_jax.toyfaces.parametric.load_parametric`."""
PARAMETRIC_NAME = "hyperface_jax.toyfaces.parametric:parametric"
"""Name of the parametric generator; a value for ``hyperface synthesize --generator``."""
METRICS = "metrics.json"
"""File in each folder that says how the model was made and how good it is."""
