import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.sphere import sample_uniform
from hyperface_jax.synthesis import Negatives, Renderer, Variation, render
from hyperface_jax.synthesis.generators import guided
from hyperface_jax.synthesis.negatives import nearest_identities

sys.path.insert(0, str(Path(__file__).parent))
import fake_generator as fake


@pytest.mark.parametrize("num", [2, 7, 700])
def test_the_neighbor_is_the_nearest_other_row(num):
    x = np.asarray(sample_uniform(jax.random.key(0), num, 6))
    scores = x.astype(np.float64) @ x.T
    np.fill_diagonal(scores, -np.inf)
    found = nearest_identities(x)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, scores.argmax(axis=1))


def test_a_single_row_has_no_neighbor():
    with pytest.raises(InputError, match="a single identity has no neighbor"):
        nearest_identities(np.eye(1, 3, dtype=np.float32))


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_out_of_range_is_named(weight):
    with pytest.raises(InputError, match=r"`weight=.*`: must be between 0 and 1"):
        Negatives(conditions=np.eye(2), weight=weight)


def test_a_generator_without_guidance_takes_no_negatives():
    with pytest.raises(InputError, match="`negatives`: generator fake takes none; leave them out"):
        guided(fake.FAKE)
    with pytest.raises(InputError, match=r"the guidance of generator fake guided is off; leave"):
        guided(fake.Guided(takes_negatives=False))
    generator = fake.Guided()
    assert guided(generator) is generator


def test_each_attempt_at_an_image_gets_its_own_negative():
    x = np.eye(4, fake.DIM, dtype=np.float32)
    identities, generator = np.arange(20) % 4, fake.Guided()
    renderer = Renderer(
        generator=generator,
        key=jax.random.key(0),
        variation=Variation(min_cosine=0.75, cap_share=1),
        embed=fake.read,
        min_target_cosine=0.8,
        max_attempts=3,
    )
    away = Negatives(conditions=x[(identities + 1) % 4], weight=0.5)
    render(renderer, x[identities], identities, np.arange(20) // 4, negatives=away)
    assert len(generator.calls) == 3
    assert 20 == len(generator.calls[0].conditions) > len(generator.calls[1].conditions) > 0
    for conditions, negatives in zip(generator.conditions, generator.calls, strict=True):
        own = (conditions @ x.T).argmax(axis=1)
        np.testing.assert_array_equal(negatives.conditions, x[(own + 1) % 4])
        assert negatives.weight == 0.5
