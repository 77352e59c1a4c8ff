"""One training step over devices and classes, and the state that it updates.

The batch and the classes are sharded over the mesh, and the backbone is replicated. XLA adds the
collectives, so batch norms see the whole batch. If the loss or its gradient is not finite, the step
leaves the state unchanged, and the caller can stop and report it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from hyperface_jax import meshes, sphere
from hyperface_jax.io.images import normalize
from hyperface_jax.recognition.attributes import attribute_loss, init_regression
from hyperface_jax.recognition.backbones import BackboneConfig, IResNet
from hyperface_jax.recognition.losses import margin_loss
from hyperface_jax.recognition.recipes import Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jax.sharding import Mesh

    from hyperface_jax.typing import Indices, PRNGKey, Scalar

_CLASS_STD = 0.01


class TrainState(NamedTuple):
    """Everything that a run needs to resume, except its place in the data; a pytree."""

    step: Any
    params: nnx.State
    """Parameters of the backbone."""
    statistics: nnx.State
    """Running statistics of the batch norms."""
    classes: Any
    """Class weights, ``[classes, d]``, padded with rows of zeros to shards of equal size."""
    head: Any
    regression: Any
    """Linear map to the known attributes; () if there are none."""
    backbone_optimizer: Any
    class_optimizer: Any
    regression_optimizer: Any
    ema: nnx.State | None
    """Exponential moving average of the parameters; None if the recipe keeps none."""
    key: PRNGKey


class Metrics(NamedTuple):
    """Figures of one step, computed before its update."""

    loss: Scalar
    gradient_norm: Scalar
    """Norm of the backbone's gradient before clipping."""
    embedding_norm: Scalar
    """Mean norm of the embeddings."""
    learning_rate: Scalar
    attribute_error: Scalar
    """Mean squared error of the known attributes; 0 if there are none."""
    is_finite: Scalar


@dataclass(frozen=True)
class Trainer:
    """The fixed settings of a training step; equal trainers share a compilation.

    Attributes:
        backbone: shape of the backbone.
        recipe: loss, optimizer and schedule.
        num_classes: number of identities.
        steps_per_epoch: number of batches in an epoch.
        mesh: devices to train on; None trains on one device.
        dtype: type in which the convolutions compute.
        num_attributes: number of known attributes of each identity for the embedding to predict.
    """

    backbone: BackboneConfig
    recipe: Recipe
    num_classes: int
    steps_per_epoch: int
    mesh: Mesh | None = None
    dtype: Any = jnp.float32
    num_attributes: int = 0

    @property
    def num_steps(self) -> int:
        """Number of steps in the whole run."""
        return self.recipe.num_epochs * self.steps_per_epoch

    def init(self, key: PRNGKey) -> TrainState:
        """Create the initial state, already sharded."""
        return _start(self)(key)

    def state_shapes(self) -> TrainState:
        """Return the shapes and shardings of the state, into which a checkpoint is restored."""
        shapes = jax.eval_shape(partial(_first_state, self), jax.random.key(0))
        if self.mesh is None:
            return shapes
        mesh, rows = self.mesh, shapes.classes.shape

        def placed(leaf: Any) -> Any:
            is_classes = leaf.shape == rows
            spread = meshes.rows(mesh) if is_classes else meshes.replicated(mesh)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spread)

        return jax.tree.map(placed, shapes)

    def step(
        self, state: TrainState, images: Any, labels: Indices, attributes: Any = None
    ) -> tuple[TrainState, Metrics]:
        """Train on one batch. The buffers of ``state`` are donated.

        Args:
            state: from :meth:`init` or the previous step.
            images: uint8 ``[n, size, size, 3]`` in the variant's color order.
            labels: class of each image, ``[n]``; -1 marks a padding row without a face.
            attributes: attributes of each image, float32 ``[n, num_attributes]``; required if
                ``num_attributes`` is not 0.

        Returns:
            The next state, and the figures of the step.
        """
        return _step(self, state, images, labels, attributes)

    def put(self, batch: Any) -> Any:
        """Place this process's part of a batch on its devices."""
        if self.mesh is None:
            return jax.tree.map(jnp.asarray, batch)
        rows = meshes.rows(self.mesh)
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(rows, a), batch)

    def model(self, state: TrainState) -> IResNet:
        """Return the current network in evaluation mode, with averaged weights if they are kept."""
        params = state.params if state.ema is None else state.ema
        model = nnx.merge(_graph(self), params, state.statistics)
        model.eval()
        return model

    def backbone_optimizer(self) -> optax.GradientTransformation:
        """Return SGD with the recipe's clipping, decay and schedule."""
        clip = self.recipe.max_gradient_norm
        first = optax.clip_by_global_norm(clip) if clip else optax.identity()
        return optax.chain(first, self._sgd(_decays if not self.recipe.decay_norms else None))

    def class_optimizer(self) -> optax.GradientTransformation:
        """Return SGD for the class weights, which leaves classes that were not drawn unchanged."""
        sgd = self._sgd(None)
        return rows_with_gradient(sgd) if self.recipe.sample_rate < 1 else sgd

    def regression_optimizer(self) -> optax.GradientTransformation:
        """Return SGD for the regression of the attributes."""
        return self._sgd(None)

    def _sgd(self, mask: Any) -> optax.GradientTransformation:
        recipe = self.recipe
        return optax.chain(
            optax.add_decayed_weights(recipe.weight_decay, mask),
            optax.trace(recipe.momentum),
            optax.scale_by_learning_rate(recipe.schedule(self.steps_per_epoch)),
        )


def rows_with_gradient(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Leave rows without a gradient and their momentum unchanged, as in Partial FC.

    Args:
        inner: an optimizer of one array ``[n, d]``.

    Returns:
        The optimizer with that restriction.
    """

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        is_drawn = jnp.any(updates != 0, axis=1, keepdims=True)
        moved: Any
        moved, new_state = inner.update(updates, state, params)

        def kept(new: Any, old: Any) -> Any:
            return jnp.where(is_drawn, new, old) if new.shape == updates.shape else new

        return jnp.where(is_drawn, moved, 0), jax.tree.map(kept, new_state, state)

    return optax.GradientTransformation(inner.init, update)


def _decays(params: nnx.State) -> nnx.State:
    """Return a mask of the parameters that decay, which are all but those of batch norms."""

    def decays(path: Any, leaf: Any) -> bool:
        del leaf
        names = [str(getattr(key, "key", "")) for key in path]
        return "scale" not in names and not ("bias" in names and "fc" not in names)

    return jax.tree.map_with_path(decays, params)


def _graph(trainer: Trainer) -> Any:
    """Return the structure of the network in training mode."""
    return nnx.split(nnx.eval_shape(partial(_make, trainer, jax.random.key(0))))[0]


def _make(trainer: Trainer, key: PRNGKey) -> IResNet:
    return IResNet(trainer.backbone, dtype=trainer.dtype, rngs=nnx.Rngs(params=key))


@lru_cache(maxsize=8)
def _start(trainer: Trainer) -> Any:
    """Return the compiled function of the initial state, shared by equal trainers."""
    # It runs only once, so on a CPU optimizing it would take more time than it saves.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    start = partial(jax.jit, partial(_first_state, trainer), compiler_options=options)
    if trainer.mesh is None:
        return start()
    shardings = jax.tree.map(lambda leaf: leaf.sharding, trainer.state_shapes())
    return start(out_shardings=shardings)


def _first_state(trainer: Trainer, key: PRNGKey) -> TrainState:
    model_key, class_key, run_key = jax.random.split(key, 3)
    _, params, statistics = nnx.split(_make(trainer, model_key), nnx.Param, ...)
    shape = trainer.num_classes, trainer.backbone.embedding_dim
    classes = jax.random.normal(class_key, shape)
    if trainer.recipe.class_norm is None:
        classes *= _CLASS_STD
    else:
        classes = trainer.recipe.class_norm * sphere.normalize(classes)
    regression: Any = ()
    if trainer.num_attributes:
        regression = init_regression(trainer.backbone.embedding_dim, trainer.num_attributes)
    num_shards = 1 if trainer.mesh is None else trainer.mesh.size
    classes = meshes.pad_rows(classes, -(-shape[0] // num_shards) * num_shards)
    return TrainState(
        jnp.zeros((), jnp.int32),
        params,
        statistics,
        classes,
        trainer.recipe.make_head().init_state(),
        regression,
        trainer.backbone_optimizer().init(params),
        trainer.class_optimizer().init(classes),
        trainer.regression_optimizer().init(regression),
        None if trainer.recipe.ema is None else jax.tree.map(jnp.copy, params),
        run_key,
    )


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step(
    trainer: Trainer, state: TrainState, images: Any, labels: Indices, attributes: Any
) -> tuple[TrainState, Metrics]:
    recipe = trainer.recipe
    evaluate = jax.value_and_grad(partial(_loss, trainer), has_aux=True)
    moved = state.params, state.classes, state.regression
    (loss, aux), gradients = evaluate(moved, state, images, labels, attributes)
    gradient, class_gradient, regression_gradient = gradients
    head, statistics, embedding_norm, attribute_error = aux
    norm = optax.tree.norm(gradient)
    is_finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    updates, optimizer = trainer.backbone_optimizer().update(
        gradient, state.backbone_optimizer, state.params
    )
    params = optax.apply_updates(state.params, updates)
    updates, class_optimizer = trainer.class_optimizer().update(
        class_gradient, state.class_optimizer, state.classes
    )
    regression_updates, regression_optimizer = trainer.regression_optimizer().update(
        regression_gradient, state.regression_optimizer, state.regression
    )
    new = state._replace(
        step=state.step + 1,
        params=params,
        statistics=statistics,
        classes=optax.apply_updates(state.classes, updates),
        head=head,
        regression=optax.apply_updates(state.regression, regression_updates),
        backbone_optimizer=optimizer,
        class_optimizer=class_optimizer,
        regression_optimizer=regression_optimizer,
        ema=_followed(state.ema, params, recipe.ema),
    )
    rate = jnp.asarray(recipe.schedule(trainer.steps_per_epoch)(state.step))
    metrics = Metrics(loss, norm, embedding_norm, rate, attribute_error, is_finite)
    return _chosen(is_finite, new, state), metrics


def _loss(
    trainer: Trainer, moved: Any, state: TrainState, images: Any, labels: Any, attributes: Any
) -> tuple[Scalar, Any]:
    params, classes, regression = moved
    key = jax.random.fold_in(state.key, state.step)
    dropout_key, class_key = jax.random.split(key)
    model = nnx.merge(_graph(trainer), params, state.statistics, copy=True)
    raw = model(normalize(images), key=dropout_key)
    recipe = trainer.recipe
    loss, head = margin_loss(
        recipe.make_head(),
        state.head,
        raw,
        labels,
        classes,
        mesh=trainer.mesh,
        sample_rate=recipe.sample_rate,
        key=class_key,
    )
    _, _, statistics = nnx.split(model, nnx.Param, ...)
    embedding_norm = jnp.mean(jnp.linalg.norm(raw, axis=1))
    error = jnp.zeros(())
    if trainer.num_attributes:
        error = attribute_loss(regression, raw, attributes, labels)
        loss += recipe.attribute_weight * error
    return loss, jax.lax.stop_gradient((head, statistics, embedding_norm, error))


def _followed(ema: Any, params: Any, decay: float | None) -> Any:
    if ema is None or decay is None:
        return None
    return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, ema, params)


def _chosen(is_new: Scalar, new: TrainState, old: TrainState) -> TrainState:
    def choose(a: Any, b: Any) -> Any:
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            return a
        return jnp.where(is_new, a, b)

    return jax.tree.map(choose, new, old)


def to_tree(state: TrainState) -> dict[str, Any]:
    """Return the leaves of a state, or of its shapes, by name, for a checkpoint."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def from_tree(tree: Mapping[str, Any], like: TrainState) -> TrainState:
    """Put the leaves of :func:`to_tree` back into the structure of ``like``."""
    return jax.tree.unflatten(jax.tree.structure(like), [tree[name] for name in to_tree(like)])
