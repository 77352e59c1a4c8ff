import itertools
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.sphere import sample_uniform
from hyperface_jax.synthesis.conditions import Variation
from hyperface_jax.synthesis.rendering import Renderer, render

sys.path.insert(0, str(Path(__file__).parent))
import fake_generator as fake

LOOSE = Variation(min_cosine=0.5, cap_share=1)


def _renderer(**settings):
    return Renderer(
        **{"generator": fake.FAKE, "key": jax.random.key(0), "variation": LOOSE} | settings
    )


def _batch(num=20):
    x = np.asarray(sample_uniform(jax.random.key(1), 4, fake.DIM))
    identities = np.arange(num) % 4
    return x[identities], identities, np.arange(num) // 4


def test_images_come_in_order_with_their_figures():
    batch = _batch()
    images = render(_renderer(embed=fake.read), *batch)
    assert [(r.identity, r.sample) for r in images] == list(zip(*batch[1:], strict=True))
    for image, target in zip(images, batch[0], strict=True):
        assert image.is_kept
        assert image.attempt == 0
        assert image.target_cosine == pytest.approx(image.condition_cosine, abs=0.02)
        assert image.target_cosine == pytest.approx(float(image.embedding @ target), abs=1e-6)


def test_without_a_recognizer_nothing_is_measured():
    images = render(_renderer(), *_batch())
    assert all(r.is_kept and r.target_cosine is None and r.embedding is None for r in images)


def test_images_far_from_their_target_are_drawn_again():
    batch = _batch()
    once = render(_renderer(embed=fake.read, min_target_cosine=0.6), *batch)
    again = render(_renderer(embed=fake.read, min_target_cosine=0.6, max_attempts=30), *batch)
    assert 0 < sum(r.is_kept for r in once) < len(once)
    assert all(r.is_kept and r.target_cosine >= 0.6 for r in again)
    for first, last in zip(once, again, strict=True):
        assert (last.attempt == 0) == first.is_kept
        assert np.array_equal(first.original, last.original) == first.is_kept


def _black_at(calls, places):
    """A generator that draws black images at some places of its first calls."""

    def paint(conditions, noise):
        images = fake.paint(conditions, noise)
        if next(calls) == 0:
            images[places] = 0
        return images

    return replace(fake.FAKE, function=paint)


@pytest.mark.parametrize("embed", [None, fake.read])
def test_black_images_are_drawn_again_or_dropped(embed):
    places = [3, 8]
    once = render(_renderer(generator=_black_at(itertools.count(), places), embed=embed), *_batch())
    assert [i for i, r in enumerate(once) if r.is_flat] == places
    assert all(r.is_kept != r.is_flat and (r.face is None) == r.is_flat for r in once)
    again = _renderer(generator=_black_at(itertools.count(), places), embed=embed, max_attempts=2)
    assert all(r.is_kept and not r.is_flat for r in render(again, *_batch()))


def test_batches_change_no_image():
    batch = _batch()
    renderer = _renderer(embed=fake.read, min_target_cosine=0.6, max_attempts=3)
    whole = render(renderer, *batch)
    parts = [render(renderer, *(c[i : i + 3] for c in batch)) for i in range(0, 20, 3)]
    for one, other in zip(whole, itertools.chain(*parts), strict=True):
        np.testing.assert_array_equal(one.original, other.original)
        assert one.attempt == other.attempt


def test_an_image_without_a_face_is_tried_again_and_given_up():
    seen = []

    def crop(image):
        seen.append(image)
        return None if image[0, 0, 0] < 127 else image[:8, :8]

    batch = _batch()
    images = render(_renderer(crop=crop, max_attempts=2), *batch)
    kept = [r for r in images if r.is_kept]
    assert 0 < len(kept) < len(images)
    assert all(r.face.shape == (8, 8, 3) for r in kept)
    assert all(r.face is None and r.attempt == 1 for r in images if not r.is_kept)
    assert len(seen) > len(batch[0])


@pytest.mark.parametrize("wrong", [np.float32, "shape"])
def test_a_generator_with_other_images_is_named(wrong):
    def function(conditions, noise):
        images = fake.paint(conditions, noise)
        return images[:, 1:] if wrong == "shape" else images.astype(wrong)

    generator = replace(fake.FAKE, function=function)
    with pytest.raises(
        InputError, match=r"generator fake: returned .* return uint8 \(20, 16, 16, 3\)"
    ):
        render(_renderer(generator=generator), *_batch())


def test_a_recognizer_of_another_dimension_is_refused():
    with pytest.raises(InputError, match="embeds in 5 dimensions and the targets have 12"):
        render(_renderer(embed=lambda x: np.ones((len(x), 5))), *_batch())


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="min_target_cosine"):
        _renderer(min_target_cosine=0.5)
    with pytest.raises(InputError, match="max_attempts"):
        _renderer(max_attempts=0)
