"""The dispersion objectives of ledoh-torch, with geoopt's RiemannianAdam on its Sphere.

Where the package ``ledoh_torch`` is importable its own losses run, with autograd; elsewhere our
transcriptions do (:mod:`benchmarks.rivals.dispersion`). The trace says which.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.rivals import dispersion
from benchmarks.rivals.core import Cost, Gallery, Rival, Settings, Trace
from benchmarks.rivals.descent import Evaluation, Objective, descend, riemannian_adam
from benchmarks.rivals.torch_rivals import NEAREST_COST
from benchmarks.rivals.tuned import TUNED

TRANSCRIPTION = "our transcription of the published formula (arXiv:2502.08231)"


@dataclass(frozen=True)
class Method:
    """One dispersion objective, in our code and in the package's.

    Attributes:
        name: Name of the rival.
        ours: Builds our objective from ``options``.
        theirs: Builds the package's loss module from the package and ``options``.
        package_flops: Matrix-product FLOPs of the package's loss and gradient.
        options: Names of the settings that belong to the objective and not to the loop.
        cost: Of our objective; the package's dense autograd takes twice as much or more.
    """

    name: str
    ours: Callable[..., Objective]
    theirs: Callable[..., torch.nn.Module]
    package_flops: Callable[..., float]
    options: tuple[str, ...] = ()
    cost: Cost | None = None

    def run(
        self,
        x0: np.ndarray,
        *,
        package: bool | None = None,
        gallery: Gallery | None = None,
        **settings: Any,
    ) -> Trace:
        """Run the method; ``package`` forces whose code, else the package's if it is there.

        The package has no gallery term, so that with a gallery ours runs.
        """
        options = {key: settings.pop(key) for key in self.options}
        if gallery is not None:
            package = False
        module, source = find_package()
        if package and module is None:
            raise ImportError(source)

        def make_objective() -> Objective:
            if module is None or package is False:
                return self.ours(**options)
            return self._package_objective(module, options)

        if module is not None and package is False:
            source = TRANSCRIPTION
        return descend(
            x0, make_objective, riemannian_adam, source=source, gallery=gallery, **settings
        )

    def _package_objective(self, package: ModuleType, options: dict[str, Any]) -> Objective:
        loss = self.theirs(package, **options)

        def objective(x: Tensor) -> Evaluation:
            points = x.detach().requires_grad_()
            loss(points).backward()
            assert points.grad is not None
            return Evaluation(points.grad, None, self.package_flops(x, **options))

        return objective


@cache
def find_package() -> tuple[ModuleType | None, str]:
    """Import ``ledoh_torch`` and describe it, or say why it is not used."""
    try:
        module = importlib.import_module("ledoh_torch")
    except ImportError as error:
        return None, f"{TRANSCRIPTION}; ledoh_torch is not importable ({error})"
    return module, f"ledoh_torch package {_version(Path(module.__path__[0]).parent)}"


def _version(root: Path) -> str:
    try:
        return importlib.metadata.version("ledoh-torch")
    except importlib.metadata.PackageNotFoundError:
        pass
    manifest = root / "pyproject.toml"
    version = "of unknown version"
    if manifest.exists():
        version = tomllib.loads(manifest.read_text())["project"]["version"]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
        version += f" at {subprocess.run(command, capture_output=True, text=True).stdout.strip()}"
    return version


def _dense_flops(x: Tensor, **_: Any) -> float:
    # The score matrix, and a product with its gradient for each of the two factors.
    return 6.0 * len(x) * x.numel()


def _kernel_method(name: str, kernel: str, distance: str, argument: str) -> Method:
    return Method(
        name,
        ours=lambda scale: dispersion.mmd(kernel, scale),
        theirs=lambda package, scale: package.KernelSphereDispersion(
            kernel, distance, {argument: scale}
        ),
        package_flops=_dense_flops,
        options=("scale",),
        cost=dispersion.PAIRS_COST,
    )


METHODS = (
    Method(
        "koleo",
        dispersion.koleo,
        lambda package: package.KoLeoDispersion(),
        _dense_flops,
        cost=NEAREST_COST,
    ),
    Method(
        "mma",
        dispersion.mma,
        lambda package: package.MMADispersion(),
        _dense_flops,
        cost=NEAREST_COST,
    ),
    _kernel_method("mmd_gaussian", "gaussian", "euclidean", "gamma"),
    _kernel_method("mmd_laplace", "laplace", "geodesic", "gamma"),
    _kernel_method("riesz", "riesz", "euclidean", "s"),
    Method(
        "lloyd",
        dispersion.lloyd,
        lambda package, num_samples: package.LloydSphereDispersion(n_samples=num_samples),
        lambda x, num_samples: 4.0 * num_samples * x.numel(),
        ("num_samples",),
    ),
    Method(
        "sliced",
        dispersion.sliced,
        lambda package: package.SlicedSphereDispersion(),
        lambda x: 8.0 * x.numel(),
    ),
    Method(
        "sliced_axes",
        dispersion.sliced_axes,
        lambda package, num_slices: package.AxisAlignedBatchSphereDispersion(num_slices),
        lambda x, num_slices: 0.0,
        ("num_slices",),
    ),
)


def _product(**axes: tuple[Any, ...]) -> tuple[Settings, ...]:
    combinations: list[dict[str, Any]] = [{}]
    for key, values in axes.items():
        combinations = [known | {key: value} for known in combinations for value in values]
    return tuple(combinations)


_RATES = (0.03, 0.01, 0.003)
_SCHEDULES = ("constant", "cosine")

GRIDS: dict[str, tuple[Settings, ...]] = {
    "koleo": _product(lr=_RATES, schedule=_SCHEDULES),
    "mma": _product(lr=_RATES, schedule=_SCHEDULES),
    "mmd_gaussian": _product(scale=(1.0, 25.0, 100.0, 300.0), lr=_RATES, schedule=_SCHEDULES),
    "mmd_laplace": _product(scale=(1.0, 25.0, 100.0, 300.0), lr=_RATES, schedule=_SCHEDULES),
    "riesz": _product(scale=(1.0, 32.0, 128.0, 512.0), lr=_RATES, schedule=_SCHEDULES),
    "lloyd": _product(num_samples=(512,), lr=_RATES, schedule=_SCHEDULES),
    "sliced": _product(lr=(0.01, 0.001), schedule=_SCHEDULES),
    "sliced_axes": _product(num_slices=(16,), lr=(0.01, 0.001), schedule=_SCHEDULES),
}

RIVALS = {
    method.name: Rival(
        method.name, method.run, GRIDS[method.name], TUNED.get(method.name, {}), method.cost
    )
    for method in METHODS
}
