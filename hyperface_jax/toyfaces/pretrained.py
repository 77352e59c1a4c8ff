"""The recognizer and the generator of toy faces that come with the package."""

from __future__ import annotations

from pathlib import Path

MODELS = Path(__file__).parent / "models"
RECOGNIZER = MODELS / "recognizer"
"""Folder as ``hyperface train`` writes it, for ``--recognizer``."""
GENERATOR = MODELS / "generator"
"""Folder for :func:`hyperface_jax.toyfaces.diffusion.load_generator`."""
GENERATOR_NAME = "hyperface_jax.toyfaces.diffusion:generator"
"""For ``hyperface synthesize --generator``."""
METRICS = "metrics.json"
"""In both folders: how the model was made, and how good it is."""
