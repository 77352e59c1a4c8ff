"""What a recognizer is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from hyperface_jax.io.images import Color


class Recognizer(Protocol):
    """A network that embeds face images."""

    @property
    def image_size(self) -> int:
        """Height and width of its images, pixels."""
        ...

    @property
    def color(self) -> Color:
        """Channel order that the network was trained with; images come as RGB all the same."""
        ...

    @property
    def embedding_dim(self) -> int:
        """Dimension of the embedding, d."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of the file of its weights, hexadecimal."""
        ...

    def __call__(self, images: np.ndarray, /) -> np.ndarray:
        """Embed uint8 RGB images, ``[n, s, s, 3]``; raw embeddings, float32 ``[n, d]``."""
        ...
