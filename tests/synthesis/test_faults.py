import numpy as np
import pytest

from hyperface_jax.io.images import is_flat
from hyperface_jax.synthesis.faults import count_copies, sketch


def _noise(spread, seed=0, size=16):
    levels = 128 + spread * np.random.default_rng(seed).normal(size=(size, size, 3))
    return np.rint(levels).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("spread", [0, 1])
@pytest.mark.parametrize("color", [[0, 0, 0], [255, 255, 255], [9, 120, 33]])
def test_an_image_of_about_one_color_is_flat(spread, color):
    assert is_flat((_noise(spread) // 2 + np.array(color) // 2).astype(np.uint8))


def test_a_dim_picture_and_one_with_a_single_colored_half_are_not_flat():
    assert not is_flat(_noise(5))
    half = np.zeros((16, 16, 3), np.uint8)
    half[:8, :, 2] = 10
    assert not is_flat(half)


@pytest.mark.parametrize("size", [2, 7, 16, 112])
def test_sketches_tell_copies_from_other_images(size):
    image = _noise(40, size=size)
    assert len(sketch(image)) == 16
    assert sketch(image) == sketch(image.copy())
    assert sketch(image) != sketch(_noise(40, seed=1, size=size))


def test_copies_are_counted_by_identity():
    images = [_noise(40, seed) for seed in (0, 0, 0, 1, 2, 0, 3)]
    found = count_copies(np.array([0, 0, 0, 4, 4, 7, 9]), [sketch(image) for image in images])
    assert found == (1, 2, 3)
    assert count_copies(np.zeros(0, int), []) == (0, 0, 0)
