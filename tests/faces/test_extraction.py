from typing import NamedTuple

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.faces import extract
from hyperface_jax.io.images import TEMPLATE, align, center_crop, encode
from hyperface_jax.io.resampling import resize_linear

SIZE = 16
MATRIX = np.random.default_rng(0).normal(size=(SIZE * SIZE * 3, 5))


class Images(NamedTuple):
    names: list
    contents: list

    def read(self, index):
        return self.contents[index]


class Linear:
    """A recognizer that multiplies pixels by a matrix, and remembers the batches."""

    image_size, color, embedding_dim, digest = SIZE, "rgb", 5, "0" * 64

    def __init__(self, matrix=MATRIX):
        self.matrix = matrix
        self.batches = []

    def __call__(self, images):
        assert images.shape[1:] == (SIZE, SIZE, 3)
        assert images.dtype == np.uint8
        self.batches.append(len(images))
        return (images.reshape(len(images), -1) / 255 @ self.matrix).astype(np.float32)


def picture(seed, height=SIZE, width=SIZE):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def make(pictures):
    contents = [p if isinstance(p, bytes) else encode(p) for p in pictures]
    return Images([f"face {i}.png" for i in range(len(contents))], contents)


def direct(pictures):
    raw = Linear()(np.stack(pictures)).astype(np.float64)
    norms = np.linalg.norm(raw, axis=1)
    return raw / norms[:, None], norms


def scaled(image):
    return resize_linear(image, SIZE, SIZE)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_embeddings_are_those_of_each_image_alone_in_order(batch_size):
    pictures = [picture(i) for i in range(7)]
    recognizer, done = Linear(), []
    result = extract(make(pictures), recognizer, batch_size=batch_size, progress=done.append)
    unit, norms = direct(pictures)
    assert result.names == [f"face {i}.png" for i in range(7)]
    assert result.embeddings.dtype == result.norms.dtype == np.float32
    np.testing.assert_allclose(result.embeddings, unit, atol=1e-6)
    np.testing.assert_allclose(result.norms, norms, rtol=1e-6)
    assert result.skipped == []
    assert result.num_unaligned == 0
    assert max(recognizer.batches) <= batch_size
    assert done[-1] == 7


def test_flipping_adds_the_raw_embedding_of_the_mirror_image():
    pictures = [picture(i) for i in range(4)]
    raw = Linear()(np.stack(pictures)) + Linear()(np.stack(pictures)[:, :, ::-1])
    result = extract(make(pictures), Linear(), flip=True)
    np.testing.assert_allclose(result.embeddings * result.norms[:, None], raw, rtol=1e-5)


def test_an_image_of_another_shape_is_cropped_and_counted():
    wide, large = picture(0, 20, 30), picture(1, 40, 40)
    result = extract(make([wide, large, picture(2), picture(3, 112, 112)]), Linear())
    expected = [scaled(center_crop(wide, 20)), scaled(large), picture(2)]
    np.testing.assert_allclose(result.embeddings[:3], direct(expected)[0], atol=1e-6)
    assert result.num_unaligned == 2


def test_landmarks_align_each_image_before_it_is_scaled():
    pictures = [picture(i, 150, 130) for i in range(3)]
    images = make(pictures)
    points = {name: TEMPLATE * 0.9 + 5 * i for i, name in enumerate(images.names)}
    result = extract(images, Linear(), landmarks=points)
    aligned = [align(p, points[n]) for p, n in zip(pictures, images.names, strict=True)]
    unit, _ = direct([scaled(image) for image in aligned])
    np.testing.assert_allclose(result.embeddings, unit, atol=1e-6)
    assert result.num_unaligned == 0


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_bad_images_are_skipped_with_the_reason(batch_size):
    pictures = [b"junk", picture(1), np.zeros((SIZE, SIZE, 3), np.uint8), encode(picture(2))[:99]]
    result = extract(make([*pictures, picture(4)]), Linear(), batch_size=batch_size)
    assert result.names == ["face 1.png", "face 4.png"]
    unit, norms = direct([picture(1), picture(4)])
    np.testing.assert_allclose(result.embeddings, unit, atol=1e-6)
    np.testing.assert_allclose(result.norms, norms, rtol=1e-6)
    reasons = dict(result.skipped)
    assert list(reasons) == ["face 0.png", "face 2.png", "face 3.png"]
    assert reasons["face 0.png"].startswith("not a whole image: unknown format")
    assert reasons["face 2.png"] == "its embedding is zero; remove it"


def test_images_without_usable_landmarks_are_skipped():
    points = {"face 1.png": TEMPLATE, "face 2.png": TEMPLATE * 0, "face 3.png": TEMPLATE * np.nan}
    result = extract(make([picture(i, 112, 112) for i in range(4)]), Linear(), landmarks=points)
    assert result.names == ["face 1.png"]
    assert [name for name, _ in result.skipped] == ["face 0.png", "face 2.png", "face 3.png"]
    assert "no landmarks" in result.skipped[0][1]


@pytest.mark.parametrize(
    ("pictures", "options", "words"),
    [
        ([b"junk", b""], {}, "none of 2 images can be used; the first, face 0.png: not a whole"),
        ([], {}, "images: none"),
        ([picture(0)], {"batch_size": 0}, "batch_size=0"),
        ([picture(0), b"junk"], {"is_strict": True}, "face 1.png: not a whole image"),
        ([picture(0)], {"landmarks": {}}, "face 0.png: has no landmarks"),
    ],
)
def test_what_cannot_be_embedded_is_named(pictures, options, words):
    with pytest.raises(InputError) as caught:
        extract(make(pictures), Linear(), **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_names_its_image(value):
    class Broken(Linear):
        def __call__(self, images):
            raw = super().__call__(images)
            raw[images.min((1, 2, 3)) == 255] = value
            return raw

    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    with pytest.raises(InputError, match=r"^face 2\.png: its embedding is not finite"):
        extract(make([b"junk", picture(1), white, picture(3)]), Broken())
