"""The dispersion objectives of ledoh-torch, written from their published formulas.

Tokarchuk, Bakker, Niculae, *Keep your distance: learning dispersed embeddings on S^d* (TMLR 2025,
arXiv:2502.08231). The gradients are in closed form and nothing of size ``n x n`` is held.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.rivals.core import Cost
from benchmarks.rivals.descent import Evaluation, Objective
from benchmarks.rivals.sweeps import Panels, force_flops, max_cosine, pair_force, triangle_flops
from benchmarks.rivals.torch_rivals import nearest_objective

PAIRS_COST = Cost(1.0, 2.0, "each pair once; its weight is multiplied into both of its rows")
_EDGE = 1e-7


def koleo() -> Objective:
    """KoLeo: ``-log`` of the distance to the nearest point, ``|x - y|^2 = 2 - 2 c``."""
    return nearest_objective(lambda c: 0.5 / (1 - c).clamp(min=_EDGE))


def mma() -> Objective:
    """Maximum minimum angle: minus the angle to the nearest point."""
    return nearest_objective(_inverse_sine)


def mmd(kernel: str, scale: float) -> Objective:
    """Maximum mean discrepancy to the uniform law: the mean of a kernel over pairs.

    Written for the logarithm of that mean. It has the same minimisers, and the mean itself leaves
    the range of float32 (and drops under the epsilon of Adam) for sharp kernels.

    Args:
        kernel: "gaussian" ``exp(scale c)``, "laplace" ``exp(-scale angle)`` or "riesz"
            ``|x - y|^-scale``.
        scale: Sharpness; large values approach the max cosine.
    """
    panels = Panels()
    weight_at = {"gaussian": _gaussian, "laplace": _laplace, "riesz": _riesz}[kernel]
    reference: float | None = None

    def objective(x: Tensor) -> Evaluation:
        nonlocal reference
        if reference is None:
            reference = max_cosine(x, panels)
        force, reference = pair_force(x, weight_at(scale, reference), panels)
        # The force is n / 2 times the gradient of ``log(mean kernel) / scale``, in units of the cosine
        # (for "gaussian" exactly, else up to the slope of the kernel's argument at the max cosine).
        flops = triangle_flops(x) + force_flops(x)
        return Evaluation(force, reference, flops, scale=len(x) / 2)

    return objective


def lloyd(num_samples: int) -> Objective:
    """Online Lloyd: mean over uniform samples of half the squared angle to the nearest point."""

    def objective(x: Tensor) -> Evaluation:
        samples = torch.nn.functional.normalize(torch.randn(num_samples, x.shape[1]).to(x), dim=1)
        cosines, winners = (samples @ x.T).max(dim=1)
        slopes = torch.acos(cosines.clamp(-1 + _EDGE, 1 - _EDGE)) * _inverse_sine(cosines)
        gradient = torch.zeros_like(x).index_add_(0, winners, -slopes[:, None] * samples)
        return Evaluation(gradient, None, 2.0 * num_samples * x.numel())

    return objective


def sliced() -> Objective:
    """Sliced dispersion along one random great circle a step.

    The projections on the circle should be equally spaced angles: half the squared distance to the
    nearest such angles, which keep the order of the projected ones.
    """

    def objective(x: Tensor) -> Evaluation:
        frame = torch.linalg.qr(torch.randn(x.shape[1], 2)).Q.to(x)
        projected = x @ frame
        along_u, along_v = _circle_slopes(projected[:, :1], projected[:, 1:])
        gradient = torch.cat([along_u, along_v], dim=1) @ frame.T
        return Evaluation(gradient, None, 8.0 * x.numel())

    return objective


def sliced_axes(num_slices: int) -> Objective:
    """Sliced dispersion along the great circles through ``num_slices`` random pairs of axes."""

    def objective(x: Tensor) -> Evaluation:
        pairs = [torch.randperm(x.shape[1], device=x.device)[:2] for _ in range(num_slices)]
        first, second = torch.stack(pairs).unbind(dim=1)
        along_u, along_v = _circle_slopes(x[:, first], x[:, second])
        gradient = torch.zeros_like(x)
        gradient.index_add_(1, first, along_u / num_slices)
        gradient.index_add_(1, second, along_v / num_slices)
        return Evaluation(gradient, None, 0.0)

    return objective


def _circle_slopes(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives by the two coordinates ``[n, slices]`` of the points on each great circle."""
    angles = torch.atan2(v, u)
    n = len(angles)
    spaced = (torch.arange(n).to(u) + 0.5) * (2 * math.pi / n) - math.pi
    targets = torch.empty_like(angles)
    targets.scatter_(0, angles.argsort(dim=0), spaced[:, None].expand_as(angles))
    scaled = (angles - targets - angles.mean(dim=0)) / (u.square() + v.square())
    return -scaled * v, scaled * u


def _inverse_sine(cosines: Tensor) -> Tensor:
    return (1 - cosines.square()).clamp(min=_EDGE).rsqrt()


def _exp_(exponents: Tensor) -> Tensor:
    # Denormals would slow a matrix product threefold, and a batch can hold a pair that is much
    # closer than the reference, which comes from the batch before it.
    return exponents.clamp_(-60, 60).exp_()


def _gaussian(scale: float, reference: float) -> Callable[[Tensor], Tensor]:
    return lambda c: _exp_(c.sub_(reference).mul_(scale))


def _laplace(scale: float, reference: float) -> Callable[[Tensor], Tensor]:
    def weight_(c: Tensor) -> Tensor:
        slope = _inverse_sine(c)
        angle = c.clamp_(-1 + _EDGE, 1 - _EDGE).acos_()
        return _exp_(angle.sub_(math.acos(reference)).mul_(-scale)).mul_(slope)

    return weight_


def _riesz(scale: float, reference: float) -> Callable[[Tensor], Tensor]:
    power = -(scale / 2 + 1)

    def weight_(c: Tensor) -> Tensor:
        ratio = c.neg_().add_(1).clamp_(min=_EDGE).div_(max(1 - reference, _EDGE))
        return _exp_(ratio.log_().mul_(power))

    return weight_
