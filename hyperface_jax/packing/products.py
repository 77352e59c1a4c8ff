"""Precision of the products of a run: coarse at the start, fine for the rest, float32 for the result.

Only accelerators gain from anything but float32, so the devices of a run decide what a method leaves
open. The result is measured with the precision of the sweep itself, which is float32 unless a caller
says otherwise.
"""

from __future__ import annotations

from dataclasses import replace

from hyperface_jax.packing.methods import Method
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.pairwise import Precision, Sweep
from hyperface_jax.pairwise.platforms import platform_of

_COARSE_SHARE = 0.8
_LEAST_FLOPS = 5e10
"""Smallest work of a step that takes coarse products; below it, a GPU needs about a millisecond."""


def resolved(
    method: Method, problem: PackingProblem, sweep: Sweep, *, has_restarts: bool = False
) -> Method:
    """Choose everything that a method leaves open, for a problem and for the devices of a sweep.

    On a CPU all products are in float32. On an accelerator, steps use three-pass products, after coarse
    ones at the start if the method allows it and the problem is large. What a method names stays.

    Raises:
        InputError: the method cannot run at this size or on this number of devices.
    """
    num_points, dim = problem.num_points, problem.dim
    may_start_coarse = method.may_start_coarse(dim) and not has_restarts
    near_gallery = problem.gallery is not None
    method = method.resolve(num_points, dim, sweep.num_devices, near_gallery=near_gallery)
    is_accelerator = platform_of(sweep.mesh) != "cpu"
    coarse, precision = method.coarse_steps, method.precision
    if coarse is None:
        chooses = is_accelerator and may_start_coarse
        coarse = default_coarse_steps(num_points, dim, method.steps) if chooses else 0
    if precision is None:
        precision = fine_precision(is_accelerator, sweep)
    return replace(method, coarse_steps=coarse, precision=precision)


def default_coarse_steps(num_points: int, dim: int, num_steps: int) -> int:
    """Choose four fifths of the steps of a large problem, and none of those of a small one."""
    is_large = 3.0 * num_points**2 * dim >= _LEAST_FLOPS
    return int(_COARSE_SHARE * num_steps) if is_large else 0


def fine_precision(is_accelerator: bool, sweep: Sweep) -> Precision:
    """Choose the precision of the steps after the coarse ones; the GPU kernel has no three passes."""
    is_open = sweep.precision == "float32" and sweep.implementation != "pallas"
    return "bf16_x3" if is_accelerator and is_open else sweep.precision


def coarse_sweep(method: Method, sweep: Sweep) -> Sweep:
    """Return the sweep of the coarse steps."""
    return replace(sweep, precision=method.coarse_precision)


def fine_sweep(method: Method, sweep: Sweep) -> Sweep:
    """Return the sweep of the steps after the coarse ones."""
    return replace(sweep, precision=method.precision or sweep.precision)
