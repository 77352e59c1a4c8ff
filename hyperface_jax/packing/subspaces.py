"""The subspace of a gallery: a probabilistic principal component analysis with shrinkage.

A small gallery says little about the manifold near a point, but something about all of it: in which
directions faces differ at all. The model is Gaussian, of the covariance ``W W^T + s^2 I``, with as many
columns of ``W`` as predict faces best that were left out. Identities can be drawn from it, as a start,
and its span is a model of the face manifold. scikit-learn has the parts, for one host and float64; here
they are a few products of moments, so that they run under jit and next to sharded galleries.

References:
    Tipping and Bishop, *Probabilistic principal component analysis*, 1999. Ledoit and Wolf, *A
    well-conditioned estimator for large-dimensional covariance matrices*, 2004. Minka, *Automatic choice
    of dimensionality for PCA*, 2000, compares such a choice with others.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperface_jax import sphere
from hyperface_jax.errors import InputError
from hyperface_jax.packing.inputs import unit_rows, whole
from hyperface_jax.typing import Array, Float, Gallery, Points, PRNGKey, RowsLike

_FOLDS = 5
FEWEST_ROWS = 3
_LEAST_LENGTH = 1e-3
"""Share of the mean outside the other directions below which it is taken to lie within them."""
_LEAST_VARIANCE = 1e-7
"""Variance of unit rows that float32 cannot tell from none."""
_ALIKE = 2.0
"""Difference in -2 log likelihood that one more parameter makes by chance."""


class GallerySubspace(NamedTuple):
    """A Gaussian model of a gallery, and the :class:`.Manifold` that its span is.

    The manifold consists of the unit vectors in the span of the mean and of the directions, so the
    distance of a point is one minus the cosine of the angle between them. As a pytree of arrays it is
    traced in a problem: galleries of the same dimension share one compilation.

    Examples:
        >>> gallery = sphere.sample_uniform(jax.random.key(0), 200, 3) @ jnp.eye(3, 8)
        >>> model = GallerySubspace.fit(gallery)
        >>> model.num_dims, model.draw(jax.random.key(1), 5).shape
        (3, (5, 8))
    """

    mean: Float[Array, "d"]
    """Mean of the gallery's rows."""
    directions: Float[Array, "d r"]
    """Orthonormal directions, those of most variance first; columns of zeros are not used."""
    deviations: Float[Array, "r"]
    """Standard deviation of the faces along each direction, without the noise; 0 in unused ones."""

    @classmethod
    def fit(cls, gallery: RowsLike, *, num_dims: int | None = None) -> GallerySubspace:
        """Fit the model to a gallery.

        The covariance is shrunk towards a multiple of the identity by the formula of Ledoit and Wolf.
        Its ``num_dims`` largest eigenvalues stay, less the mean of the others, which is noise.

        Args:
            gallery: rows of faces, ``[m, d]``, at least 3; rows of zeros are left out.
            num_dims: number of directions, less than d. None takes the number under which the rows of
                each fifth of the gallery are most likely by the model of the others.

        Raises:
            InputError: the gallery or the number cannot be used.

        Cost: ``2 m d^2`` FLOPs, and six eigendecompositions of ``[d, d]``; O(m d + d^2) memory.
        """
        rows = unit_rows("gallery", gallery)
        num_rows, dim = rows.shape
        if num_rows < FEWEST_ROWS:
            raise InputError(too_few(num_rows))
        if num_dims is not None:
            num_dims = whole("num_dims", num_dims, least=1)
            if num_dims >= dim:
                raise InputError(f"num_dims={num_dims}: must be less than the dimension {dim}")
        return fitted(jnp.asarray(rows), num_dims)

    @property
    def num_neighbors(self) -> int:
        """Return 1, the smallest number that a problem looks up; the foot does not need any."""
        return 1

    @property
    def num_dims(self) -> int:
        """Number of directions that are used."""
        return int(jnp.sum(sphere.is_point(self.directions.T)))

    def foot(self, x: Points, rows: Any = None) -> Points:
        """Return the directions of the projections onto the span of mean and directions."""
        del rows
        basis = jnp.concatenate([self._axis[:, None], self.directions], axis=1).astype(x.dtype)
        inner = jnp.matmul(x, basis, precision="highest")
        return sphere.normalize(jnp.matmul(inner, basis.T, precision="highest"))

    def draw(self, key: PRNGKey, num_points: int) -> Points:
        """Draw faces from the model, without its noise: unit rows, ``[num_points, d]``."""
        scaled = jax.random.normal(key, (num_points, len(self.deviations))) * self.deviations[None]
        offset = jnp.matmul(scaled, self.directions.T, precision="highest")
        return sphere.normalize(self.mean[None] + offset)

    @property
    def _axis(self) -> Float[Array, "d"]:
        """Direction of the mean outside the other directions; zero if it lies within them."""
        within = jnp.matmul(self.directions.T, self.mean, precision="highest")
        rest = self.mean - jnp.matmul(self.directions, within, precision="highest")
        is_outside = jnp.linalg.norm(rest) > _LEAST_LENGTH * jnp.linalg.norm(self.mean)
        return jnp.where(is_outside, sphere.normalize(rest), 0)


def too_few(num_rows: int) -> str:
    """Return the message about a gallery of too few rows."""
    return f"the gallery has {num_rows} rows, and a subspace needs at least {FEWEST_ROWS}"


class Moments(NamedTuple):
    """Sums over unit rows, which can be added up; leaves may have leading axes."""

    count: Any
    total: Any
    second: Any
    """Sum of the outer products of the rows with themselves, ``[d, d]``."""


class Covariance(NamedTuple):
    """A covariance by its eigenvalues, the largest first."""

    mean: Any
    directions: Any
    variances: Any
    shrunk: Any
    """The variances, shrunk towards their mean by the formula of Ledoit and Wolf."""


@partial(jax.jit, static_argnums=1)
def fitted(gallery: Gallery, num_dims: int | None = None) -> GallerySubspace:
    """Fit the model as :meth:`GallerySubspace.fit` does, without checks, so that it can be traced."""
    folds = moments_of(gallery, min(_FOLDS, gallery.shape[0]))
    everything = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), folds)
    found = covariance(everything)
    most = gallery.shape[1] - 1 if num_dims is None else num_dims
    chosen = most if num_dims is not None else _least_costly(_left_out_costs(folds, everything))
    is_used = jnp.arange(most) < chosen
    noise = _noises(found.shrunk)[chosen - 1]
    deviations = jnp.sqrt(jnp.maximum(found.shrunk[:most] - noise, 0))
    return GallerySubspace(
        found.mean,
        jnp.where(is_used[None], found.directions[:, :most], 0),
        jnp.where(is_used, deviations, 0),
    )


def moments_of(gallery: Gallery, num_folds: int) -> Moments:
    """Return the moments of every ``num_folds``-th row, with an axis of folds."""
    missing = -gallery.shape[0] % num_folds
    rows = jnp.pad(gallery, ((0, missing), (0, 0))).reshape(-1, num_folds, gallery.shape[1])
    return Moments(
        jnp.sum(sphere.is_point(rows), axis=0, dtype=rows.dtype),
        jnp.sum(rows, axis=0),
        jnp.einsum("kfd,kfe->fde", rows, rows, precision="highest"),
    )


def covariance(moments: Moments) -> Covariance:
    """Return the covariance of unit rows with these moments."""
    count = jnp.maximum(moments.count, 1)
    mean, second = moments.total / count, moments.second / count
    eigenvalues, directions = jnp.linalg.eigh(second - mean[:, None] * mean[None])
    raw = jnp.maximum(eigenvalues[::-1], 0)
    average = jnp.mean(raw)
    # The mean of |x - mean|^4 needs no pass over the rows, because |x| = 1.
    square = jnp.vdot(mean, mean, precision="highest")
    spread = jnp.vdot(mean, jnp.matmul(second, mean, precision="highest"), precision="highest")
    fourth = (1 + square) ** 2 - 4 * (1 + square) * square + 4 * spread
    error = (fourth - jnp.sum(raw**2)) / count
    distance = jnp.sum((raw - average) ** 2)
    share = jnp.clip(error / jnp.maximum(distance, jnp.finfo(raw.dtype).tiny), 0, 1)
    return Covariance(mean, directions[:, ::-1], raw, (1 - share) * raw + share * average)


def _least_costly(costs: Any) -> Any:
    """Return the smallest number of directions that no other is told apart from: ``costs[q - 1]``.

    In a gallery of few directions, the costs beyond them differ by rounding alone.
    """
    least = jnp.min(costs)
    rounding = 8 * jnp.finfo(costs.dtype).eps * jnp.abs(least)
    return 1 + jnp.argmax(costs <= least + jnp.maximum(_ALIKE, rounding))


def _noises(variances: Any) -> Any:
    """Return the mean of all but the q largest variances, for q = 1, ..., d - 1."""
    left = jnp.cumsum(variances[::-1])[::-1][1:]
    return left / jnp.arange(len(left), 0, -1)


def _left_out_costs(folds: Moments, everything: Moments) -> Any:
    """Return -2 log likelihood of the rows left out, summed over folds, for q = 1, ..., d - 1."""

    def cost(fold: Moments) -> Any:
        kept = jax.tree.map(jnp.subtract, everything, fold)
        mean, directions, variances, _ = covariance(kept)
        variances = jnp.maximum(variances, _LEAST_VARIANCE)
        # Along each direction: the sum of squared deviations of the left out rows from the mean.
        first = jnp.matmul(directions.T, mean, precision="highest")
        total = jnp.matmul(directions.T, fold.total, precision="highest")
        second = jnp.matmul(fold.second, directions, precision="highest")
        square = jnp.sum(directions * second, axis=0) - 2 * first * total + fold.count * first**2
        kept_cost = jnp.cumsum(square / variances + fold.count * jnp.log(variances))[:-1]
        noise = _noises(variances)
        num_left = jnp.arange(len(noise), 0, -1)
        left = jnp.cumsum(square[::-1])[::-1][1:]
        return kept_cost + left / noise + fold.count * num_left * jnp.log(noise)

    return jnp.sum(jax.lax.map(cost, folds), axis=0)
