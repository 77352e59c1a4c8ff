"""How large a closed loop is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Size:
    """Numbers of everything in a closed loop.

    Attributes:
        gallery: random faces.
        num_ids: synthetic identities.
        images_per_id: images of each.
        epochs: of training.
        batch_size: of training.
        alpha: weight of the gallery in the packing.
        neighbours: gallery rows whose span stands for the face manifold in the packing.
        pairs: of each verification set.
        test_ids: held-out persons who are told apart, all against all.
        reference_ids: real persons who must not leak.
    """

    gallery: int = 2048
    num_ids: int = 200
    images_per_id: int = 12
    epochs: int = 12
    batch_size: int = 64
    alpha: float = 8.0
    neighbours: int = 4
    pairs: int = 800
    test_ids: int = 300
    reference_ids: int = 2000


DEFAULT = Size()
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
"""Hours on two cores."""
