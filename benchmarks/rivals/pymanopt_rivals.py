"""Pymanopt's conjugate gradient on a log-sum-exp smoothed max cosine.

The formulation of Manopt's and Pymanopt's example "packing on the sphere" (Boumal et al.), on the
oblique manifold: minimize ``(1/beta) log sum_{i<j} exp(beta <x_i, x_j>)``. Made strong with an
analytic gradient that shares its score matrix with the cost, and a rising inverse temperature.
"""

from __future__ import annotations

import importlib.metadata
from contextlib import suppress

import numpy as np
import pymanopt
import torch
from pymanopt.manifolds import Oblique
from pymanopt.optimizers import ConjugateGradient
from pymanopt.optimizers.line_search import AdaptiveLineSearcher
from torch import Tensor

from benchmarks.rivals.core import Budget, Cost, Gallery, Recorder, Rival, Trace
from benchmarks.rivals.pull import GalleryPull
from benchmarks.rivals.sweeps import Panel, Panels, force_flops, triangle_flops
from benchmarks.rivals.tuned import TUNED

COST = Cost(1.0, 2.0, "each pair once a trial of the line search, one gradient a line search")


class _StageOverError(Exception):
    """Ends a stage at the point that the line search accepted."""


class _BudgetSpentError(Exception):
    """Ends a run in the middle of a line search."""


class SmoothedMax:
    """Cost and Euclidean gradient of the log-sum-exp at one inverse temperature.

    Pymanopt asks for costs along a line search, then once more at the point it accepted, then for
    the gradient there. The exponentials of the last point are kept, so this costs n^2 d FLOPs a
    trial and 2 n^2 d a gradient.

    Args:
        beta: Inverse temperature.
        until: Progress of the recorder at which this stage ends.
        recorder: Sees every trial; its budget ends the run.
        device: Where the matrix products run.
        pull: The gallery term, if there is one, with its rows searched.
        share: Of its full weight, for this stage.
    """

    def __init__(
        self,
        beta: float,
        until: float,
        recorder: Recorder,
        device: str,
        pull: GalleryPull | None = None,
        share: float = 1.0,
    ) -> None:
        self._beta = beta
        self._until = until
        self._recorder = recorder
        self._device = device
        self._pull = pull
        self._share = share
        self.accepted: np.ndarray | None = None
        self._point: np.ndarray | None = None
        self._cost = 0.0
        self._partition = 0.0
        self._panels: list[Panel] = []

    def cost(self, point: np.ndarray) -> float:
        """Return the cost of the points in the columns of ``point``."""
        if point is not self._point:
            self._evaluate(point)
        return self._cost

    def gradient(self, point: np.ndarray) -> np.ndarray:
        """Return the Euclidean gradient, columns as in ``point``."""
        self.accepted = point
        if self._recorder.progress >= self._until:
            raise _StageOverError
        self.cost(point)
        x = self._rows(point)
        force = torch.zeros_like(x)
        for start, stop, weights in self._panels:
            force[start:stop].addmm_(weights, x[start:])
            force[stop:].addmm_(weights[:, stop - start :].T, x[start:stop])
        self._recorder.flops += force_flops(x)
        force /= self._partition
        if self._pull is not None:
            force += self._share * self._pull.at(x)[1]
        return force.T.cpu().numpy()

    def _rows(self, point: np.ndarray) -> Tensor:
        return torch.from_numpy(point.T).to(self._device)

    def _evaluate(self, point: np.ndarray) -> None:
        if not self._recorder.has_room():
            raise _BudgetSpentError
        x = self._rows(point)
        panels = list(Panels(reuse=False).triangle(x))
        top = float(torch.stack([scores.amax() for _, _, scores in panels]).max())
        total = 0.0
        for start, stop, scores in panels:
            scores.sub_(top).mul_(self._beta).clamp_(min=-60).exp_()
            total += float(scores.sum() - scores[:, : stop - start].sum() / 2)
        self._recorder.flops += triangle_flops(x)
        term = 0.0 if self._pull is None else self._pull.at(x)[0]
        self._recorder.observe(x, top + term)
        self._point, self._panels, self._partition = point, panels, total
        self._cost = top + np.log(total) / self._beta + self._share * term


def run_conjugate_gradient(
    x0: np.ndarray,
    *,
    budget: Budget,
    seed: int,
    gallery: Gallery | None = None,
    betas: tuple[float, float] = (20.0, 4000.0),
    stages: int = 12,
    beta_rule: str = "HestenesStiefel",
    dtype: str = "float64",
    device: str = "cpu",
) -> Trace:
    """Minimize the smoothed max cosine by conjugate gradients, in stages of rising temperature.

    Args:
        x0: Unit rows ``[n, d]``.
        budget: Shared equally by the stages; what one leaves goes to the later ones.
        seed: Unused, the method is deterministic.
        gallery: Its term is added with a weight that rises to alpha over the stages, as in our
            solver; a stage keeps the nearest rows of its beginning.
        betas: First and last inverse temperature.
        stages: Number of them, in geometric progression; one stage runs at the last ``beta``.
        beta_rule: Pymanopt's rule for conjugate directions.
        dtype: Precision of everything.
        device: Where the matrix products run.
    """
    del seed
    point = np.ascontiguousarray(x0.T, dtype=dtype)
    point /= np.linalg.norm(point, axis=0)
    pull = None if gallery is None else GalleryPull(gallery)
    _warm_up(point, betas[0], device)
    recorder = Recorder(torch.from_numpy(point.T).to(device), budget)
    schedule = np.geomspace(*betas, stages) if stages > 1 else betas[1:]
    # Each stage starts with the step length that the one before it arrived at.
    searcher = AdaptiveLineSearcher()
    with suppress(_BudgetSpentError):
        for done, beta in enumerate(schedule):
            if pull is not None:
                recorder.flops += pull.search(torch.from_numpy(point.T).to(device))
            until = recorder.progress + (1 - recorder.progress) / (len(schedule) - done)
            share = done / (len(schedule) - 1) if len(schedule) > 1 else 1.0
            smoothed = SmoothedMax(float(beta), until, recorder, device, pull, share)
            point = _run_stage(beta_rule, searcher, smoothed, point)
    return recorder.trace(f"pymanopt {importlib.metadata.version('pymanopt')} ConjugateGradient")


def _run_stage(
    beta_rule: str, searcher: AdaptiveLineSearcher, smoothed: SmoothedMax, point: np.ndarray
) -> np.ndarray:
    optimizer = _optimizer(beta_rule)
    optimizer.line_searcher = searcher
    problem = _problem(point.shape, smoothed)
    try:
        return optimizer.run(problem, initial_point=point, reuse_line_searcher=True).point
    except _StageOverError:
        return point if smoothed.accepted is None else smoothed.accepted


def _optimizer(beta_rule: str) -> ConjugateGradient:
    unlimited = 10**12
    return ConjugateGradient(
        beta_rule=beta_rule,
        max_time=unlimited,
        max_iterations=unlimited,
        max_cost_evaluations=unlimited,
        min_gradient_norm=1e-8,
        min_step_size=1e-12,
        verbosity=0,
    )


def _problem(shape: tuple[int, ...], smoothed: SmoothedMax) -> pymanopt.Problem:
    manifold = Oblique(*shape)
    return pymanopt.Problem(
        manifold,
        pymanopt.function.numpy(manifold)(smoothed.cost),
        euclidean_gradient=pymanopt.function.numpy(manifold)(smoothed.gradient),
    )


def _warm_up(point: np.ndarray, beta: float, device: str) -> None:
    few = np.ascontiguousarray(point[:, :256])
    recorder = Recorder(torch.from_numpy(few.T).to(device), Budget(seconds=0.2))
    with suppress(_BudgetSpentError):
        smoothed = SmoothedMax(beta, 0.5, recorder, device)
        _run_stage("HestenesStiefel", AdaptiveLineSearcher(), smoothed, few)


RIVALS: dict[str, Rival] = {
    "pymanopt_lse_cg": Rival(
        "pymanopt_lse_cg", run_conjugate_gradient, ({},), TUNED["pymanopt_lse_cg"], COST
    )
}
