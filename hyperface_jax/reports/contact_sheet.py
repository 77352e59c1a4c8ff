"""A picture of many pictures, such as one row per identity and one column per sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hyperface_jax.io.images import resize

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = 2
"""Width of the white gap between images, in pixels."""
_WHITE, _GRAY, _INK = 255, 224, (29, 35, 39)
_LETTER_SHARE, _SMALLEST_LETTER = 0.14, 11
_MARGIN = 6


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray | None]], *, tile: int, labels: Sequence[str] = ()
) -> np.ndarray:
    """Lay out images in rows.

    Args:
        rows: square uint8 RGB images, ``[h, h, 3]`` each. None gives a gray tile, and short rows are
            filled up with gray tiles.
        tile: height and width that each image is scaled to, in pixels.
        labels: a text to the left of each row, such as the number of an identity; empty writes none.

    Returns:
        uint8 RGB image, ``[len(rows) * (tile + GAP) + GAP, widest * (tile + GAP) + GAP, 3]``, and wider
        by the longest label.

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
    if not labels:
        return sheet
    return np.concatenate([_label_column(labels, tile, len(sheet)), sheet], axis=1)


def _label_column(labels: Sequence[str], tile: int, height: int) -> np.ndarray:
    """Write each label to the left of the middle of its row."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(max(_SMALLEST_LETTER, round(_LETTER_SHARE * tile)))
    width = _MARGIN + math.ceil(max(font.getlength(label) for label in labels)) + _MARGIN
    column = Image.new("RGB", (width, height), (_WHITE,) * 3)
    draw = ImageDraw.Draw(column)
    for i, label in enumerate(labels):
        middle = GAP + i * (tile + GAP) + tile / 2
        draw.text((width - _MARGIN, middle), label, fill=_INK, font=font, anchor="rm")
    return np.asarray(column)
