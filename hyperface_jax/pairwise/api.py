"""The entry point to all-pairs sweeps: callers name the statistic, the sweep decides how to visit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from jax.sharding import Mesh

from hyperface_jax.pairwise import blockwise, reference, ring
from hyperface_jax.pairwise.platforms import largest_block, platform_of
from hyperface_jax.pairwise.precision import Precision
from hyperface_jax.pairwise.reductions import Reduction
from hyperface_jax.pairwise.rows import NumberedRows, foreign, numbered
from hyperface_jax.typing import Gallery, Indices, Points

Implementation = Literal["reference", "blockwise", "pallas"]

DENSE_PAIRS = 512 * 512


@dataclass(frozen=True)
class Sweep:
    """How pairs are visited. Solvers and energies take a sweep; equal sweeps share compilations.

    Attributes:
        mesh: devices over which the rows of both sets are sharded, from
            :func:`hyperface_jax.meshes.make_mesh`; None visits all pairs where the arrays are.
        block_size: number of rows of a tile. None chooses at most 512 on CPUs and TPUs, and up to
            8192 on a GPU, as its memory allows.
        implementation: ``"reference"`` holds all scores in memory, ``"blockwise"`` only one tile;
            ``"pallas"`` is a fused kernel for GPUs that has never run on one. None takes the dense one
            for at most 512 by 512 scores, else blocks.
        precision: precision of the scores: ``"float32"``, or coarser and faster on accelerators.

    Raises:
        NotImplementedError: ``implementation`` is unknown, or cannot do what is asked of it: the dense
            one with a mesh; the kernel without a GPU, for a reduction or a precision that it does not
            have, or for too many dimensions. Nothing else is taken in its place.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hyperface_jax.pairwise import nearest
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> Sweep()(x, reduction=nearest()).column.tolist()
        [2, 2, 1]
    """

    mesh: Mesh | None = None
    block_size: int | None = None
    implementation: Implementation | None = None
    precision: Precision = "float32"

    def __post_init__(self):
        if self.implementation not in (None, *get_args(Implementation)):
            names = ", ".join(map(repr, get_args(Implementation)))
            raise NotImplementedError(
                f"implementation={self.implementation!r}: choose {names} or None"
            )
        if self.mesh is not None and self.implementation == "reference":
            raise NotImplementedError(
                "implementation='reference' holds all scores on one device: drop the mesh"
            )

    @property
    def num_devices(self) -> int:
        """Number of devices over which rows are sharded."""
        return 1 if self.mesh is None else self.mesh.size

    def __call__(self, x: Points, y: Gallery | None = None, *, reduction: Reduction) -> Any:
        """Reduce the cosines of all pairs to one statistic per row of ``x``.

        Args:
            x: unit rows, ``[n, d]``; rows of zeros are padding.
            y: unit rows to pair them with, ``[m, d]``. None pairs ``x`` with itself and leaves out
                the diagonal.
            reduction: the statistic to compute; see :mod:`hyperface_jax.pairwise.reductions`.

        Returns:
            The output of the reduction's ``finalize``; each leaf has leading axis ``n``.

        Cost: ``n^2 d`` FLOPs for the scores of ``x`` with itself (each tile serves its rows and its
        columns), ``2 n m d`` with ``y``, plus the cost of the reduction; O((n + m) d) memory.
        """
        if y is not None:
            return self.among(foreign(x), y, reduction=reduction)
        make_folds = self._folds(reduction, x, x)
        if make_folds is None:
            return reference.among(numbered(x), x, reduction, self.precision)
        if self.mesh is not None:
            return ring.symmetric(x, make_folds, self.mesh)
        return blockwise.symmetric(x, make_folds(x.shape[0]))

    def among(self, rows: NumberedRows, y: Gallery | NumberedRows, *, reduction: Reduction) -> Any:
        """Reduce over all pairs of a row from some rows of ``y`` and any other row of ``y``.

        Args:
            rows: rows and their indices in ``y``, from :func:`hyperface_jax.pairwise.first_rows`.
            y: unit rows, ``[m, d]``, numbered from 0 unless they come with their indices.
            reduction: the statistic to compute.

        Cost: ``2 n m d`` FLOPs for the scores, plus the cost of the reduction.
        """
        make_folds = self._folds(reduction, rows.x, y.x if isinstance(y, NumberedRows) else y)
        if make_folds is None:
            return reference.among(rows, y, reduction, self.precision)
        if self.mesh is not None:
            return ring.among(rows, y, make_folds, self.mesh)
        return blockwise.among(rows, y, make_folds(rows.x.shape[0]))

    def take(self, y: Gallery, index: Indices) -> Points:
        """Select rows of ``y`` by index, ``[n, d]``; an index without a row gives zeros."""
        if self.mesh is not None:
            return ring.take(y, index, self.mesh)
        return y.at[index].get(mode="fill", fill_value=0)

    def folds(self, reduction: Reduction, x: Points) -> blockwise.Folds | None:
        """Return the folds that sweep ``x`` with itself block by block on one device, or None."""
        make_folds = None if self.mesh is not None else self._folds(reduction, x, x)
        folds = make_folds and make_folds(x.shape[0])
        return folds if isinstance(folds, blockwise.Folds) else None

    def _folds(self, reduction: Reduction, x: Points, y: Gallery) -> ring.MakeFolds | None:
        """Return a function from a device's number of rows to its folds; None for the dense sweep."""
        implementation = self.implementation or self._default_implementation(x, y)
        if implementation == "reference":
            return None
        if implementation == "pallas":
            return self._pallas(reduction)

        def make(num_rows: int) -> blockwise.Folds:
            largest = largest_block(self.mesh)
            block_size = self.block_size or blockwise.default_block_size(num_rows, largest)
            return blockwise.Folds(reduction, block_size, self.precision)

        return make

    def _pallas(self, reduction: Reduction) -> ring.MakeFolds:
        platform = platform_of(self.mesh)
        if platform != "gpu":
            raise NotImplementedError(
                f"implementation='pallas' is a kernel for GPUs, but the devices are {platform}: drop it"
            )
        try:
            from hyperface_jax.pairwise.pallas_gpu import PallasFolds
        except ImportError as error:
            raise NotImplementedError(
                f"implementation='pallas': this JAX has no Triton backend of Pallas ({error}): drop it"
            ) from error
        return lambda num_rows: PallasFolds(reduction, self.block_size, self.precision)

    def _default_implementation(self, x: Points, y: Gallery) -> Implementation:
        is_small = self.mesh is None and x.shape[0] * y.shape[0] <= DENSE_PAIRS
        return "reference" if is_small else "blockwise"


def sweep(
    x: Points,
    y: Gallery | None = None,
    *,
    reduction: Reduction,
    block_size: int | None = None,
    implementation: Implementation | None = None,
    mesh: Mesh | None = None,
    precision: Precision = "float32",
) -> Any:
    """Reduce the cosines of all pairs to one statistic per row of ``x``, by a :class:`Sweep`.

    Args:
        x: unit rows, ``[n, d]``; rows of zeros are padding.
        y: unit rows to pair them with, ``[m, d]``; None pairs ``x`` with itself.
        reduction: the statistic to compute; see :mod:`hyperface_jax.pairwise.reductions`.
        block_size: as for :class:`Sweep`.
        implementation: as for :class:`Sweep`.
        mesh: as for :class:`Sweep`.
        precision: as for :class:`Sweep`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hyperface_jax.pairwise import max_cosine, sweep
        >>> sweep(jnp.array([[1.0, 0.0], [0.0, 1.0]]), reduction=max_cosine()).tolist()
        [0.0, 0.0]
    """
    return Sweep(mesh, block_size, implementation, precision)(x, y, reduction=reduction)
