"""Random blocks of points, which a mini-batch step evaluates, and the exchange between groups.

Rows are split into groups, which are distributed over the devices. A group shuffles its own rows into
blocks without any communication. Now and then, :func:`exchange` redistributes the rows of all groups.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from hyperface_jax import meshes, sphere
from hyperface_jax.meshes import ROWS
from hyperface_jax.packing.energies import DEFAULT_SWEEP, Evaluation, PairEnergy, row_max
from hyperface_jax.pairwise import PairSum, Sweep
from hyperface_jax.pairwise.reductions import empty
from hyperface_jax.typing import Frozen, Gallery, Points, PRNGKey


def evaluate_blocks(
    energy: PairEnergy,
    x: Points,
    key: PRNGKey,
    batch_size: int,
    *,
    num_groups: int = 1,
    frozen: Frozen | None = None,
    step: Any = 0,
    shift: Any = None,
    sweep: Sweep = DEFAULT_SWEEP,
) -> Evaluation:
    """Estimate an energy and its force from random blocks of at most ``batch_size`` points.

    The rows are split into groups. Each group shuffles its rows into blocks of equal size, and every
    point interacts with the other points of its block. The sums are scaled to estimate those over all
    pairs. Each group also interacts with a random window of ``batch_size`` of its frozen points.

    Args:
        energy: a pair-sum energy.
        x: unit rows, ``[n, d]``, one group after another.
        key: seed of the shuffle.
        batch_size: largest number of points in a block, 2 <= B <= n.
        num_groups: number of groups that shuffle separately; it divides n. With a mesh, the groups
            are distributed over its devices.
        frozen: unit rows that take part but do not move, ``[m, d]``.
        step: the step number, for energies with a schedule.
        shift: a cosine near the current maximum.
        sweep: how the pairs of a block are visited.

    Returns:
        The estimate. Its ``row_max`` covers only the pairs in a block: a lower bound on the exact one.
        Cost: ``3 n B d`` FLOPs (``+ 4 n min(B, m) d``), O(n d) memory, no communication.
    """
    shift = jnp.max(row_max(x, frozen, sweep=sweep)) if shift is None else shift
    groups = _Groups(energy, step, shift, replace(sweep, mesh=None))
    own, met = groups.sums(x, key, batch_size, num_groups, frozen, sweep.mesh)
    return energy.combine(
        own,
        met,
        num_points=sphere.count_points(x),
        num_frozen=0 if frozen is None else sphere.count_points(frozen),
        step=step,
        shift=shift,
    )


class _Groups(NamedTuple):
    """Sums over the blocks of each group."""

    energy: PairEnergy
    step: Any
    shift: Any
    sweep: Sweep

    def sums(
        self,
        x: Points,
        key: PRNGKey,
        batch_size: int,
        num_groups: int,
        frozen: Frozen | None,
        mesh: Mesh | None,
    ) -> tuple[PairSum, PairSum | None]:
        """Return the sums over each point's block, and over the frozen points of its window."""
        scale = _pair_scale(x.shape[0] // num_groups, num_groups, batch_size)

        def one(group: tuple[Any, Points, Frozen | None]) -> tuple[PairSum, PairSum | None]:
            number, x, frozen = group
            order_key, frozen_key = jax.random.split(jax.random.fold_in(key, number))
            own = _scaled(self._over_blocks(x, order_key, batch_size), scale)
            if frozen is None:
                return own, None
            return own, self._over_window(x, frozen, frozen_key, batch_size)

        def local(numbers: Any, x: Points, frozen: Frozen | None) -> Any:
            count = numbers.shape[0]
            groups = numbers, _grouped(x, count), _grouped(frozen, count)
            return jax.tree.map(_ungrouped, lax.map(one, groups))

        numbers = jnp.arange(num_groups)
        if frozen is not None:
            size = -(-frozen.shape[0] // num_groups) * num_groups
            frozen = meshes.pad_rows(frozen, size)
        if mesh is None:
            return local(numbers, x, frozen)
        spec = PartitionSpec(ROWS)
        return jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec)(numbers, x, frozen)

    def _over_blocks(self, x: Points, key: PRNGKey, batch_size: int) -> PairSum:
        num_blocks, block_size = block_shape(x.shape[0], batch_size)
        order = jax.random.permutation(key, num_blocks * block_size)

        def add(total: PairSum, block: Any) -> tuple[PairSum, None]:
            points = x.at[block].get(mode="fill", fill_value=0)
            sums = self._sums(points)
            return _put_rows(total, block, sums), None

        reduction = self.energy.reduction(
            step=self.step, shift=self.shift, precision=self.sweep.precision
        )
        nothing = empty(reduction, x)
        return lax.scan(add, nothing, order.reshape(num_blocks, block_size))[0]

    def _over_window(self, x: Points, frozen: Frozen, key: PRNGKey, batch_size: int) -> PairSum:
        size = min(batch_size, frozen.shape[0])
        start = jax.random.randint(key, (), 0, frozen.shape[0])
        window = jnp.concatenate([frozen, frozen[: size - 1]])
        window = lax.dynamic_slice_in_dim(window, start, size)
        return _scaled(self._sums(x, window), frozen.shape[0] / size)

    def _sums(self, x: Points, y: Gallery | None = None) -> PairSum:
        return self.energy.sums(x, y, step=self.step, shift=self.shift, sweep=self.sweep)


def block_shape(num_rows: int, batch_size: int) -> tuple[int, int]:
    """Return the number of blocks in a group and their common size, at most ``batch_size``."""
    num_blocks = -(-num_rows // batch_size)
    return num_blocks, -(-num_rows // num_blocks)


def _pair_scale(group_size: int, num_groups: int, batch_size: int) -> float:
    """Return the inverse of the probability that two points share a block."""
    num_blocks, block_size = block_shape(group_size, batch_size)
    share_group = (group_size - 1) / (group_size * num_groups - 1)
    share_block = (block_size - 1) / (num_blocks * block_size - 1)
    return 1 / (share_group * share_block)


def _scaled(sums: PairSum, factor: float) -> PairSum:
    return PairSum(sums.value * factor, sums.force * factor, sums.max_cosine)


def _put_rows(tree: Any, index: Any, rows: Any) -> Any:
    """Overwrite rows; indices beyond the last row are dropped."""
    return jax.tree.map(
        lambda a, b: a.at[index].set(b, mode="drop", unique_indices=True), tree, rows
    )


def _grouped(tree: Any, num_groups: int) -> Any:
    return jax.tree.map(lambda a: a.reshape(num_groups, -1, *a.shape[1:]), tree)


def _ungrouped(leaf: Any) -> Any:
    return leaf.reshape(-1, *leaf.shape[2:])


def exchange(tree: Any, key: PRNGKey, num_groups: int, mesh: Mesh | None = None) -> Any:
    """Shuffle each group's rows and distribute them evenly over all groups by one all-to-all.

    After an exchange, two rows that shared a group share one with nearly the same probability as any
    other pair. The distribution in which all pairs are equally likely to share a group is stationary:
    from any start, the difference shrinks by ``(G - 1) / (G (N - 1))`` with every exchange
    (G groups of N rows).

    Args:
        tree: arrays ``[G N, ...]`` whose rows belong together.
        key: seed of the shuffle.
        num_groups: number of groups G; a group's rows beyond a multiple of G stay where they are.
        mesh: devices over which the groups are sharded.
    """
    num_rows = jax.tree.leaves(tree)[0].shape[0]
    group_size = num_rows // num_groups
    dealt = group_size // num_groups * num_groups

    def deal(leaf: Any, order: Any) -> Any:
        """Reorder one leaf of a device's groups, and swap its parts with those of other devices."""
        groups = jnp.take_along_axis(_grouped(leaf, order.shape[0]), _like(order, leaf), axis=1)
        moving, staying = groups[:, :dealt], groups[:, dealt:]
        parts = moving.reshape(order.shape[0], num_groups, -1, *leaf.shape[1:])
        if mesh is not None:
            parts = lax.all_to_all(parts, ROWS, split_axis=1, concat_axis=0, tiled=True)
        parts = jnp.swapaxes(parts, 0, 1).reshape(moving.shape)
        return _ungrouped(jnp.concatenate([parts, staying], axis=1))

    def local(numbers: Any, tree: Any) -> Any:
        def shuffled(number: Any) -> Any:
            return jax.random.permutation(jax.random.fold_in(key, number), group_size)

        order = lax.map(shuffled, numbers)
        return jax.tree.map(lambda leaf: deal(leaf, order), tree)

    numbers = jnp.arange(num_groups)
    if mesh is None:
        return local(numbers, tree)
    spec = PartitionSpec(ROWS)
    return jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec)(numbers, tree)


def _like(order: Any, leaf: Any) -> Any:
    return order.reshape(*order.shape, *(1,) * (leaf.ndim - 1))
