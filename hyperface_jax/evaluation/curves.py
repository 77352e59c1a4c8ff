"""Curves of error rates, computed from scores and thinned out for files."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

_MOST_POINTS = 400


class Roc(NamedTuple):
    """Rates at each distinct score, starting with the strictest threshold.

    Attributes:
        far: share of impostor pairs that are accepted, ``[p]``, increasing from 0 to 1.
        tar: share of genuine pairs that are accepted, ``[p]``, increasing from 0 to 1.
        threshold: lowest score that is accepted, ``[p]``; the first is ``inf``.
    """

    far: np.ndarray
    tar: np.ndarray
    threshold: np.ndarray


class Det(NamedTuple):
    """Error rates on normal-deviate axes, where scores from two Gaussians give a straight line.

    Attributes:
        far: probit of the false accept rate, ``[p]``.
        frr: probit of the false reject rate, ``[p]``.
    """

    far: np.ndarray
    frr: np.ndarray


def roc_of(scores: np.ndarray, is_same: np.ndarray) -> Roc:
    """Return the rates at each distinct score.

    Args:
        scores: score of each pair, ``[n]``.
        is_same: whether each pair is genuine, bool ``[n]``; both kinds must occur.
    """
    order = np.argsort(-scores, kind="stable")
    scores, is_same = scores[order], is_same[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    genuine = np.cumsum(is_same)[last]
    impostor = last + 1 - genuine
    return Roc(
        np.append(0.0, impostor / impostor[-1]),
        np.append(0.0, genuine / genuine[-1]),
        np.append(math.inf, scores[last]),
    )


def det_points(roc: Roc) -> Det:
    """Transform an ROC to normal-deviate axes, leaving out rates of 0 and 1, which are at infinity."""
    far, frr = ndtri(roc.far), ndtri(1 - roc.tar)
    known = np.isfinite(far) & np.isfinite(frr)
    return Det(far[known], frr[known])


def equal_error_rate(roc: Roc) -> float:
    """Return the rate at which the false accept and false reject rates are equal, by interpolation."""
    excess = roc.far - (1 - roc.tar)
    after = int(np.argmax(excess >= 0))
    share = -excess[after - 1] / (excess[after] - excess[after - 1])
    return float(roc.far[after - 1] + share * (roc.far[after] - roc.far[after - 1]))


def thinned(roc: Roc, num_impostor: int) -> Roc:
    """Keep at most 400 points of an ROC, evenly spaced on a logarithmic axis of the false accept rate.

    Args:
        roc: rates at each distinct score.
        num_impostor: number of impostor pairs; the lowest rate is one of them.
    """
    rates = np.geomspace(1 / num_impostor, 1, _MOST_POINTS)
    # The last rate may round to just below 1.
    index = np.unique(np.searchsorted(roc.far, rates + 1e-12, side="right") - 1)
    return Roc(*(values[index] for values in roc))
