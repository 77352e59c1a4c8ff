"""Face verification (do two images show the same person?), with the figures of the published protocol.

A pair is accepted if its score is above a threshold. The accuracy is cross-validated: the threshold that
is best on nine folds is applied to the tenth. The other figures describe the scores of all pairs.

References:
    Huang et al., "Labeled Faces in the Wild", 2007 (the ten folds); Schroff et al., "FaceNet", 2015
    (the validation rate); Deng et al., "ArcFace", CVPR 2019 (both, on unit embeddings).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation.curves import Roc, det_points, equal_error_rate, roc_of, thinned
from hyperface_jax.evaluation.histograms import bin_edges

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""False accept rates at which the true accept rate is reported."""

COSINE_RANGE = (-1.0, 1.0)

_NUM_BINS = 64
_ACCURACY_STEPS = np.arange(0, 4, 0.01) / 4
_FAR_STEPS = np.arange(0, 4, 0.001) / 4


class FoldTar(NamedTuple):
    """A cross-validated true accept rate, with the threshold for each fold chosen on the other folds.

    Attributes:
        tar: mean true accept rate over the folds with genuine pairs.
        tar_std: standard deviation of the true accept rate over these folds.
        far: mean of the resulting false accept rate over the folds with impostor pairs.
    """

    tar: float
    tar_std: float
    far: float


@dataclass(frozen=True)
class Separation:
    """How well scores separate genuine pairs from impostor pairs.

    Attributes:
        genuine: scores of the genuine pairs, ``[g]``.
        impostor: scores of the impostor pairs, ``[i]``.
        roc: rates at each distinct score.
        tar_at_far: for each rate in ``FARS``, the highest true accept rate with a false accept rate of
            at most that; None if there are too few impostor pairs for the rate to allow even one.
        eer: equal error rate, interpolated between two points of the ROC.
        auc: area under the ROC, with ties counted as one half.
        d_prime: difference of the means over the root mean square of the standard deviations.
        fisher_ratio: squared difference of the means over the sum of the variances.
    """

    genuine: np.ndarray
    impostor: np.ndarray
    roc: Roc
    tar_at_far: dict[float, float | None]
    eer: float
    auc: float
    d_prime: float
    fisher_ratio: float

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON values, with the scores binned and the curves thinned out.

        Returns:
            ``num_genuine``, ``num_impostor``, ``eer``, ``auc``, ``d_prime``, ``fisher_ratio``,
            ``tar_at_far`` with keys such as ``"1e-03"``, ``histogram``, ``roc`` and ``det``. A rate is
            None if there are too few pairs to measure it.
        """
        roc = thinned(self.roc, len(self.impostor))
        det = det_points(roc)
        edges = bin_edges(np.concatenate([self.genuine, self.impostor]), _NUM_BINS)
        return {
            "num_genuine": len(self.genuine),
            "num_impostor": len(self.impostor),
            "tar_at_far": {f"{far:.0e}": tar for far, tar in self.tar_at_far.items()},
            "eer": self.eer,
            "auc": self.auc,
            "d_prime": self.d_prime,
            "fisher_ratio": self.fisher_ratio,
            "histogram": {
                "edges": edges.tolist(),
                "genuine": np.histogram(self.genuine, edges)[0].tolist(),
                "impostor": np.histogram(self.impostor, edges)[0].tolist(),
            },
            "roc": {"far": roc.far.tolist(), "tar": roc.tar.tolist()},
            "det": {"far": det.far.tolist(), "frr": det.frr.tolist()},
        }


@dataclass(frozen=True)
class Verification:
    """Figures of one verification benchmark.

    Attributes:
        accuracy: mean accuracy over the folds.
        accuracy_std: standard deviation of the accuracy over the folds.
        fold_accuracies: accuracy of each fold, ``[k]``.
        fold_thresholds: threshold of each fold, above which pairs were accepted, ``[k]``.
        fold_tar_at_far: cross-validated true accept rate for each rate in ``FARS``; None as in
            ``Separation.tar_at_far``.
        separation: figures that do not depend on folds.
    """

    accuracy: float
    accuracy_std: float
    fold_accuracies: np.ndarray
    fold_thresholds: np.ndarray
    fold_tar_at_far: dict[float, FoldTar | None]
    separation: Separation

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON values.

        Returns:
            ``accuracy``, ``accuracy_std``, ``fold_accuracies``, ``fold_thresholds``,
            ``fold_tar_at_far``, and the items of :meth:`Separation.summary`.
        """
        rates = {
            f"{far:.0e}": None if tar is None else tar._asdict()
            for far, tar in self.fold_tar_at_far.items()
        }
        return {
            "accuracy": self.accuracy,
            "accuracy_std": self.accuracy_std,
            "fold_accuracies": self.fold_accuracies.tolist(),
            "fold_thresholds": self.fold_thresholds.tolist(),
            "fold_tar_at_far": rates,
            **self.separation.summary(),
        }


def flip_fused(raw: ArrayLike, raw_flipped: ArrayLike) -> np.ndarray:
    """Fuse the embeddings of images with those of their mirror images.

    Args:
        raw: embeddings of the images, not normalized, ``[n, d]``.
        raw_flipped: embeddings of the mirror images, not normalized, ``[n, d]``.

    Returns:
        Normalized sums, unit rows, float64 ``[n, d]``.

    Raises:
        InputError: the shapes differ, or a sum is zero or not finite.
    """
    raw, raw_flipped = np.asarray(raw, np.float64), np.asarray(raw_flipped, np.float64)
    _check_same_shape("raw", raw, "raw_flipped", raw_flipped)
    return unit_rows(raw + raw_flipped, "raw + raw_flipped")


def unit_rows(x: ArrayLike, name: str) -> np.ndarray:
    """Scale rows to length 1.

    Args:
        x: vectors, ``[n, d]``.
        name: name of the vectors in error messages.

    Returns:
        Unit rows, float64 ``[n, d]``.

    Raises:
        InputError: ``x`` is not a matrix, or a row is zero or not finite.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 2:
        raise InputError(f"{name}: has shape {x.shape}; [n, d] is needed")
    norms = np.sqrt(np.einsum("ij,ij->i", x, x))
    bad = np.flatnonzero(~((norms > 0) & np.isfinite(norms)))
    if bad.size:
        problem = "is zero" if norms[bad[0]] == 0 else "is not finite"
        raise InputError(f"{name}: row {bad[0]} {problem}; check the network and its input")
    return x / norms[:, None]


def verify(
    first: ArrayLike, second: ArrayLike, is_same: ArrayLike, *, num_folds: int = 10
) -> Verification:
    """Evaluate verification of pairs of embeddings by their squared distances.

    As in the published protocol, the folds are consecutive. The thresholds are
    ``np.arange(0, 4, 0.01)`` for the accuracy, where the first of several best ones is used, and
    ``np.arange(0, 4, 0.001)`` for the rates. The results are in terms of cosines,
    ``1 - distance / 2``.

    Args:
        first: embeddings of the first images, ``[n, d]``, of any length.
        second: embeddings of the second images, ``[n, d]``, of any length.
        is_same: whether each pair is genuine, ``[n]``.
        num_folds: number of folds for the cross-validation.

    Returns:
        All figures.

    Raises:
        InputError: the shapes differ, a row is zero or not finite, genuine or impostor pairs are
            missing, or there are too few pairs for the folds.
    """
    first, second = unit_rows(first, "first"), unit_rows(second, "second")
    _check_same_shape("first", first, "second", second)
    distances = np.sum(np.square(first - second), axis=1)
    _, is_same = _checked_pairs(distances, is_same)
    by_distance = _Folds(-distances, is_same, num_folds, (-4.0, 0.0))
    accuracies, thresholds = by_distance.accuracies()
    overall = separation(1 - distances / 2, is_same)
    return _verification(accuracies, 1 + thresholds / 2, by_distance.tar_at_far(), overall)


def verify_scores(
    scores: ArrayLike,
    is_same: ArrayLike,
    *,
    num_folds: int = 10,
    score_range: tuple[float, float] = COSINE_RANGE,
) -> Verification:
    """Evaluate verification of pairs by any score that is high for genuine pairs.

    Args:
        scores: score of each pair, ``[n]``.
        is_same: whether each pair is genuine, ``[n]``.
        num_folds: number of folds for the cross-validation.
        score_range: lowest and highest possible score; 400 evenly spaced thresholds in this range are
            tried for the accuracy, and 4000 for the rates.

    Returns:
        All figures.

    Raises:
        InputError: as for :func:`verify`, or the range is empty or too small for the scores.
    """
    if not -math.inf < score_range[0] < score_range[1] < math.inf:
        raise InputError(f"score_range: {score_range} is not a range; give (lowest, highest)")
    scores, is_same = _checked_pairs(scores, is_same)
    spare = 1e-3 * (score_range[1] - score_range[0])
    if scores.min() < score_range[0] - spare or scores.max() > score_range[1] + spare:
        raise InputError(f"score_range: scores lie outside of {score_range}; give their full range")
    folds = _Folds(scores, is_same, num_folds, score_range)
    accuracies, thresholds = folds.accuracies()
    return _verification(accuracies, thresholds, folds.tar_at_far(), separation(scores, is_same))


def separation(scores: ArrayLike, is_same: ArrayLike) -> Separation:
    """Measure how well scores separate genuine pairs from impostor pairs.

    Args:
        scores: score of each pair, high for genuine pairs, ``[n]``.
        is_same: whether each pair is genuine, ``[n]``.

    Returns:
        The figures that do not depend on folds.

    Raises:
        InputError: a score is not finite, or genuine or impostor pairs are missing.
    """
    scores, is_same = _checked_pairs(scores, is_same)
    genuine, impostor = scores[is_same], scores[~is_same]
    roc = roc_of(scores, is_same)
    (mean, variance), (other_mean, other_variance) = _moments(genuine), _moments(impostor)
    gap = mean - other_mean
    fisher_ratio = _ratio(gap**2, variance + other_variance)
    return Separation(
        genuine=genuine,
        impostor=impostor,
        roc=roc,
        tar_at_far={far: _tar(genuine, impostor, far) for far in FARS},
        eer=equal_error_rate(roc),
        auc=float(np.sum(np.diff(roc.far) * (roc.tar[1:] + roc.tar[:-1])) / 2),
        d_prime=math.copysign(math.sqrt(2 * fisher_ratio), gap),
        fisher_ratio=fisher_ratio,
    )


def num_allowed(rate: float, num_trials: int) -> int:
    """Return how many errors in ``num_trials`` a rate allows; if 0, the rate cannot be measured."""
    return math.floor(rate * num_trials + 1e-9)


class _Folds:
    """Consecutive folds of pairs, with the same sizes as in scikit-learn's KFold."""

    def __init__(
        self,
        scores: np.ndarray,
        is_same: np.ndarray,
        num_folds: int,
        score_range: tuple[float, float],
    ) -> None:
        num_pairs = len(scores)
        if not 2 <= num_folds <= num_pairs:
            raise InputError(f"num_folds: {num_folds} folds of {num_pairs} pairs; give 2 or more")
        self.low, self.high = score_range
        self.sizes = num_pairs // num_folds + (np.arange(num_folds) < num_pairs % num_folds)
        ends = np.cumsum(self.sizes)[:-1]
        parts = list(zip(np.split(scores, ends), np.split(is_same, ends), strict=True))
        self.genuine = [np.sort(part[same]) for part, same in parts]
        self.impostor = [np.sort(part[~same]) for part, same in parts]
        self.num_impostors = np.array([len(part) for part in self.impostor])

    def accuracies(self) -> tuple[np.ndarray, np.ndarray]:
        """Return each fold's accuracy at the threshold that is best on the others, and the threshold."""
        thresholds = self.high - (self.high - self.low) * _ACCURACY_STEPS
        rejected = self.num_impostors[:, None] - _num_above(self.impostor, thresholds)
        correct = _num_above(self.genuine, thresholds) + rejected
        best = np.argmax(correct.sum(axis=0) - correct, axis=1)
        return correct[np.arange(len(best)), best] / self.sizes, thresholds[best]

    def tar_at_far(self) -> dict[float, FoldTar | None]:
        """Return the cross-validated true accept rates."""
        thresholds = self.high - (self.high - self.low) * _FAR_STEPS
        accepted = _num_above(self.impostor, thresholds)
        num_others = self.num_impostors.sum() - self.num_impostors
        if not num_others.all():
            fold = int(np.argmin(num_others))
            raise InputError(f"is_same: fold {fold} holds all impostor pairs; shuffle the pairs")
        far = (accepted.sum(axis=0) - accepted) / num_others[:, None]
        num_impostors = int(self.num_impostors.sum())
        return {
            rate: self._tar(far, thresholds, rate) if num_allowed(rate, num_impostors) else None
            for rate in FARS
        }

    def _tar(self, far: np.ndarray, thresholds: np.ndarray, rate: float) -> FoldTar:
        """Return the rates with each fold's threshold interpolated from the other folds' FARs."""
        chosen = [
            float(np.interp(rate, row, thresholds)) if row[-1] >= rate else self.high for row in far
        ]
        pairs = list(zip(chosen, self.genuine, self.impostor, strict=True))
        tars = [np.mean(genuine > limit) for limit, genuine, _ in pairs if genuine.size]
        fars = [np.mean(impostor > limit) for limit, _, impostor in pairs if impostor.size]
        return FoldTar(float(np.mean(tars)), float(np.std(tars)), float(np.mean(fars)))


def _num_above(folds: list[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """Count the sorted scores of each fold above each threshold, ``[k, t]``."""
    return np.stack([len(x) - np.searchsorted(x, thresholds, side="right") for x in folds])


def _verification(
    accuracies: np.ndarray,
    thresholds: np.ndarray,
    fold_tar_at_far: dict[float, FoldTar | None],
    separation: Separation,
) -> Verification:
    mean, std = float(accuracies.mean()), float(accuracies.std())
    return Verification(mean, std, accuracies, thresholds, fold_tar_at_far, separation)


def _tar(genuine: np.ndarray, impostor: np.ndarray, far: float) -> float | None:
    allowed = num_allowed(far, len(impostor))
    if not allowed:
        return None
    limit = np.partition(impostor, -allowed - 1)[-allowed - 1]
    return float(np.mean(genuine > limit))


def _moments(x: np.ndarray) -> tuple[float, float]:
    """Return the mean and the variance, which is exactly zero if all values are equal."""
    offsets = x - x[0]
    return float(x[0] + offsets.mean()), float(offsets.var())


def _ratio(value: float, scale: float) -> float:
    if scale > 0:
        return float(value / scale)
    return math.inf if value > 0 else 0.0


def _check_same_shape(name: str, x: np.ndarray, other_name: str, other: np.ndarray) -> None:
    if x.shape != other.shape:
        raise InputError(f"{name} and {other_name}: shapes {x.shape} and {other.shape} differ")


def _checked_pairs(scores: ArrayLike, is_same: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores, np.float64), np.asarray(is_same)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise InputError(f"is_same: {labels.shape} for {scores.shape} scores; label each pair")
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        raise InputError(f"scores: pair {bad[0]} is {scores[bad[0]]}; check its embeddings")
    if labels.dtype != bool and not np.isin(labels, (0, 1)).all():
        raise InputError(
            "is_same: holds other values than 0 and 1; give 1 for genuine pairs, else 0"
        )
    same = labels.astype(bool)
    if same.all() or not same.any():
        missing = "impostor" if same.any() else "genuine"
        raise InputError(f"is_same: no {missing} pairs among {len(same)}; both kinds are needed")
    return scores, same
