"""The interface of a face generator, and generators from functions and from ``module:name``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line

if TYPE_CHECKING:
    from hyperface_jax.synthesis.negatives import Negatives


class Generator(Protocol):
    """A model that draws the face of an embedding.

    It draws the same image for the same condition and noise.
    """

    @property
    def name(self) -> str:
        """Name in the manifest and on the card, one line."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of the weights and settings, hexadecimal."""
        ...

    @property
    def condition_dim(self) -> int:
        """Dimension of the condition, d."""
        ...

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the standard normal noise that one image starts from."""
        ...

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        ...

    def __call__(self, conditions: np.ndarray, noise: np.ndarray, /) -> np.ndarray:
        """Draw images.

        Args:
            conditions: unit embeddings, float32 ``[b, d]`` with any b of at least 1.
            noise: standard normal noise, float32 ``[b, *noise_shape]``.

        Returns:
            uint8 RGB, ``[b, image_size, image_size, 3]``. Image i depends only on row i, up to a
            difference of one gray level.
        """
        ...


class GuidedGenerator(Generator, Protocol):
    """A generator whose guidance can lead away from another identity."""

    @property
    def takes_negatives(self) -> bool:
        """Whether guidance is on, without which negatives would change nothing."""
        ...

    def __call__(
        self, conditions: np.ndarray, noise: np.ndarray, /, negatives: Negatives | None = None
    ) -> np.ndarray:
        """Draw images, as :class:`Generator` says.

        Args:
            conditions: unit embeddings, float32 ``[b, d]`` with any b of at least 1.
            noise: standard normal noise, float32 ``[b, *noise_shape]``.
            negatives: what guidance leads away from; None, or a weight of 0, changes no image.

        Returns:
            uint8 RGB, ``[b, image_size, image_size, 3]``. Image i depends only on row i, up to a
            difference of one gray level.
        """
        ...


def guided(generator: Generator) -> GuidedGenerator:
    """Return the generator itself, as one that takes negatives.

    Raises:
        InputError: it takes none, or its guidance is off.
    """
    takes = getattr(generator, "takes_negatives", None)
    name = one_line(generator.name)
    if takes is None:
        raise InputError(
            f"`negatives`: generator {name} takes none; leave them out, or use one with guidance, such "
            "as Arc2Face (see hyperface_jax.synthesis.generators.GuidedGenerator)"
        )
    if not takes:
        raise InputError(
            f"`negatives`: change nothing, because the guidance of generator {name} is off; leave them "
            "out, or turn it on"
        )
    return cast("GuidedGenerator", generator)


@dataclass(frozen=True, kw_only=True)
class FunctionGenerator:
    """A generator that wraps a function of arrays.

    Args:
        function: takes unit conditions, float32 ``[b, condition_dim]``, and noise, float32
            ``[b, *noise_shape]``; returns uint8 RGB ``[b, image_size, image_size, 3]``.
        name: name in the manifest and on the card.
        digest: identifies the weights and settings; a data set can only be resumed with the same digest.
        condition_dim: dimension of the condition.
        noise_shape: shape of the noise for one image.
        image_size: height and width of the images in pixels.

    Examples:
        >>> gray = FunctionGenerator(
        ...     function=lambda conditions, noise: np.full((len(noise), 8, 8, 3), 128, np.uint8),
        ...     name="gray",
        ...     digest="1",
        ...     condition_dim=4,
        ...     noise_shape=(2,),
        ...     image_size=8,
        ... )
        >>> gray(np.eye(4, dtype=np.float32), np.zeros((4, 2), np.float32)).shape
        (4, 8, 8, 3)
    """

    function: Callable[[np.ndarray, np.ndarray], np.ndarray]
    name: str
    digest: str
    condition_dim: int
    noise_shape: tuple[int, ...]
    image_size: int

    def __call__(self, conditions: np.ndarray, noise: np.ndarray, /) -> np.ndarray:
        """Call the function."""
        return self.function(conditions, noise)


def import_generator(spec: str) -> Generator:
    """Import a generator, or a function without arguments that makes one.

    This runs the code of the module.

    Args:
        spec: ``module:name``, where the module is on Python's path.

    Returns:
        The generator.

    Raises:
        InputError: there is no such module or name, or the object is not a generator.
    """
    module, _, attribute = spec.partition(":")
    name = one_line(spec)
    try:
        generator: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{name}: cannot be imported ({one_line(error)}); give module:name, with the module on "
            "PYTHONPATH"
        ) from error
    if _missing(generator) and callable(generator):
        generator = generator()
    if missing := _missing(generator):
        raise InputError(
            f"{name}: no generator, lacks {', '.join(missing)}; see "
            "hyperface_jax.synthesis.generators.Generator"
        )
    return generator


_PARTS = ("name", "digest", "condition_dim", "noise_shape", "image_size", "__call__")


def _missing(found: object) -> list[str]:
    if isinstance(found, type):
        return ["an instance"]
    return [part for part in _PARTS if not hasattr(found, part)]
