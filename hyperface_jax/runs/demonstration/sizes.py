"""How large a closed loop is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Size:
    """Numbers of everything in a closed loop.

    Attributes:
        gallery: number of random faces.
        num_ids: number of synthetic identities.
        images_per_id: images of each identity.
        epochs: passes over the images in a training.
        batch_size: images in a step of a training.
        alpha: weight of the gallery in the packing.
        neighbors: gallery rows whose span stands for the face manifold in the packing.
        pairs: pairs in each verification set.
        test_ids: held-out persons who are told apart, all against all.
        reference_ids: real persons who must not leak.
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

    @property
    def is_small(self) -> bool:
        """Whether it is smaller than the default, where the ways hardly differ as it is."""
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
"""A first look at every stage."""
DEFAULT = Size(
    gallery=2048,
    num_ids=200,
    images_per_id=12,
    epochs=12,
    pairs=800,
    test_ids=300,
    reference_ids=2000,
)
"""Minutes on two cores."""
FULL = Size(
    gallery=8192,
    num_ids=1000,
    images_per_id=20,
    epochs=15,
    pairs=3000,
    test_ids=500,
    reference_ids=8000,
)
"""An hour or more on two cores."""
