"""A closed loop on disk: its size, its seed and the places of its stages."""

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
        path: folder of the closed loop.
        size: numbers of faces, identities, images and so on.
        seed: random seed.
    """

    path: Path
    size: Size
    seed: int

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage, and create it if it is missing."""
        folder = self.path / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def gallery(self) -> Path:
        """File with the embeddings of random faces."""
        return self.path / GALLERY / "gallery.npz"

    @property
    def reference(self) -> Path:
        """File with the directions of the real persons that the generator was trained on."""
        return self.path / GALLERY / "reference.npz"

    @property
    def threshold(self) -> float:
        """Cosine above which two directions count as one person."""
        return read_json(self.path / GALLERY / THRESHOLD)["threshold"]

    @property
    def sets(self) -> Path:
        """Folder of the verification sets."""
        return self.folder(EVALUATION) / "sets"
