"""A convolution with gradients that are fast on CPUs too.

XLA computes the weight gradient of a convolution as another convolution, with a kernel as large as the
image. It computes the image gradient of a strided convolution as a convolution over an array that is
mostly zeros. Vendor libraries for accelerators handle both well, but XLA's CPU code is many times slower
there than for an ordinary kernel. On a CPU, this module therefore computes the weight gradient as a
matrix product over a few image rows at a time, so few that the unfolded patches stay in the cache, and
the image gradient as one ordinary convolution for each phase of the stride.
``benchmarks/convolutions.py`` compares the formulations.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

_AXES = ("NHWC", "HWIO", "NHWC")
_PATCH_BYTES = 2 << 20
"""Size of the unfolded patches in one step, about one core's share of the cache."""


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve images, padded by half the kernel size on both sides as in PyTorch.

    JAX's "SAME" would pad a strided convolution on one side only. Only reverse-mode derivatives are
    supported.

    Args:
        x: images, ``[n, h, w, c]``.
        kernel: ``[k, k, c, d]`` with odd k, in the dtype of ``x``.
        stride: stride along both axes.

    Returns:
        ``[n, ceil(h / stride), ceil(w / stride), d]``, in the dtype of ``x``.
    """
    return _convolve(x, kernel, stride)


def _convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    pad, strides = kernel.shape[0] // 2, (stride, stride)
    return lax.conv_general_dilated(x, kernel, strides, [(pad, pad)] * 2, dimension_numbers=_AXES)


def _forward(
    x: jax.Array, kernel: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel, stride), (x, kernel)


def _backward(
    stride: int, residuals: tuple[jax.Array, jax.Array], force: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    plain = partial(_convolve, stride=stride)
    by_x = lax.platform_dependent(
        kernel,
        force,
        cpu=partial(by_phases, size=(x.shape[1], x.shape[2]), stride=stride),
        default=lambda kernel, force: jax.linear_transpose(lambda x: plain(x, kernel), x)(force)[0],
    )
    by_kernel = lax.platform_dependent(
        x,
        force,
        cpu=partial(by_rows, size=kernel.shape[0], stride=stride),
        default=lambda x, force: jax.linear_transpose(lambda k: plain(x, k), kernel)(force)[0],
    )
    return by_x, by_kernel


convolve.defvjp(_forward, _backward)


def by_rows(x: jax.Array, force: jax.Array, *, size: int, stride: int) -> jax.Array:
    """Compute the kernel gradient of :func:`convolve`, a few rows of the result at a time.

    Args:
        x: input of the convolution, ``[n, h, w, c]``.
        force: gradient with respect to the result, ``[n, h', w', d]``.
        size: kernel size, k.
        stride: stride of the convolution.

    Returns:
        ``[k, k, c, d]`` in the dtype of ``x``, summed in float32.
    """
    n, height, width, d = force.shape
    c = x.shape[-1]
    rows = _rows_a_step(height, n * width * size**2 * c * x.dtype.itemsize)
    pad = size // 2
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    def add(total: jax.Array, step: jax.Array) -> tuple[jax.Array, None]:
        span = (rows - 1) * stride + size
        x_rows = lax.dynamic_slice_in_dim(x, step * rows * stride, span, axis=1)
        force_rows = lax.dynamic_slice_in_dim(force, step * rows, rows, axis=1)
        ends = rows * stride - stride + 1, width * stride - stride + 1
        patches = [
            x_rows[:, i : i + ends[0] : stride, j : j + ends[1] : stride]
            for i in range(size)
            for j in range(size)
        ]
        product = jnp.einsum(
            "nhwc,nhwd->cd",
            jnp.concatenate(patches, axis=-1),
            force_rows,
            preferred_element_type=jnp.float32,
        )
        return total + product, None

    zeros = jnp.zeros((size**2 * c, d), jnp.float32)
    total, _ = lax.scan(add, zeros, jnp.arange(height // rows))
    return total.reshape(size, size, c, d).astype(x.dtype)


def _rows_a_step(height: int, row_bytes: int) -> int:
    """Return the largest divisor of ``height`` with patches that fit into the cache, or 1."""
    fitting = max(1, _PATCH_BYTES // row_bytes)
    return max(rows for rows in range(1, min(fitting, height) + 1) if height % rows == 0)


def by_phases(
    kernel: jax.Array, force: jax.Array, *, size: tuple[int, int], stride: int
) -> jax.Array:
    """Compute the image gradient of :func:`convolve`, one phase of the stride at a time.

    Pixels with the same ``(row % stride, column % stride)`` are multiplied by the same kernel taps, so
    each phase is an ordinary convolution of the force, without zeros between its values.

    Args:
        kernel: ``[k, k, c, d]``.
        force: gradient with respect to the result, ``[n, h', w', d]``.
        size: height and width of the images.
        stride: stride of the convolution.

    Returns:
        ``[n, h, w, c]``.
    """
    flipped = kernel.transpose(0, 1, 3, 2)
    phases = _phases(kernel.shape[0], stride)
    parts = [
        _convolve_phase(force, flipped[row.taps][:, column.taps], (row.pads, column.pads))
        for row in phases
        for column in phases
    ]
    n, height, width, c = parts[0].shape
    grid = jnp.stack(parts).reshape(stride, stride, n, height, width, c)
    woven = grid.transpose(2, 3, 0, 4, 1, 5).reshape(n, height * stride, width * stride, c)
    return woven[:, : size[0], : size[1]]


class _Phase(NamedTuple):
    taps: slice
    pads: tuple[int, int]


def _phases(size: int, stride: int) -> list[_Phase]:
    """Return the kernel taps that apply to each phase, and the padding of the force for them."""
    phases = []
    for phase in range(stride):
        first = (phase + size // 2) % stride
        last = size - 1 - (size - 1 - first) % stride
        offsets = (phase + size // 2 - last) // stride, (phase + size // 2 - first) // stride
        taps = slice(last, first - 1 if first else None, -stride)
        phases.append(_Phase(taps, (-offsets[0], offsets[1])))
    return phases


def _convolve_phase(
    force: jax.Array, taps: jax.Array, pads: tuple[tuple[int, int], tuple[int, int]]
) -> jax.Array:
    if not taps.size:
        return jnp.zeros((*force.shape[:3], taps.shape[-1]), force.dtype)
    return lax.conv_general_dilated(force, taps, (1, 1), pads, dimension_numbers=_AXES)
