import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from hyperface_jax.errors import InputError
from hyperface_jax.io import images


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def image(rng):
    return rng.integers(0, 256, (6, 9, 3), np.uint8)


def _saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["png", "bmp"])
def test_lossless_files_come_back_bit_for_bit(image, kind):
    data = images.encode(image, kind=kind)
    np.testing.assert_array_equal(images.decode(data, name="a"), image)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_lossy_files_come_back_about_the_same_and_in_rgb_order(kind):
    image = np.zeros((16, 16, 3), np.uint8) + np.array([200, 100, 20], np.uint8)
    decoded = images.decode(images.encode(image, kind=kind), name="a")
    assert decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded.astype(int), image, atol=6)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_every_mode_becomes_rgb(image, mode):
    converted = Image.fromarray(image).convert(mode)
    data = _saved(converted, "JPEG" if mode == "CMYK" else "PNG")
    decoded = images.decode(data, name="a")
    assert (decoded.shape, decoded.dtype) == (image.shape, np.uint8)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM"])
def test_other_formats_are_read_and_known_by_their_start(image, kind):
    data = _saved(Image.fromarray(image), kind)
    assert images.is_image_start(data[: images.NUM_START])
    assert images.decode(data, name="a").shape == image.shape


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_gray_levels_that_would_come_out_wrong_are_refused(dtype):
    gray = np.full((4, 4), 70_000, dtype)
    with pytest.raises(InputError, match="gray levels"):
        images.decode(_saved(Image.fromarray(gray), "TIFF"), name="a")


@pytest.mark.parametrize("text", [b"BMI of the subjects", b"P5 is", b"RIFFRAFF", b""])
def test_a_text_does_not_start_as_an_image(text):
    assert images.is_image_start(text) == (text == b"P5 is")


def test_transparency_is_dropped(image):
    with_alpha = Image.fromarray(np.dstack([image, np.full((6, 9), 7, np.uint8)]))
    np.testing.assert_array_equal(images.decode(_saved(with_alpha), name="a"), image)


def test_sixteen_bit_gray_is_scaled_to_eight():
    gray = np.array([[0, 256, 32768, 65535]], np.uint16)
    decoded = images.decode(_saved(Image.fromarray(gray)), name="a")
    np.testing.assert_array_equal(decoded[..., 0], [[0, 1, 128, 255]])


def test_a_picture_taken_sideways_is_put_upright(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = _saved(Image.fromarray(image), exif=exif)
    np.testing.assert_array_equal(images.decode(data, name="a"), np.rot90(image, -1))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"GIF89a" + data,
        lambda data: bytes(len(data)),
    ],
    ids=["cut", "empty", "another format", "zeros"],
)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp"])
def test_what_is_no_whole_image_is_named(rng, kind, spoil):
    data = images.encode(rng.integers(0, 256, (64, 64, 3), np.uint8), kind=kind)
    with pytest.raises(InputError, match=r"photo\.x: not a whole image.*; replace it"):
        images.decode(spoil(data), name="photo.x")


@pytest.mark.parametrize("size", [(10000, 7000), (20000, 20000)])
def test_an_image_that_unpacks_to_gigabytes_is_refused(size):
    data = _saved(Image.new("1", size))
    assert len(data) < 1 << 18
    with pytest.raises(InputError, match=r"bomb: more than \d+ pixels"):
        images.decode(data, name="bomb")


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), None])
def test_only_uint8_rgb_is_encoded(image, bad):
    kind = "gif" if bad is None else "png"
    with pytest.raises(InputError, match=r"is needed|is not an image format"):
        images.encode(image if bad is None else bad, kind=kind)


@pytest.mark.parametrize("xp", [np, jnp])
def test_pixels_are_scaled_to_plus_minus_one_in_the_color_order_named(xp):
    pixel = xp.asarray(np.array([[[255, 0, 51]]], np.uint8))
    rgb, bgr = (np.asarray(images.normalize(pixel, color)) for color in ("rgb", "bgr"))
    assert rgb.dtype == np.float32
    np.testing.assert_allclose(rgb, [[[1, -1, -0.6]]], atol=1e-6)
    np.testing.assert_array_equal(bgr, rgb[..., ::-1])


def test_another_color_order_is_an_error(image):
    with pytest.raises(InputError, match="use 'rgb' or 'bgr'"):
        images.normalize(image, "gbr")  # pyright: ignore[reportArgumentType]


def test_the_middle_is_cut_and_no_more_than_there_is(image):
    np.testing.assert_array_equal(images.center_crop(image, 4), image[1:5, 2:6])
    with pytest.raises(InputError, match="6 x 9 is smaller than 7 x 7"):
        images.center_crop(image, 7)


def test_resizing_keeps_the_mean_and_leaves_the_right_size_alone():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1).repeat(3, 2)
    assert images.resize(image, 8) is image
    small = images.resize(image, 4)
    assert small.shape == (4, 4, 3)
    assert small.mean() == pytest.approx(image.mean(), abs=0.5)


def _transform(angle, scale, shift):
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])


@pytest.mark.parametrize("angle", [0, 0.4, -2.5])
@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_a_similarity_is_recovered_from_points(rng, angle, scale):
    expected = _transform(angle, scale, (5, -7))
    points = rng.normal(size=(5, 2))
    found = images.similarity(points, points @ expected[:, :2].T + expected[:, 2])
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_similarity_is_never_a_reflection(rng):
    points = rng.normal(size=(5, 2))
    found = images.similarity(points, points * [-1, 1])
    assert np.linalg.det(found[:, :2]) > 0


def test_a_similarity_is_the_best_in_least_squares(rng):
    points, target = rng.normal(size=(2, 5, 2))
    found = images.similarity(points, target)

    def error(matrix):
        return np.sum((points @ matrix[:, :2].T + matrix[:, 2] - target) ** 2)

    for angle, scale, shift in [
        (1e-3, 1, 0),
        (-1e-3, 1, 0),
        (0, 1.001, 0),
        (0, 0.999, 0),
        (0, 1, 1e-3),
    ]:
        step = _transform(angle, scale, (shift, shift))
        other = step[:, :2] @ found
        other[:, 2] += step[:, 2]
        assert error(found) < error(other)


def _blobs(places, size):
    """Draw a Gaussian spot at each place."""
    y, x = np.mgrid[:size, :size]
    squared = (x[..., None] - places[:, 0]) ** 2 + (y[..., None] - places[:, 1]) ** 2
    spots = 255 * np.exp(-squared / (2 * 3.0**2)).max(-1)
    return spots.astype(np.uint8)[..., None].repeat(3, 2)


def _center_of_mass(image, place, radius=9):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    near = np.hypot(x - place[0], y - place[1]) < radius
    weight = near * image[..., 0].astype(float)
    return np.array([np.sum(x * weight), np.sum(y * weight)]) / weight.sum()


@pytest.mark.parametrize(("angle", "scale"), [(0, 1), (0.5, 1.2), (-0.8, 1.7), (3, 0.9)])
@pytest.mark.parametrize("size", [112, 224])
def test_aligned_landmarks_lie_on_the_template(angle, scale, size):
    center = images.TEMPLATE.mean(0)
    moved = (images.TEMPLATE - center) @ _transform(angle, scale, (0, 0))[:, :2].T + 150
    aligned = images.align(_blobs(moved, 300), moved, size)
    assert aligned.shape == (size, size, 3)
    template = images.TEMPLATE * size / 112
    found = [_center_of_mass(aligned, place) for place in template]
    np.testing.assert_allclose(found, template, atol=0.2)


def test_an_aligned_image_is_left_as_it_is(rng):
    image = rng.integers(0, 256, (112, 112, 3), np.uint8)
    aligned = images.align(image, images.TEMPLATE)
    np.testing.assert_allclose(aligned[1:-1, 1:-1].astype(int), image[1:-1, 1:-1], atol=1)


@pytest.mark.parametrize(
    "landmarks",
    [np.zeros((4, 2)), np.ones((5, 2)), images.TEMPLATE + np.nan],
    ids=["four", "one place", "nan"],
)
def test_landmarks_that_fix_no_face_are_an_error(image, landmarks):
    with pytest.raises(InputError, match=r"^landmarks: "):
        images.align(image, landmarks)
