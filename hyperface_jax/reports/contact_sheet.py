"""A picture of many pictures, such as one row per identity and one column per sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.io.images import resize

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = 2
"""Width of the white gap between images, in pixels."""
_WHITE, _GRAY = 255, 224


def contact_sheet(rows: Sequence[Sequence[np.ndarray | None]], *, tile: int) -> np.ndarray:
    """Lay out images in rows.

    Args:
        rows: square uint8 RGB images, ``[h, h, 3]`` each. None gives a gray tile, and short rows are
            filled up with gray tiles.
        tile: height and width that each image is scaled to, in pixels.

    Returns:
        uint8 RGB image, ``[len(rows) * (tile + GAP) + GAP, widest * (tile + GAP) + GAP, 3]``.

    Examples:
        >>> face = np.zeros((4, 4, 3), np.uint8)
        >>> contact_sheet([[face, None], [face]], tile=4).shape
        (14, 14, 3)
    """
    pitch = tile + GAP
    num_columns = max((len(row) for row in rows), default=0)
    sheet = np.full((len(rows) * pitch + GAP, num_columns * pitch + GAP, 3), _WHITE, np.uint8)
    for i, row in enumerate(rows):
        for j in range(num_columns):
            image = row[j] if j < len(row) else None
            place = np.s_[GAP + i * pitch : (i + 1) * pitch, GAP + j * pitch : (j + 1) * pitch]
            sheet[place] = _GRAY if image is None else resize(image, tile)
    return sheet
