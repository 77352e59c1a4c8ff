"""Selection among measured conditions."""

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.response import Probes, select
from hyperface_jax.response.selection import shrunk_means


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _crowd(num, dim=32, seed=0):
    """Candidates on a narrow manifold, whose faces are exactly at their conditions."""
    rng = np.random.default_rng(seed)
    x = _unit(rng.standard_normal((num, 4)) @ rng.standard_normal((4, dim)))
    return x.astype(np.float32)


def test_rows_far_apart_are_chosen():
    x = _crowd(300)
    found = select(Probes(x, x, np.full(300, 4), 0.0), 20)
    scores = x[found.rows] @ x[found.rows].T - 2 * np.eye(20)
    np.testing.assert_allclose(found.nearest, scores.max(axis=1), atol=1e-5)
    assert len(set(found.rows.tolist())) == 20
    at_random = x[:20] @ x[:20].T - 2 * np.eye(20)
    assert scores.max(axis=1).mean() < at_random.max(axis=1).mean() - 0.2


def test_swaps_do_not_make_it_worse():
    x = _crowd(200)
    probes = Probes(x, x, np.full(200, 4), 0.0)
    greedy, swapped = (select(probes, 30, passes=passes).nearest.mean() for passes in (0, 3))
    assert swapped <= greedy


def test_a_planted_lucky_draw_is_not_chosen():
    """One image of a candidate happens to lie far from all: the next one will not."""
    x = _crowd(200)
    means, counts = x.copy(), np.full(200, 12)
    lucky = np.zeros(32, np.float32)
    lucky[np.argmin(np.abs(x).mean(axis=0))] = 1
    means[7], counts[7] = _unit(0.8 * x[7] + 0.6 * lucky), 1
    noise = 0.9
    trusted = Probes(x, means, np.full(200, 10_000), 0.0)
    assert 7 in select(trusted, 12, fidelity=0).rows
    assert 7 not in select(Probes(x, means, counts, noise), 12, fidelity=0).rows


def test_a_mean_of_many_faces_is_trusted_more():
    x = _crowd(400)
    rng = np.random.default_rng(1)
    rest = 0.02 * rng.standard_normal((400, 32))
    counts = np.where(np.arange(400) < 200, 1, 100)
    noise = 32 * 0.1**2
    means = x + rest + rng.standard_normal((400, 32)) * 0.1 / np.sqrt(counts)[:, None]
    found = shrunk_means(Probes(x, means.astype(np.float32), counts, noise))
    moved = np.linalg.norm(found - means, axis=1)
    assert moved[:200].mean() > 5 * moved[200:].mean()
    error = np.linalg.norm(found - (x + rest), axis=1)[:200].mean()
    assert error < np.linalg.norm(means - (x + rest), axis=1)[:200].mean()


def test_agreement_and_fidelity_count():
    x = np.eye(6, dtype=np.float32)
    means = x.copy()
    means[0] *= 0.2
    means[1] = x[1] * 0.6 + x[2] * 0.8
    probes = Probes(x, means, np.full(6, 1000), 0.0)
    assert 0 not in select(probes, 4, agreement=5.0, fidelity=0.0).rows
    assert 1 not in select(probes, 4, agreement=0.0, fidelity=5.0).rows


@pytest.mark.parametrize("num", [1, 301])
def test_an_impossible_number_is_refused(num):
    x = _crowd(300)
    with pytest.raises(InputError, match="between 2 and 300"):
        select(Probes(x, x, np.full(300, 4), 0.0), num)
