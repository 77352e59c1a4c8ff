"""The interface of a recognizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from hyperface_jax.io.images import Color


class Recognizer(Protocol):
    """A network that embeds face images."""

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        ...

    @property
    def color(self) -> Color:
        """Channel order of the network's training images; it is still called with RGB images."""
        ...

    @property
    def embedding_dim(self) -> int:
        """Dimension of the embedding, d."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of the weight file, hexadecimal."""
        ...

    def __call__(self, images: np.ndarray, /) -> np.ndarray:
        """Embed uint8 RGB images, ``[n, s, s, 3]``, as raw embeddings, float32 ``[n, d]``."""
        ...
