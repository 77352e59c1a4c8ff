import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hyperface_jax.recognition.convolution import by_phases, by_rows, convolve

CASES = [
    # images, height, width, channels in and out, kernel, stride
    (2, 8, 8, 3, 5, 3, 1),
    (3, 9, 6, 4, 2, 3, 2),
    (2, 8, 8, 3, 4, 3, 2),
    (2, 7, 7, 3, 4, 1, 2),
    (1, 10, 11, 2, 3, 5, 3),
    (2, 5, 5, 2, 2, 1, 1),
]


def _case(n, height, width, c, d, size, stride):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (n, height, width, c))
    kernel = jax.random.normal(keys[1], (size, size, c, d))
    force = jax.random.normal(keys[2], (n, -(-height // stride), -(-width // stride), d))
    return x, kernel, force, stride


def _plain(x, kernel, stride):
    pads = [(kernel.shape[0] // 2,) * 2] * 2
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=axes)


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_those_of_the_plain_convolution(case):
    x, kernel, force, stride = _case(*case)
    value, gradients = jax.vjp(lambda x, kernel: convolve(x, kernel, stride), x, kernel)
    expected, plain = jax.vjp(lambda x, kernel: _plain(x, kernel, stride), x, kernel)
    np.testing.assert_array_equal(value, expected)
    for ours, theirs in zip(gradients(force), plain(force), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_formulations_of_the_cpu_hold_on_every_platform(case):
    x, kernel, force, stride = _case(*case)
    _, plain = jax.vjp(lambda x, kernel: _plain(x, kernel, stride), x, kernel)
    by_x, by_kernel = plain(force)
    ours = by_phases(kernel, force, size=x.shape[1:3], stride=stride)
    np.testing.assert_allclose(ours, by_x, atol=2e-5, rtol=2e-5)
    rows = by_rows(x, force, size=kernel.shape[0], stride=stride)
    np.testing.assert_allclose(rows, by_kernel, atol=2e-5, rtol=2e-5)


@pytest.mark.fully_optimized
def test_the_weight_gradient_never_holds_the_patches_of_the_whole_batch():
    x = force = jax.ShapeDtypeStruct((16, 112, 112, 64), jnp.float32)
    patches = 4 * x.size * 9
    compiled = (
        jax.jit(lambda x, force: by_rows(x, force, size=3, stride=1)).lower(x, force).compile()
    )
    assert compiled.memory_analysis().temp_size_in_bytes < patches / 6


def test_bfloat16_gradients_are_summed_in_float32():
    x, kernel, force, stride = _case(4, 32, 32, 8, 8, 3, 1)
    wide = jax.grad(lambda kernel: jnp.vdot(convolve(x, kernel, stride), force))(kernel)
    narrow = [a.astype(jnp.bfloat16) for a in (x, kernel, force)]
    got = by_rows(narrow[0], narrow[2], size=3, stride=stride)
    assert got.dtype == jnp.bfloat16
    error = np.abs(np.asarray(got, np.float32) - wide).max()
    assert error < 0.01 * np.abs(wide).max()
