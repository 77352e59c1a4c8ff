"""A closed loop on disk: its size, its seed, and where its stages are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hyperface_jax.io.files import read_json
from hyperface_jax.runs.demonstration.sizes import Size

GALLERY, PACKING, SYNTHESIS = "1-gallery", "2-packing", "3-synthesis"
RECOGNITION, EVALUATION, LEAKAGE = "4-recognition", "5-evaluation", "6-leakage"
THRESHOLD = "threshold.json"


@dataclass(frozen=True)
class ClosedLoop:
    """A closed loop on disk.

    Attributes:
        path: its folder.
        size: the numbers of everything.
        seed: the seed of everything random.
    """

    path: Path
    size: Size
    seed: int

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage, made if missing."""
        folder = self.path / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def gallery(self) -> Path:
        """Embeddings of random faces."""
        return self.path / GALLERY / "gallery.npz"

    @property
    def reference(self) -> Path:
        """Directions of the real persons that the generator was trained on."""
        return self.path / GALLERY / "reference.npz"

    @property
    def threshold(self) -> float:
        """Cosine from which two directions count as one person."""
        return read_json(self.path / GALLERY / THRESHOLD)["threshold"]

    @property
    def sets(self) -> Path:
        """Folder of the verification sets."""
        return self.folder(EVALUATION) / "sets"
