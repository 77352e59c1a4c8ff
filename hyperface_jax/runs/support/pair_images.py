"""The images that belong to rows of embeddings, to show pairs in a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hyperface_jax.errors import InputError
from hyperface_jax.faces.image_sets import open_images
from hyperface_jax.io.embedding_sets import read_names
from hyperface_jax.io.files import one_line
from hyperface_jax.io.image_folders import skipped_text
from hyperface_jax.io.images import center_crop, decode, encode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from hyperface_jax.faces.image_sets import ImageSet
    from hyperface_jax.io.embedding_sets import EmbeddingSet
    from hyperface_jax.runs.support.watch import Watch

TILE = 112
"""Height and width of an image in the report, in pixels."""


class RowImages(NamedTuple):
    """The image of each row.

    Attributes:
        images: the images of a folder or .tar file.
        places: index of the image of each row among these, ``[n]``.
        path: path of the folder or .tar file.
    """

    images: ImageSet
    places: Sequence[int]
    path: Path

    def name(self, row: int) -> str:
        """Return the name of the image of a row."""
        return self.images.names[self.places[row]]

    def square(self, row: int) -> np.ndarray:
        """Return the largest square in the middle of the image of a row."""
        name = f"{self.path}: {self.name(row)}"
        image = decode(self.images.read(self.places[row]), name=name)
        return center_crop(image, min(image.shape[:2]))


def open_row_images(
    setting: str, path: Path | None, embeddings: EmbeddingSet, watch: Watch
) -> RowImages | None:
    """Find the image of each row by the names stored with the embeddings, else by sorted order.

    Args:
        setting: name of the setting that holds the path, for error messages.
        path: a folder or .tar file; for None, the result is None.
        embeddings: the rows.
        watch: receives warnings about skipped files.

    Raises:
        InputError: the path holds no images, an image is missing, or the number of images is not the
            number of rows.
    """
    if path is None:
        return None
    images, names = open_images(path), read_names(embeddings)
    num_rows = embeddings.shape[0]
    where = f"`{setting}={one_line(path)}`"
    if images.skipped:
        watch.warn(f"{one_line(path)}: {skipped_text(images.skipped)}")
    if names is None:
        if len(images.names) != num_rows:
            raise InputError(
                f"{where}: holds {len(images.names)} images for the {num_rows} rows of "
                f"{one_line(embeddings.path)}; give one image for each row, or embeddings with names "
                "as embed writes them"
            )
        return RowImages(images, range(num_rows), path)
    place = {name: i for i, name in enumerate(images.names)}
    missing = [name for name in names.tolist() if name not in place]
    if missing:
        raise InputError(
            f"{where}: lacks {len(missing)} of the {num_rows} images that "
            f"{one_line(embeddings.path)} names; the first is {one_line(missing[0])}; give the "
            "folder that was embedded"
        )
    return RowImages(images, [place[name] for name in names.tolist()], path)


def side_by_side(first: np.ndarray | None, second: np.ndarray | None) -> bytes:
    """Draw two images side by side as a PNG; one that is missing takes no room."""
    from hyperface_jax.reports.contact_sheet import contact_sheet

    shown = [image for image in (first, second) if image is not None]
    return encode(contact_sheet([shown], tile=TILE))
