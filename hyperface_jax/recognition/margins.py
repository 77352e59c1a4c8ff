"""Margin heads: what a target's cosine becomes before the soft-max.

A head sees one cosine a face, that to its own class, and the length of the face's embedding; every
other logit is ``scale`` times its cosine. A new head is a small class with ``scale`` and the two
methods of :class:`MarginHead`; :mod:`hyperface_jax.recognition.losses` needs no change for it.

Heads compute in float32 whatever they are given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from hyperface_jax.typing import Mask, PerRow, Scalar

_ADAFACE_EPS = 1e-3


class MarginHead(Protocol):
    """The margin of one published loss."""

    @property
    def scale(self) -> float:
        """Factor from cosine to logit."""
        ...

    def init_state(self) -> Any:
        """Return the state to start from: arrays in a NamedTuple."""
        ...

    def target_logits(
        self, cosine: PerRow, norms: PerRow, is_face: Mask, state: Any
    ) -> tuple[PerRow, Any]:
        """Return the scaled logits of the targets, margin included, and the next state.

        Statistics over the batch are plain sums over the arrays given, so these must be those of the
        whole (global) batch.

        Args:
            cosine: between each embedding and its class, ``[n]``.
            norms: lengths of the embeddings, ``[n]``.
            is_face: False where a row only fills up the batch, ``[n]``.
            state: from :meth:`init_state` or the step before.
        """
        ...


class NoState(NamedTuple):
    """The state of a head that has none."""


class _Stateless:
    def init_state(self) -> NoState:
        """Return the empty state."""
        return NoState()


@dataclass(frozen=True)
class ArcFace(_Stateless):
    """Additive angular margin, ``scale cos(theta + margin)``.

    The gradient is that of insightface: the margin moves the logit but is a constant to the
    derivative, which is ``scale`` everywhere. Beyond ``theta + margin = pi`` the cosine rises again,
    as in insightface since December 2022; before, it fell back on
    ``scale (cos theta - margin sin margin)`` there, a jump of the logit by 7.7 at the usual margin.

    Attributes:
        scale: factor from cosine to logit.
        margin: in radians.

    References:
        Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019.
    """

    scale: float = 64.0
    margin: float = 0.5

    def target_logits(
        self, cosine: PerRow, norms: PerRow, is_face: Mask, state: NoState
    ) -> tuple[PerRow, NoState]:
        """Return ``scale cos(theta + margin)``; see :meth:`MarginHead.target_logits`."""
        del norms, is_face
        cosine = cosine.astype(jnp.float32)
        known = lax.stop_gradient(cosine)
        sine = jnp.sqrt(jnp.maximum(1 - known**2, 0))
        moved = known * math.cos(self.margin) - sine * math.sin(self.margin)
        return self.scale * (cosine + (moved - known)), state


@dataclass(frozen=True)
class CosFace(_Stateless):
    """Additive cosine margin, ``scale (cos theta - margin)``.

    Attributes:
        scale: factor from cosine to logit.
        margin: in units of cosine.

    References:
        Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition, CVPR 2018.
    """

    scale: float = 64.0
    margin: float = 0.4

    def target_logits(
        self, cosine: PerRow, norms: PerRow, is_face: Mask, state: NoState
    ) -> tuple[PerRow, NoState]:
        """Return ``scale (cos theta - margin)``; see :meth:`MarginHead.target_logits`."""
        del norms, is_face
        return self.scale * (cosine.astype(jnp.float32) - self.margin), state


class AdaFaceState(NamedTuple):
    """Running statistics of embedding lengths.

    Attributes:
        mean: running mean, a scalar.
        std: running standard deviation, a scalar.
    """

    mean: Scalar
    std: Scalar


@dataclass(frozen=True)
class AdaFace:
    """A margin that grows with image quality, for which the embedding's length stands.

    With ``z`` the length, standardized by its running mean and deviation, times ``h`` and cut to
    ``[-1, 1]``, the target logit is ``scale (cos(theta - margin z) - margin - margin z)``. The
    gradient goes through the angle, as in the published code, but not through ``z``; it is zero where
    the cosine lies beyond ``1 - 1e-3``. The running statistics are updated before they are used, by
    the real faces of the batch, and stay as they are if these are fewer than two.

    Attributes:
        scale: factor from cosine to logit.
        margin: the base margin.
        h: how much of a standard deviation reaches the full margin.
        t_alpha: share of the batch in the running statistics.

    References:
        Kim, Jain and Liu, AdaFace: Quality Adaptive Margin for Face Recognition, CVPR 2022.
    """

    scale: float = 64.0
    margin: float = 0.4
    h: float = 0.333
    t_alpha: float = 0.01

    def init_state(self) -> AdaFaceState:
        """Return the published start, mean 20 and deviation 100."""
        return AdaFaceState(jnp.float32(20), jnp.float32(100))

    def target_logits(
        self, cosine: PerRow, norms: PerRow, is_face: Mask, state: AdaFaceState
    ) -> tuple[PerRow, AdaFaceState]:
        """Return the quality-adaptive logits; see :meth:`MarginHead.target_logits`."""
        norms = lax.stop_gradient(jnp.clip(norms.astype(jnp.float32), 0.001, 100))
        state = self._updated(state, norms, is_face)
        z = jnp.clip(self.h * (norms - state.mean) / (state.std + _ADAFACE_EPS), -1, 1)
        bound = 1 - _ADAFACE_EPS
        angle = jnp.arccos(jnp.clip(cosine.astype(jnp.float32), -bound, bound))
        moved = jnp.clip(angle - self.margin * z, _ADAFACE_EPS, math.pi - _ADAFACE_EPS)
        return self.scale * (jnp.cos(moved) - self.margin * (1 + z)), state

    def _updated(self, state: AdaFaceState, norms: PerRow, is_face: Mask) -> AdaFaceState:
        count = jnp.sum(is_face, dtype=jnp.float32)
        mean = jnp.sum(norms, where=is_face) / jnp.maximum(count, 1)
        variance = jnp.sum((norms - mean) ** 2, where=is_face) / jnp.maximum(count - 1, 1)
        share = jnp.where(count > 1, self.t_alpha, 0.0)
        return AdaFaceState(
            share * mean + (1 - share) * state.mean,
            share * jnp.sqrt(variance) + (1 - share) * state.std,
        )
