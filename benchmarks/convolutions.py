"""Formulations of a 3 x 3 convolution and its gradients on this device, against PyTorch.

    python -m benchmarks.convolutions

Every formulation gives the same numbers; the table says which one XLA runs fastest. All of a row take
turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from benchmarks.common import seconds, write_result
from hyperface_jax.recognition.convolution import by_phases, by_rows, convolve

SHAPES = (
    (64, 32, 32, 32, 1),
    (64, 32, 32, 32, 2),
    (8, 112, 64, 64, 1),
    (8, 112, 64, 64, 2),
    (8, 56, 64, 64, 1),
    (8, 28, 128, 128, 1),
    (8, 14, 256, 256, 1),
)
"""Images, height and width, channels in and out, stride: layers of the tiny network and of R50."""
SIZE, ROUNDS = 3, 5
_AXES = ("NHWC", "HWIO", "NHWC")


def main() -> None:
    """Time all shapes and write the JSON."""
    write_result("convolutions", {"rows": [measure(*shape) for shape in SHAPES]})


def measure(n: int, side: int, c: int, d: int, stride: int) -> dict[str, Any]:
    """Time every formulation of one shape, milliseconds, and check that they agree."""
    rng = np.random.default_rng(0)
    out = -(-side // stride)
    x, kernel, force = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((n, side, side, c), (SIZE, SIZE, c, d), (n, out, out, d))
    )
    tasks = {
        "forward": _bind(_forwards(stride), x, kernel),
        "by_images": _bind(_by_images(stride, side), x, kernel, force),
        "by_kernel": _bind(_by_kernel(stride), x, force, kernel),
    }
    for name, call in _torch_tasks(x, kernel, force, stride).items():
        tasks[name]["torch"] = call
    row: dict[str, Any] = {"shape": [n, side, c, d], "stride": stride}
    for name, formulations in tasks.items():
        row[name] = _milliseconds(formulations)
    print(row, flush=True)
    return row


def _bind(functions: Mapping[str, Any], *arguments: Any) -> dict[str, Callable[[], Any]]:
    calls = {name: partial(jax.jit(function), *arguments) for name, function in functions.items()}
    first, *others = (np.asarray(call()) for call in calls.values())
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-4 * np.abs(first).max())
    return calls


def _forwards(stride: int) -> dict[str, Any]:
    def products(x: Any, kernel: Any) -> Any:
        shifts = _shifts(x, stride)
        return sum(shift @ kernel[i // SIZE, i % SIZE] for i, shift in enumerate(shifts))

    def unfolded(x: Any, kernel: Any) -> Any:
        return jnp.concatenate(_shifts(x, stride), -1) @ kernel.reshape(-1, kernel.shape[-1])

    def channels_first(x: Any, kernel: Any) -> Any:
        x, kernel = x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1)
        y = lax.conv_general_dilated(x, kernel, (stride, stride), [(1, 1)] * 2)
        return y.transpose(0, 2, 3, 1)

    plain = partial(convolve, stride=stride)
    return {
        "xla": plain,
        "channels_first": channels_first,
        "9_products": products,
        "im2col": unfolded,
    }


def _by_images(stride: int, side: int) -> dict[str, Any]:
    def xla(x: Any, kernel: Any, force: Any) -> Any:
        return jax.linear_transpose(lambda x: _plain(x, kernel, stride), x)(force)[0]

    def phases(x: Any, kernel: Any, force: Any) -> Any:
        del x
        return by_phases(kernel, force, size=(side, side), stride=stride)

    return {"xla": xla, "by_phases": phases}


def _by_kernel(stride: int) -> dict[str, Any]:
    def xla(x: Any, force: Any, kernel: Any) -> Any:
        return jax.linear_transpose(lambda kernel: _plain(x, kernel, stride), kernel)(force)[0]

    def products(x: Any, force: Any, kernel: Any) -> Any:
        parts = [jnp.einsum("nhwc,nhwd->cd", shift, force) for shift in _shifts(x, stride)]
        return jnp.stack(parts).reshape(kernel.shape)

    def unfolded(x: Any, force: Any, kernel: Any) -> Any:
        patches = jnp.concatenate(_shifts(x, stride), -1)
        return jnp.einsum("nhwc,nhwd->cd", patches, force).reshape(kernel.shape)

    def rows(x: Any, force: Any, kernel: Any) -> Any:
        return by_rows(x, force, size=kernel.shape[0], stride=stride)

    return {"xla": xla, "by_rows": rows, "9_products": products, "im2col": unfolded}


def _plain(x: Any, kernel: Any, stride: int) -> Any:
    strides, pads = (stride, stride), [(1, 1), (1, 1)]
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_AXES)


def _shifts(x: Any, stride: int) -> list[Any]:
    side = x.shape[1]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [
        padded[:, i : i + side : stride, j : j + side : stride]
        for i in range(SIZE)
        for j in range(SIZE)
    ]


def _torch_tasks(x: Any, kernel: Any, force: Any, stride: int) -> dict[str, Callable[[], Any]]:
    """Return PyTorch's convolution and gradients, channels last."""
    last: Any = torch.channels_last
    images, forces = (torch.tensor(np.asarray(a)).permute(0, 3, 1, 2) for a in (x, force))
    weights = torch.tensor(np.asarray(kernel)).permute(3, 2, 0, 1).contiguous(memory_format=last)

    def backward(by_images: bool) -> Any:
        wanted = [by_images, not by_images, False]
        return torch.ops.aten.convolution_backward(
            forces, images, weights, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], 1, wanted
        )

    forward = partial(torch.nn.functional.conv2d, images, weights, stride=stride, padding=1)
    return {
        "forward": forward,
        "by_images": partial(backward, True),
        "by_kernel": partial(backward, False),
    }


def _milliseconds(calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the median of each; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS + 1):
        for name, call in calls.items():
            times[name] += seconds(call, runs=1)
    return {name: 1000 * float(np.median(values[1:])) for name, values in times.items()}


if __name__ == "__main__":
    main()
