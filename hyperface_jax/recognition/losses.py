"""Softmax cross-entropy over face identities, with the classes on one device or sharded over many.

Logits are cosines times a scale; the target's logit also has a margin from
:mod:`hyperface_jax.recognition.margins`. On a mesh, both the faces of a batch and the class weights are
sharded by rows over the same axis. Every device gathers all embeddings, which are small, and computes
their cosines to its own classes. The softmax then needs only one maximum and one sum per face over the
devices, and autodiff turns the gather into a reduce-scatter. No array holds the logits of all classes.

With sampling (Partial FC), each device uses the classes that occur in the batch and fills up the rest
with random other classes. The logits become smaller, and most class weights get no gradient.

The norms and labels of the whole batch are ``[n]`` arrays on every device, so a head can compute its
batch statistics as plain sums.

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
    """The norms of the embeddings and the labels of the global batch, ``[n]`` each."""

    norms: PerRow
    labels: Indices


class _Targets(NamedTuple):
    """The positions of the target classes among a device's classes, ``[n]``.

    Attributes:
        column: column of each face's class.
        is_here: whether this device holds that class.
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
    """Return the mean loss over the faces of a batch, and the head's next state.

    Embeddings and class weights are normalized here, in float32. The loss is the same on any mesh,
    except that with sampling it depends on the number of devices, each of which draws its own classes.

    Args:
        head: the margin head.
        state: state of the head.
        embeddings: the network's raw output, ``[n, d]``, where ``n`` is the global batch size.
        labels: class of each face, ``[n]``, less than ``C``; -1 marks a padding row without a face.
        class_weights: ``[C, d]``; a row of zeros is not a class. If ``C`` is not a multiple of the
            number of devices, rows of zeros are appended, which costs a copy: pad large arrays before.
        mesh: from :func:`hyperface_jax.meshes.make_mesh`; None computes on one device.
        sample_rate: share of each device's classes that take part; 1 uses all. More take part if the
            batch has more rows than that; see :func:`sample_size`.
        key: random key for drawing classes, required if ``sample_rate`` is less than 1.

    Returns:
        The loss and the next state.

    Raises:
        InputError: the sample rate is out of range, the key is missing, or the batch size is not a
            multiple of the number of devices.
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
            f"sample_rate={sample_rate}: sampling needs a key; pass a new one at each step"
        )
    if batch_size % num_devices:
        raise InputError(
            f"a batch of {batch_size} rows cannot be cut over {num_devices} devices: fill it up "
            "with rows of label -1"
        )


def sample_size(num_local: int, batch_size: int, sample_rate: float) -> int:
    """Return how many classes of a device take part in a step, at most ``num_local``.

    The number is fixed, and all classes of a batch may be on the same device, so it is at least the
    batch size unless the device has fewer classes.

    Args:
        num_local: number of classes on the device.
        batch_size: number of rows in the global batch.
        sample_rate: share of the classes to draw.

    Examples:
        >>> sample_size(125_000, 64, 0.1), sample_size(100, 64, 0.1), sample_size(30, 64, 0.1)
        (12500, 64, 30)
    """
    return min(num_local, max(math.ceil(sample_rate * num_local), batch_size))


def sample_classes(key: PRNGKey, local_labels: Indices, num_local: int, size: int) -> Indices:
    """Draw classes of one device: all that occur in the batch, and random others.

    Args:
        key: the device's random key, ``jax.random.fold_in(key, index)`` with its index in the mesh.
        local_labels: labels of the global batch minus the device's first class, ``[n]``; values
            outside ``[0, num_local)`` belong to other devices.
        num_local: number of classes on the device.
        size: number of classes to draw, from :func:`sample_size`.

    Returns:
        The classes in increasing order, counted from the device's first class, ``[size]``.
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

    These are float32 arrays: the class weights, their gradient and one momentum, ``3 [C/D, d]``; the
    logits and their gradient, ``2 [n, S]``, for the ``S`` classes that take part; and with sampling, the
    sampled weights and their gradient, ``2 [S, d]``. The network and its activations are not included.

    Args:
        num_classes: number of classes over all devices, ``C``.
        dim: dimension of the embeddings, ``d``.
        batch_size: size of the global batch, ``n``.
        num_devices: number of devices, ``D``.
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
    """Return unit rows and norms in float32; a row of zeros stays zero, with norm and gradient 0."""
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
    """Return the loss and the state, equal on all devices, from this device's faces and classes."""
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
    """Choose the classes of this device that take part, and find the target classes among them."""
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
    """Return the cosines of all faces to the classes, and which rows are classes, not padding."""
    weights = weights.astype(jnp.float32)
    squared = _squared_norms(weights)
    is_class = squared > 0
    # Scaling the columns of the product avoids a normalized copy of the weights.
    product = jnp.matmul(unit, weights.T, precision=lax.Precision.HIGHEST)
    return product * lax.rsqrt(jnp.where(is_class, squared, 1))[None], is_class


def _log_sum_exp(
    logits: Float[Array, "n C"], is_other: Mask, target: PerRow, mesh: Mesh | None
) -> PerRow:
    """Return the log of the softmax denominator over the target and all other classes."""
    logits = jnp.where(is_other, logits, -jnp.inf)
    highest = _over_devices(lax.pmax, jnp.max(lax.stop_gradient(logits), axis=1), mesh)
    highest = jnp.maximum(highest, lax.stop_gradient(target))
    others = jnp.sum(jnp.exp(logits - highest[:, None]), axis=1)
    others = _over_devices(lax.psum, others, mesh)
    return highest + jnp.log(others + jnp.exp(target - highest))


def _over_devices(reduce: Callable[..., Any], x: Any, mesh: Mesh | None) -> Any:
    return x if mesh is None else reduce(x, ROWS)
