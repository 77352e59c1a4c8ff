"""The gallery term in torch: ``alpha`` times the mean cosine distance to the nearest gallery row."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.rivals.core import Gallery
from benchmarks.rivals.sweeps import nearest_among

GALLERY_EVERY = 10
"""Steps between two searches for the nearest gallery rows, as in our solver: in between a point keeps
its row, so that its distance is never understated. HyperFace searches at every step; what that would
cost is not held against anyone here."""


class GalleryPull:
    """The term and its gradient for the gallery rows found last.

    Args:
        gallery: Rows and weight.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.alpha = gallery.alpha
        self._rows = torch.from_numpy(gallery.rows)
        self._targets = self._rows[:0]

    def search(self, x: Tensor) -> float:
        """Find the nearest gallery row of each point; return the FLOPs, 2 n m d."""
        self._rows = self._rows.to(x)
        self._targets = self._rows[nearest_among(x, self._rows)]
        return 2.0 * len(self._rows) * x.numel()

    def at(self, x: Tensor) -> tuple[float, Tensor]:
        """Return the term and its gradient along the sphere."""
        cosines = (x * self._targets).sum(dim=1, keepdim=True)
        gradient = (cosines * x - self._targets) * (self.alpha / len(x))
        return self.alpha * float(1 - cosines.mean()), gradient
