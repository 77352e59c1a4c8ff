import numpy as np
import pytest

from hyperface_jax.packing.figures import random_max_cosine


@pytest.mark.parametrize(("n", "d"), [(2, 3), (3, 2), (30, 3), (200, 16), (400, 64)])
def test_half_of_all_random_points_are_closer_than_the_median(n, d):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, n, d)).astype(np.float32)
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    cosines = x @ x.transpose(0, 2, 1)
    cosines[:, np.arange(n), np.arange(n)] = -1
    is_above = cosines.max(axis=(1, 2)) > random_max_cosine(n, d)
    # Three standard errors of a share of 400; the pairs of three points on a circle are dependent.
    assert is_above.mean() == pytest.approx(0.5, abs=0.25 if n == 3 else 0.075)
