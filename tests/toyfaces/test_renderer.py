import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.toyfaces import (
    NUM_NUISANCE,
    Traits,
    image_nuisance,
    render,
    sample_identities,
    sample_nuisance,
    split_key,
    to_uint8,
    traits,
    unpack_nuisance,
)
from hyperface_jax.toyfaces.parameters import RANGES
from hyperface_jax.toyfaces.renderer import _render

KEY = split_key(0, "test")


def _people(num, *, preset="easy"):
    return sample_identities(KEY, num).latents, sample_nuisance(KEY, num, preset=preset)


@pytest.mark.parametrize("size", [8, 64])
def test_images_are_rgb_in_range(size):
    images = render(*_people(5, preset="training"), size=size)
    assert images.shape == (5, size, size, 3)
    assert 0 <= float(images.min()) < 0.2
    assert 0.6 < float(images.max()) <= 1


def test_a_face_does_not_depend_on_its_batch():
    latents, nuisance = _people(150, preset="training")
    whole = np.asarray(to_uint8(render(latents, nuisance, size=16)), int)
    for rows in (slice(3, 4), slice(10, 17), slice(64, 128), slice(85, 150)):
        part = np.asarray(to_uint8(render(latents[rows], nuisance[rows], size=16)), int)
        assert np.abs(part - whole[rows]).max() <= 1


@pytest.mark.fully_optimized
def test_memory_does_not_grow_with_the_batch_beyond_the_images():
    def temporary(num):
        latents, nuisance = jnp.zeros((num, 24)), jnp.zeros((num, NUM_NUISANCE))
        compiled = _render.lower(latents, nuisance, 32).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    images = 4 * 32 * 32 * 3
    assert temporary(2048) - temporary(256) < 1792 * 3 * images


def test_faces_can_be_differentiated_by_the_person():
    latents, nuisance = _people(30)
    step = 1e-3 * jax.random.normal(jax.random.key(1), latents.shape)

    def draw(x):
        return render(x, nuisance, size=16)

    _, slope = jax.jvp(draw, (latents,), (step,))
    difference = (draw(latents + step) - draw(latents - step)) / 2
    assert np.all(np.isfinite(slope))
    error = np.linalg.norm(slope - difference) / np.linalg.norm(difference)
    assert error < 0.1


def test_every_trait_shows_in_the_picture():
    num = len(Traits._fields)
    bald = jnp.zeros((num, num)).at[:, Traits._fields.index("hair_length")].set(-2)
    nuisance = jnp.tile(sample_nuisance(KEY, 1, preset="easy"), (num, 1))
    place = jnp.arange(num)
    low, high = (render(bald.at[place, place].set(v), nuisance, size=64) for v in (-2.0, 2.0))
    for name, change in zip(Traits._fields, jnp.abs(low - high).mean((1, 2, 3)), strict=True):
        assert float(change) > 2e-4, name


def test_traits_stay_in_their_ranges():
    found = traits(10 * jax.random.normal(jax.random.key(0), (100, 24)))
    for value, (low, high) in zip(found, RANGES, strict=True):
        assert low - 1e-6 <= float(value.min()) < float(value.max()) <= high + 1e-6


def test_one_person_looks_more_like_himself_than_like_others():
    num = 40
    latents = sample_identities(KEY, num).latents
    person = np.arange(num)
    views = [image_nuisance(KEY, person, np.full(num, i), preset="easy") for i in range(2)]
    first, second = (np.asarray(render(latents, view, size=32)).reshape(num, -1) for view in views)
    middle = np.zeros((32, 32, 3), bool)
    middle[8:26, 8:24] = True
    first, second = first[:, middle.ravel()], second[:, middle.ravel()]
    apart = np.linalg.norm(first[:, None] - second[None], axis=2)
    assert np.mean(np.diag(apart)) < 0.75 * np.mean(apart[~np.eye(num, dtype=bool)])
    # By pixels alone, under another light; chance is 1 in 40.
    assert np.mean(np.argmin(apart, axis=1) == person) > 0.1


def test_a_turned_face_differs_from_a_frontal_one_and_mirrors_roughly():
    latents, nuisance = _people(1)
    place = type(unpack_nuisance(nuisance))._fields.index("yaw")
    views = [render(latents, nuisance.at[0, place].set(yaw), size=64)[0] for yaw in (-1.2, 0, 1.2)]
    assert float(jnp.abs(views[0] - views[1]).mean()) > 0.03
    left, right = views[0], views[2][:, ::-1]
    assert float(jnp.abs(left - right).mean()) < float(jnp.abs(views[0] - views[2]).mean())


@pytest.mark.parametrize(
    ("identity", "nuisance", "size", "named"),
    [
        ((2, 23), (2, NUM_NUISANCE), 32, "identity, nuisance"),
        ((2, 24), (3, NUM_NUISANCE), 32, "identity, nuisance"),
        ((24,), (NUM_NUISANCE,), 32, "identity, nuisance"),
        ((2, 24), (2, NUM_NUISANCE), 4, "size=4"),
    ],
)
def test_what_does_not_fit_is_named(identity, nuisance, size, named):
    with pytest.raises(InputError, match=named):
        render(jnp.zeros(identity), jnp.zeros(nuisance), size=size)
