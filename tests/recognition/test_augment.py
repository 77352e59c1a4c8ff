import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.recognition import augment
from hyperface_jax.recognition.augment import NO_AUGMENTATION, Augmentation

STEPS = [augment.flip, augment.crop, augment.low_resolution, augment.photometric]
PROBABILITIES = ["flip", "crop", "low_resolution", "photometric"]
TRIES = range(200)


@pytest.fixture
def image():
    """Noise without black pixels."""
    return np.random.default_rng(0).integers(1, 256, (24, 24, 3), np.uint8)


def _only(name, probability):
    return Augmentation(**dict.fromkeys(PROBABILITIES, 0) | {name: probability})


def _rng(seed):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("shape", [(24, 24, 3), (9, 30, 3), (1, 1, 3)])
def test_shape_and_dtype_are_kept(step, shape):
    image = _rng(1).integers(0, 256, shape, np.uint8)
    for seed in range(20):
        changed = step(image, _rng(seed))
        assert (changed.shape, changed.dtype) == (shape, np.uint8)


@pytest.mark.parametrize("step", [*STEPS, Augmentation(1, 1, 1, 1)])
def test_the_generator_decides_everything_and_the_image_is_not_changed(step, image):
    before = image.copy()
    first, again, other = (step(image, _rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(image, before)
    assert step is augment.flip or np.any(first != other)


def test_at_probability_zero_nothing_happens(image):
    for seed in TRIES:
        np.testing.assert_array_equal(NO_AUGMENTATION(image, _rng(seed)), image)


@pytest.mark.parametrize("name", PROBABILITIES)
def test_at_probability_one_it_always_acts(name, image):
    same = [np.array_equal(_only(name, 1)(image, _rng(seed)), image) for seed in TRIES]
    assert np.mean(same) < 0.05


@pytest.mark.parametrize("name", PROBABILITIES)
def test_it_acts_as_often_as_its_probability_says(name, image):
    acts = [np.any(_only(name, 0.3)(image, _rng(seed)) != image) for seed in range(1000)]
    assert np.mean(acts) == pytest.approx(0.3, abs=0.05)


def test_the_defaults_are_those_of_adaface():
    assert Augmentation() == Augmentation(0.5, 0.2, 0.2, 0.2)


@pytest.mark.parametrize("name", PROBABILITIES)
@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_a_probability_outside_zero_to_one_is_an_error(name, value):
    with pytest.raises(InputError, match=rf"^{name}: .* use 0 to 1"):
        _only(name, value)


def test_two_flips_are_none(image):
    flipped = augment.flip(image, _rng(0))
    np.testing.assert_array_equal(flipped[:, 0], image[:, -1])
    np.testing.assert_array_equal(augment.flip(flipped, _rng(0)), image)


def test_a_crop_keeps_its_pixels_in_place_and_blacks_out_the_rest(image):
    shares, ratios = [], []
    for seed in TRIES:
        cropped = augment.crop(image, _rng(seed))
        kept = cropped.any(-1)
        rows, columns = (np.flatnonzero(np.any(kept, axis=axis)) for axis in (1, 0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert kept.sum() == height * width
        np.testing.assert_array_equal(cropped[kept], image[kept])
        shares.append(kept.mean())
        ratios.append(width / height)
    assert 0.15 < min(shares) < 0.3
    assert max(shares) > 0.9
    assert min(ratios) == pytest.approx(3 / 4, abs=0.1)
    assert max(ratios) == pytest.approx(4 / 3, abs=0.15)


def test_low_resolution_takes_detail_and_leaves_the_mean(image):
    for seed in TRIES:
        blurred = augment.low_resolution(image, _rng(seed)).astype(float)
        assert blurred.mean() == pytest.approx(image.mean(), rel=0.2)
    flat = np.full((24, 24, 3), 100, np.uint8)
    np.testing.assert_array_equal(augment.low_resolution(flat, _rng(0)), flat)


def test_photometric_changes_no_place_and_no_gray_hue():
    """Pixels of one color keep one color, and gray ones stay gray."""
    image = np.full((8, 8, 3), 120, np.uint8)
    image[:4] = [200, 80, 40]
    levels = set()
    for seed in TRIES:
        changed = augment.photometric(image, _rng(seed))
        assert len(np.unique(changed[:4].reshape(-1, 3), axis=0)) == 1
        assert len(np.unique(changed[4:])) == 1
        red, green, blue = changed[0, 0]
        assert red > green > blue
        levels.add(int(changed[7, 0, 0]))
    assert min(levels) < 80 < 160 < max(levels)
