"""Small drawn faces for the tests of training: an identity is a shape, an image a view of it.

As a program it is ``hyperface`` with a backbone ``iresnet_toy``, which is compiled in a moment.
"""

import sys

import numpy as np
from PIL import Image, ImageDraw

from hyperface_jax.cli.main import main
from hyperface_jax.recognition.backbones import BACKBONES, BackboneConfig

CANVAS = 96
BACKBONE = {"iresnet_toy": BackboneConfig((1,), (8,), image_size=16)}


def draw(identity, number, size=32):
    """Draw view ``number`` of an identity: moved, turned, lit and noisy."""
    face = _shape(np.random.default_rng([1, identity]))
    rng = np.random.default_rng([2, identity, number])
    image = Image.new("RGB", (CANVAS, CANVAS), tuple(rng.integers(0, 256, 3).tolist()))
    _paint(ImageDraw.Draw(image), face, 0.5 + rng.normal(0, 0.02, 2))
    image = image.rotate(rng.normal(0, 5)).resize((size, size), Image.Resampling.BILINEAR)
    lit = np.asarray(image) * rng.uniform(0.75, 1.2) + rng.normal(0, 5, (size, size, 3))
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def write_folder(path, identities, num_images):
    """Write one folder an identity."""
    for identity in identities:
        folder = path / f"{identity:04d}"
        folder.mkdir(parents=True)
        for number in range(num_images):
            draw(identity, number).save(folder / f"{number}.png")
    return path


def write_pairs(path, identities, num_pairs):
    """Write images of pairs, every other of the same identity, and their list ``pairs.txt``."""
    path.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for pair in range(num_pairs):
        first, other = rng.choice(identities, 2, replace=False).tolist()
        second = first if pair % 2 else other
        draw(first, 1000 + 2 * pair).save(path / f"{pair}a.png")
        draw(second, 1001 + 2 * pair).save(path / f"{pair}b.png")
        lines.append(f"{pair}a.png {pair}b.png {pair % 2}\n")
    (path / "pairs.txt").write_text("".join(lines))
    return path / "pairs.txt"


def _shape(rng):
    colors = rng.uniform(30, 240, (4, 3))
    sizes = rng.uniform(
        [0.26, 0.34, 0.14, 0.3, 0.04, 0.1, 0.65, 0.0], [0.46, 0.48, 0.3, 0.5, 0.1, 0.3, 0.85, 0.1]
    )
    return colors, sizes


def _paint(canvas, face, center):
    (hair, skin, iris, mouth), sizes = face
    width, height, eye_x, eye_y, eye, mouth_width, mouth_y, fringe = sizes
    x, y = center

    def ellipse(dx, dy, w, h, color):
        box = [(x + dx - w), (y + dy - h), (x + dx + w), (y + dy + h)]
        canvas.ellipse([CANVAS * edge for edge in box], fill=tuple(int(c) for c in color))

    ellipse(0, -0.03, width + 0.04, height, hair)
    ellipse(0, fringe, width, height - 0.03, skin)
    for side in (-1, 1):
        ellipse(side * eye_x, eye_y - 0.5, eye, 0.7 * eye, (250, 250, 250))
        ellipse(side * eye_x, eye_y - 0.5, eye / 2, eye / 2, iris)
    ellipse(0, mouth_y - 0.5, mouth_width, 0.04, mouth)


if __name__ == "__main__":
    BACKBONES.update(BACKBONE)
    sys.exit(main())
