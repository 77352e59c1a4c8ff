"""Margin heads, which turn the cosine to the target class into a logit for the softmax.

For each face, a head gets the cosine to the face's own class and the norm of its embedding. Every
other logit is ``scale`` times its cosine. To add a head, write a small class with ``scale`` and the two
methods of :class:`MarginHead`; :mod:`hyperface_jax.recognition.losses` needs no change.

Heads compute in float32 for any input type.
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
        """Factor by which cosines are multiplied to give logits."""
        ...

    def init_state(self) -> Any:
        """Return the initial state, a NamedTuple of arrays."""
        ...

    def target_logits(
        self, cosine: PerRow, norms: PerRow, is_face: Mask, state: Any
    ) -> tuple[PerRow, Any]:
        """Return the scaled logits of the targets, with the margin, and the next state.

        Batch statistics are plain sums over the arguments, so these must hold the global batch.

        Args:
            cosine: cosine between each embedding and its class, ``[n]``.
            norms: norms of the embeddings, ``[n]``.
            is_face: False for padding rows, ``[n]``.
            state: from :meth:`init_state` or the previous step.
        """
        ...


class NoState(NamedTuple):
    """The empty state of a head without state."""


class _Stateless:
    def init_state(self) -> NoState:
        """Return the empty state."""
        return NoState()


@dataclass(frozen=True)
class ArcFace(_Stateless):
    """Additive angular margin, ``scale cos(theta + margin)``.

    The gradient follows insightface: the margin shifts the logit but is treated as a constant by the
    derivative, which is ``scale`` everywhere. Beyond ``theta + margin = pi`` the logit rises again, as
    in insightface since December 2022. Earlier versions switched to
    ``scale (cos theta - margin sin margin)`` there, so the logit jumped by 7.7 at the usual margin.

    Attributes:
        scale: factor by which cosines are multiplied to give logits.
        margin: margin on the angle in radians.

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
        scale: factor by which cosines are multiplied to give logits.
        margin: margin that is subtracted from the cosine.

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
    """Running statistics of the embedding norms.

    Attributes:
        mean: running mean, a scalar.
        std: running standard deviation, a scalar.
    """

    mean: Scalar
    std: Scalar


@dataclass(frozen=True)
class AdaFace:
    """A margin that grows with image quality, as measured by the norm of the embedding.

    Let ``z`` be the norm, standardized by its running mean and standard deviation, multiplied by ``h``
    and clipped to ``[-1, 1]``. The target logit is
    ``scale (cos(theta - margin z) - margin - margin z)``. As in the published code, the gradient flows
    through the angle but not through ``z``, and it is zero where the cosine exceeds ``1 - 1e-3`` in
    absolute value. The running statistics are updated from the real faces of the batch before they are
    used, and stay unchanged if there are fewer than two.

    Attributes:
        scale: factor by which cosines are multiplied to give logits.
        margin: base margin.
        h: factor on the standardized norm; ``z`` reaches its limits ``1 / h`` standard deviations from
            the mean.
        t_alpha: weight of the current batch in the running statistics.

    References:
        Kim, Jain and Liu, AdaFace: Quality Adaptive Margin for Face Recognition, CVPR 2022.
    """

    scale: float = 64.0
    margin: float = 0.4
    h: float = 0.333
    t_alpha: float = 0.01

    def init_state(self) -> AdaFaceState:
        """Return the published initial state, mean 20 and standard deviation 100."""
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
