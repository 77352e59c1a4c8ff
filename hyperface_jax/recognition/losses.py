"""Soft-max cross-entropy over face identities, with the classes on one device or cut over many.

Logits are cosines times a scale, the target's with a margin from
:mod:`hyperface_jax.recognition.margins`. On a mesh both the faces of a batch and the class weights
are cut into rows over the same axis. Every device gathers all embeddings, which are small, and
meets them with its own classes; the soft-max is put together from one maximum and one sum a face,
and autodiff turns the gather into a reduce-scatter. No array holds all logits of all classes.

Sampling (Partial FC) keeps on each device the classes that the batch needs and fills them up with
random others, so that the logits shrink as well and most class weights get no gradient.

Lengths and labels of the whole batch are ``[n]`` and known to every device, so a head's statistics
over the batch are plain sums there.

References:
    An et al., Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition
    CNNs by Partial FC, CVPR 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from hyperface_jax import meshes
from hyperface_jax.errors import InputError
from hyperface_jax.meshes import ROWS

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from hyperface_jax.recognition.margins import MarginHead
    from hyperface_jax.typing import Indices, Mask, PerRow, Points, PRNGKey, Scalar


class _Batch(NamedTuple):
    """Whole batch: lengths of the embeddings and labels, ``[n]``."""

    norms: PerRow
    labels: Indices


class _Targets(NamedTuple):
    """Where the faces' own classes are among those of a device, ``[n]``.

    Attributes:
        column: of the face's class.
        is_here: whether this device has it.
    """

    column: Indices
    is_here: Mask


def margin_loss(
    head: MarginHead,
    state: Any,
    embeddings: Points,
    labels: Indices,
    class_weights: Float[Array, "C d"],
    *,
    mesh: Mesh | None = None,
    sample_rate: float = 1.0,
    key: PRNGKey | None = None,
) -> tuple[Scalar, Any]:
    """Return the mean loss of the faces of a batch, and the head's next state.

    Embeddings and class weights are normalized here, in float32. The value is the same on any mesh;
    with sampling it depends on the number of devices, each of which draws its own classes.

    Args:
        head: the margin.
        state: of the head.
        embeddings: as the network gives them, ``[n, d]``; ``n`` is that of the global batch.
        labels: class of each face, ``[n]``, less than ``C``; -1 marks a row that stands for no face.
        class_weights: ``[C, d]``; a row of zeros is no class. If ``C`` does not divide by the number
            of devices, rows of zeros are added, which costs a copy: a large array should come so.
        mesh: from :func:`hyperface_jax.meshes.make_mesh`; None computes on one device.
        sample_rate: share of the classes of each device that take part, more if the batch has more
            rows than that: see :func:`sample_size`. 1 takes all.
        key: draws the classes; needed if ``sample_rate`` is less than 1.

    Raises:
        InputError: the sample rate, the key or the size of the batch does not fit.
    """
    num_devices = 1 if mesh is None else mesh.size
    _check(embeddings.shape[0], num_devices, sample_rate, key)
    num_local = -(-class_weights.shape[0] // num_devices)
    class_weights = meshes.pad_rows(class_weights, num_local * num_devices)
    size = sample_size(num_local, embeddings.shape[0], sample_rate)
    unit, norms = _normalized(embeddings)
    batch = _Batch(norms, labels)

    def local(unit: Points, batch: _Batch, state: Any, weights: Any, key: Any) -> Any:
        return _local_loss(head, state, unit, batch, weights, size, key, mesh)

    key = key if size < num_local else None
    if mesh is None:
        return local(unit, batch, state, class_weights, key)
    own, whole = PartitionSpec(ROWS), PartitionSpec()
    spread = jax.shard_map(
        local, mesh=mesh, in_specs=(own, whole, whole, own, whole), out_specs=whole
    )
    return spread(unit, batch, state, class_weights, key)


def _check(batch_size: int, num_devices: int, sample_rate: float, key: Any) -> None:
    if not 0 < sample_rate <= 1:
        raise InputError(f"sample_rate={sample_rate}: must be more than 0 and at most 1")
    if sample_rate < 1 and key is None:
        raise InputError(
            f"sample_rate={sample_rate}: sampling needs a key; pass one, new each step"
        )
    if batch_size % num_devices:
        raise InputError(
            f"a batch of {batch_size} rows cannot be cut over {num_devices} devices: fill it up "
            "with rows of label -1"
        )


def sample_size(num_local: int, batch_size: int, sample_rate: float) -> int:
    """Return how many classes of a device take part in a step, at most ``num_local``.

    All classes of the batch may be on one device, and the number is fixed, so it is never less than
    the batch size.

    Args:
        num_local: classes of the device.
        batch_size: rows of the global batch.
        sample_rate: share of the classes.

    Examples:
        >>> sample_size(125_000, 64, 0.1), sample_size(100, 64, 0.1), sample_size(30, 64, 0.1)
        (12500, 64, 30)
    """
    return min(num_local, max(math.ceil(sample_rate * num_local), batch_size))


def sample_classes(key: PRNGKey, local_labels: Indices, num_local: int, size: int) -> Indices:
    """Draw classes of one device: all that the batch needs, and random others.

    Args:
        key: of the device: ``jax.random.fold_in(key, number)`` with its place in the mesh.
        local_labels: labels of the global batch less the device's first class, ``[n]``; whatever is
            not in ``[0, num_local)`` belongs to another device.
        num_local: classes of the device.
        size: how many to draw, ``[size]``, from :func:`sample_size`.

    Returns:
        The classes in rising order, counted from the device's first.
    """
    is_here = (local_labels >= 0) & (local_labels < num_local)
    column = jnp.where(is_here, local_labels, num_local)
    order = jax.random.uniform(key, (num_local,)).at[column].set(2.0, mode="drop")
    return jnp.sort(lax.top_k(order, size)[1])


def memory_bytes(
    num_classes: int,
    dim: int,
    batch_size: int,
    num_devices: int = 1,
    sample_rate: float = 1.0,
) -> int:
    """Return the bytes that a training step needs for the classes, on each device.

    In float32: class weights, their gradient and one momentum, ``3 [C/D, d]``; logits and their
    gradient, ``2 [n, S]``, with ``S`` the classes that take part; and if these are sampled, their
    weights and the gradient of these, ``2 [S, d]``. The network and its activations come on top.

    Args:
        num_classes: ``C``, over all devices.
        dim: ``d`` of the embeddings.
        batch_size: ``n`` of the global batch.
        num_devices: ``D``.
        sample_rate: share of the classes that take part.

    Examples:
        >>> round(memory_bytes(1_000_000, 512, 64, num_devices=8) / 1e6)
        832
    """
    num_local = -(-num_classes // num_devices)
    size = sample_size(num_local, batch_size, sample_rate)
    sampled = size * dim if size < num_local else 0
    return 4 * (3 * num_local * dim + 2 * batch_size * size + 2 * sampled)


def _squared_norms(x: Points) -> PerRow:
    return jnp.einsum("nd,nd->n", x, x, precision=lax.Precision.HIGHEST)


def _normalized(x: Points) -> tuple[Points, PerRow]:
    """Return unit rows and lengths in float32; a row of zeros stays, with length and gradient 0."""
    x = x.astype(jnp.float32)
    squared = _squared_norms(x)
    is_long = squared > 0
    norms = jnp.sqrt(jnp.where(is_long, squared, 1))
    return x / norms[:, None], jnp.where(is_long, norms, 0)


def _local_loss(
    head: MarginHead,
    state: Any,
    unit: Points,
    batch: _Batch,
    weights: Points,
    size: int,
    key: PRNGKey | None,
    mesh: Mesh | None,
) -> tuple[Scalar, Any]:
    """Return loss and state, the same on every device, from its faces and its classes."""
    device = 0 if mesh is None else lax.axis_index(ROWS)
    unit = unit if mesh is None else lax.all_gather(unit, ROWS, tiled=True)
    weights, targets = _taking_part(weights, batch.labels, size, key, device)
    cosine, is_class = _cosines(unit, weights)
    is_target = targets.is_here[:, None] & (targets.column[:, None] == jnp.arange(size)[None])
    own_cosine = _over_devices(lax.psum, jnp.sum(cosine, axis=1, where=is_target), mesh)
    is_face = batch.labels >= 0
    target, state = head.target_logits(own_cosine, batch.norms, is_face, state)
    is_other = is_class[None] & ~is_target
    losses = _log_sum_exp(head.scale * cosine, is_other, target, mesh) - target
    num_faces = jnp.sum(is_face, dtype=jnp.float32)
    return jnp.sum(losses, where=is_face) / jnp.maximum(num_faces, 1), state


def _taking_part(
    weights: Points, labels: Indices, size: int, key: PRNGKey | None, device: Any
) -> tuple[Points, _Targets]:
    """Choose the classes of this device, and find the faces' own among them."""
    num_local = weights.shape[0]
    local = labels - device * num_local
    is_here = (labels >= 0) & (local >= 0) & (local < num_local)
    if key is None:
        return weights, _Targets(local, is_here)
    local = jnp.where(is_here, local, -1)
    chosen = sample_classes(jax.random.fold_in(key, device), local, num_local, size)
    rows = weights.at[chosen].get(
        mode="promise_in_bounds", unique_indices=True, indices_are_sorted=True
    )
    return rows, _Targets(jnp.searchsorted(chosen, local).astype(labels.dtype), is_here)


def _cosines(unit: Points, weights: Points) -> tuple[Float[Array, "n C"], Mask]:
    """Return cosines of all faces to classes, and which of the classes are any."""
    weights = weights.astype(jnp.float32)
    squared = _squared_norms(weights)
    is_class = squared > 0
    # Scaling columns of the product spares a normalized copy of the weights.
    product = jnp.matmul(unit, weights.T, precision=lax.Precision.HIGHEST)
    return product * lax.rsqrt(jnp.where(is_class, squared, 1))[None], is_class


def _log_sum_exp(
    logits: Float[Array, "n C"], is_other: Mask, target: PerRow, mesh: Mesh | None
) -> PerRow:
    """Return the log of the soft-max's denominator: the target and all other classes."""
    logits = jnp.where(is_other, logits, -jnp.inf)
    highest = _over_devices(lax.pmax, jnp.max(lax.stop_gradient(logits), axis=1), mesh)
    highest = jnp.maximum(highest, lax.stop_gradient(target))
    others = jnp.sum(jnp.exp(logits - highest[:, None]), axis=1)
    others = _over_devices(lax.psum, others, mesh)
    return highest + jnp.log(others + jnp.exp(target - highest))


def _over_devices(reduce: Callable[..., Any], x: Any, mesh: Mesh | None) -> Any:
    return x if mesh is None else reduce(x, ROWS)
