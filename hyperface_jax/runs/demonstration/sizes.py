"""Sizes of a closed loop."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Size:
    """The numbers that set the size of a closed loop.

    Attributes:
        gallery: number of random faces in the gallery.
        num_ids: number of synthetic identities.
        images_per_id: number of images for each identity.
        epochs: number of passes over the images in a training run.
        batch_size: number of images in a training step.
        alpha: weight of the gallery in the packing.
        neighbors: number of gallery rows whose span stands for the face manifold in the packing.
        pairs: number of pairs in each verification set.
        test_ids: number of held-out persons who are compared, all against all.
        reference_ids: number of real persons who must not leak.
        crowd: number of real persons of whom the farthest are chosen; None makes it ten for each
            identity, at most 6,000.
    """

    gallery: int
    num_ids: int
    images_per_id: int
    epochs: int
    batch_size: int = 64
    alpha: float = 8.0
    neighbors: int = 4
    pairs: int
    test_ids: int
    reference_ids: int
    crowd: int | None = None

    @property
    def num_crowd(self) -> int:
        """Number of real persons of whom the farthest are chosen, never fewer than are chosen."""
        crowd = min(10 * self.num_ids, 6000) if self.crowd is None else self.crowd
        return max(crowd, self.num_ids)

    @property
    def is_small(self) -> bool:
        """Whether it is smaller than the default size, at which the arms already hardly differ."""
        names = ("num_ids", "images_per_id", "epochs", "pairs", "test_ids")
        return any(getattr(self, name) < getattr(DEFAULT, name) for name in names)


QUICK = Size(
    gallery=512,
    num_ids=40,
    images_per_id=6,
    epochs=6,
    pairs=100,
    test_ids=60,
    reference_ids=500,
)
"""For a first look at every stage."""
DEFAULT = Size(
    gallery=2048,
    num_ids=200,
    images_per_id=10,
    epochs=12,
    pairs=600,
    test_ids=300,
    reference_ids=2000,
)
"""Takes minutes on two cores."""
FULL = Size(
    gallery=8192,
    num_ids=1000,
    images_per_id=20,
    epochs=15,
    pairs=3000,
    test_ids=500,
    reference_ids=8000,
)
"""Takes an hour or more on two cores."""
