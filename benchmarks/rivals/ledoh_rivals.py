"""The dispersion objectives of ledoh-torch, with geoopt's RiemannianAdam on its Sphere.

Tokarchuk, Bakker, Niculae, *Keep your distance: learning dispersed embeddings on S^d* (TMLR 2025,
arXiv:2502.08231). Where the package ``ledoh_torch`` is importable its own losses run, with
autograd; elsewhere ours do, written from the published formulas with the gradient in closed form
and nothing of size ``n x n`` held. The trace says which.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.rivals.core import Rival, Settings, Trace
from benchmarks.rivals.descent import Evaluation, Objective, descend, riemannian_adam
from benchmarks.rivals.sweeps import Panels, max_cosine, pair_force, triangle_flops
from benchmarks.rivals.torch_rivals import nearest_objective

TRANSCRIPTION = "our transcription of the published formula (arXiv:2502.08231)"
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
        return Evaluation(force, reference, 3.0 * len(x) * x.numel())

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


def sliced(num_slices: int, aligned: bool = False) -> Objective:
    """Sliced dispersion: projections on great circles should be equally spaced angles.

    The best equally spaced angles keep the order of the projected ones, and half the squared
    distance to them is minimised, averaged over the circles.

    Args:
        num_slices: Random great circles in each step.
        aligned: Take the circles through two coordinate axes.
    """

    def objective(x: Tensor) -> Evaluation:
        first, second = _great_circles(x, num_slices, aligned)
        u, v = x @ first, x @ second
        residual = _spacing_residual(torch.atan2(v, u))
        scaled = residual / (num_slices * (u.square() + v.square()))
        gradient = (scaled * u) @ second.T - (scaled * v) @ first.T
        return Evaluation(gradient, None, 8.0 * num_slices * x.numel())

    return objective


def _spacing_residual(angles: Tensor) -> Tensor:
    n = len(angles)
    spaced = (torch.arange(n).to(angles) + 0.5) * (2 * math.pi / n) - math.pi
    targets = torch.empty_like(angles)
    targets.scatter_(0, angles.argsort(dim=0), spaced[:, None].expand_as(angles))
    return angles - (targets + angles.mean(dim=0))


def _great_circles(x: Tensor, count: int, aligned: bool) -> tuple[Tensor, Tensor]:
    dim = x.shape[1]
    if aligned:
        pairs = torch.stack([torch.randperm(dim)[:2] for _ in range(count)])
        axes = torch.eye(dim).to(x)
        return axes[:, pairs[:, 0]], axes[:, pairs[:, 1]]
    frames = torch.linalg.qr(torch.randn(count, dim, 2)).Q.to(x)
    return frames[:, :, 0].T, frames[:, :, 1].T


def _inverse_sine(cosines: Tensor) -> Tensor:
    return (1 - cosines.square()).clamp(min=_EDGE).rsqrt()


def _gaussian(scale: float, reference: float) -> Callable[[Tensor], Tensor]:
    return lambda c: c.sub_(reference).mul_(scale).exp_()


def _laplace(scale: float, reference: float) -> Callable[[Tensor], Tensor]:
    def weight_(c: Tensor) -> Tensor:
        slope = _inverse_sine(c)
        angle = c.clamp_(-1 + _EDGE, 1 - _EDGE).acos_()
        return angle.sub_(math.acos(reference)).mul_(-scale).exp_().mul_(slope)

    return weight_


def _riesz(scale: float, reference: float) -> Callable[[Tensor], Tensor]:
    power = -(scale / 2 + 1)

    def weight_(c: Tensor) -> Tensor:
        ratio = c.neg_().add_(1).clamp_(min=_EDGE).div_(max(1 - reference, _EDGE))
        return ratio.log_().mul_(power).exp_()

    return weight_


@cache
def find_package() -> tuple[ModuleType | None, str]:
    """Import ``ledoh_torch`` and describe it, or say why it is not used."""
    try:
        module = importlib.import_module("ledoh_torch")
    except ImportError as error:
        return None, f"{TRANSCRIPTION}; no ledoh_torch ({error})"
    return module, f"ledoh_torch package {_version(Path(module.__path__[0]))}"


def _version(folder: Path) -> str:
    try:
        return importlib.metadata.version("ledoh-torch")
    except importlib.metadata.PackageNotFoundError:
        pass
    git = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    result = subprocess.run(git, capture_output=True, text=True, check=False)
    return result.stdout.strip() or f"of unknown version at {folder}"


def _package_loss(package: ModuleType, name: str, settings: dict[str, Any]) -> torch.nn.Module:
    if name in ("mmd_gaussian", "mmd_laplace", "riesz"):
        kernel, distance, key = {
            "mmd_gaussian": ("gaussian", "euclidean", "gamma"),
            "mmd_laplace": ("laplace", "geodesic", "gamma"),
            "riesz": ("riesz", "euclidean", "s"),
        }[name]
        return package.KernelSphereDispersion(kernel, distance, {key: settings["scale"]})
    if name == "lloyd":
        return package.LloydSphereDispersion(n_samples=settings["num_samples"])
    if name == "sliced_axes":
        return package.AxisAlignedBatchSphereDispersion(n_samples=settings["num_slices"])
    classes = {"koleo": "KoLeoDispersion", "mma": "MMADispersion", "sliced": "SlicedSphereDispersion"}
    return getattr(package, classes[name])()


def _package_objective(package: ModuleType, name: str, settings: dict[str, Any]) -> Objective:
    loss = _package_loss(package, name, settings)

    def objective(x: Tensor) -> Evaluation:
        points = x.detach().requires_grad_()
        loss(points).backward()
        assert points.grad is not None
        return Evaluation(points.grad, None, _package_flops(name, settings, x))

    return objective


def _package_flops(name: str, settings: dict[str, Any], x: Tensor) -> float:
    # The score matrix forward, and a product with its gradient for each of the two factors.
    if name == "lloyd":
        return 4.0 * settings["num_samples"] * x.numel()
    if name in ("sliced", "sliced_axes"):
        return 8.0 * x.numel() if name == "sliced" else 0.0
    return 6.0 * len(x) * x.numel()


def _our_objective(name: str, settings: dict[str, Any]) -> Objective:
    builders: dict[str, Callable[..., Objective]] = {
        "koleo": koleo,
        "mma": mma,
        "mmd_gaussian": lambda scale: mmd("gaussian", scale),
        "mmd_laplace": lambda scale: mmd("laplace", scale),
        "riesz": lambda scale: mmd("riesz", scale),
        "lloyd": lloyd,
        "sliced": sliced,
        "sliced_axes": lambda num_slices: sliced(num_slices, aligned=True),
    }
    return builders[name](**settings)


def _runner(name: str) -> Callable[..., Trace]:
    own = {
        "mmd_gaussian": ("scale",),
        "mmd_laplace": ("scale",),
        "riesz": ("scale",),
        "lloyd": ("num_samples",),
        "sliced": ("num_slices",),
        "sliced_axes": ("num_slices",),
    }.get(name, ())

    def run(x0: np.ndarray, *, package: bool | None = None, **settings: Any) -> Trace:
        mine = {key: settings.pop(key) for key in own}
        module, source = find_package()
        if package and module is None:
            raise ImportError(source)
        if module is None or package is False:
            source = source if module is None else TRANSCRIPTION
            return descend(
                x0, lambda: _our_objective(name, mine), riemannian_adam, source=source, **settings
            )
        return descend(
            x0,
            lambda: _package_objective(module, name, mine),
            riemannian_adam,
            source=source,
            **settings,
        )

    run.__doc__ = f"Run the ledoh-torch objective ``{name}``; ``package`` forces whose code."
    return run


RIVALS: dict[str, Rival] = {
}
