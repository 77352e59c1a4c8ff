"""Riemannian optimization on the sphere as optax transformations.

Every leaf of the parameters is a stack of points, with one unit row per point: ``[..., n, d]``. The
parts can be chained like any optax transformation::

    project_updates -> scale_by_riemannian_adam -> scale_by_learning_rate -> retract_updates

The last one returns ``retract(x, u) - x``, so that plain ``optax.apply_updates`` stays on the sphere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from hyperface_jax import sphere
from hyperface_jax.errors import InputError
from hyperface_jax.packing.energies import Energy, SoftMax
from hyperface_jax.packing.inputs import one_sweep
from hyperface_jax.packing.objectives import as_objective
from hyperface_jax.pairwise import Sweep

_EPS = 1e-30


class ScaleByRiemannianAdamState(NamedTuple):
    """State of :func:`scale_by_riemannian_adam`."""

    count: Any
    momentum: Any
    second_moment: Any


class AddDispersionState(NamedTuple):
    """State of :func:`add_dispersion`."""

    count: Any


def project_updates() -> optax.GradientTransformation:
    """Project updates onto the tangent space at the parameters."""

    def update(updates, state, params=None):
        return jax.tree.map(sphere.project, _required(params), updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def retract_updates() -> optax.GradientTransformation:
    """Replace an update ``u`` by ``retract(x, u) - x``, so that adding it stays on the sphere."""

    def update(updates, state, params=None):
        moved = jax.tree.map(lambda x, u: sphere.retract(x, u) - x, _required(params), updates)
        return moved, state

    return optax.GradientTransformation(optax.init_empty_state, update)


def scale_by_riemannian_adam(b1: float = 0.9, b2: float = 0.0) -> optax.GradientTransformation:
    """Scale updates by Adam, with momentum transported on the sphere and one second moment per point.

    One second moment per coordinate, as in Adam, would depend on the basis; one per point commutes with
    rotations. The step of every point then has about unit length (in radians, before the learning
    rate), whatever the size of its gradient. With ``b2 = 0``, the gradient of each point is normalized,
    which needs the fewest sweeps in packing (see ``benchmarks/``).

    Args:
        b1: decay of the momentum, in [0, 1).
        b2: decay of the squared gradient length, in [0, 1).

    References:
        Becigneul and Ganea, *Riemannian adaptive optimization methods*, ICLR 2019.
    """

    def init(params):
        second = jax.tree.map(lambda x: jnp.zeros((*x.shape[:-1], 1), x.dtype), params)
        momentum = jax.tree.map(jnp.zeros_like, params)
        return ScaleByRiemannianAdamState(jnp.zeros((), jnp.int32), momentum, second)

    def update(updates, state, params=None):
        count = state.count + 1
        second = jax.tree.map(
            lambda v, g: b2 * v + (1 - b2) * sphere.inner(g, g), state.second_moment, updates
        )
        scaled = jax.tree.map(
            lambda g, v: g * jax.lax.rsqrt(v / _correction(b2, count, v) + _EPS), updates, second
        )
        momentum = jax.tree.map(
            lambda x, m, g: b1 * sphere.transport(x, m) + (1 - b1) * g,
            _required(params),
            state.momentum,
            scaled,
        )
        direction = jax.tree.map(lambda m: m / _correction(b1, count, m), momentum)
        return direction, ScaleByRiemannianAdamState(count, momentum, second)

    return optax.GradientTransformation(init, update)


def riemannian_adam(
    learning_rate: float | optax.Schedule, b1: float = 0.9, b2: float = 0.0
) -> optax.GradientTransformation:
    """Make Adam on the sphere: project, scale, step, retract.

    Args:
        learning_rate: step per point in radians, a number or an optax schedule.
        b1: decay of the momentum.
        b2: decay of the average squared gradient length of a point.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> x = jnp.array([[1.0, 0.0]])
        >>> optimizer = riemannian_adam(0.1)
        >>> updates, _ = optimizer.update(jnp.array([[5.0, -2.0]]), optimizer.init(x), x)
        >>> bool(jnp.allclose(jnp.linalg.norm(optax.apply_updates(x, updates)), 1.0))
        True
    """
    return on_sphere(
        optax.chain(scale_by_riemannian_adam(b1, b2), optax.scale_by_learning_rate(learning_rate))
    )


def on_sphere(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Make an optimizer of unit rows stay on the sphere: project before it, retract after it."""
    return optax.chain(project_updates(), optimizer, retract_updates())


def add_dispersion(
    strength: float,
    energy: Energy | None = None,
    *,
    leaf: str | None = None,
    mesh: Mesh | None = None,
    sweep: Sweep | None = None,
) -> optax.GradientTransformation:
    """Add the force of a packing energy to the gradient, much as weight decay is added.

    Put this first in the chain of the optimizer of class prototypes. The prototypes then spread while
    the loss trains them.

    Args:
        strength: factor by which the force is multiplied.
        energy: energy to lower; None means ``SoftMax(50)``.
        leaf: end of the path of the parameter that holds the prototypes, ``[n, d]``, such as
            ``"head/kernel"``. None takes every leaf; all of them must then hold prototypes. If they do
            not, ``optax.partition`` gives each leaf a separate optimizer.
        mesh: devices over which the prototypes are sharded by rows.
        sweep: how pairs are visited, in place of ``mesh``; for experts.
    """
    sweep = one_sweep(mesh, sweep)
    objective = as_objective(SoftMax(50.0) if energy is None else energy, sweep=sweep)
    force = jax.grad(objective)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        paths, structure = jax.tree_util.tree_flatten_with_path(_required(params))
        chosen = _chosen(paths, leaf)
        gradients = structure.flatten_up_to(updates)
        added = [
            g + strength * force(sphere.normalize(x), state.count) if is_chosen else g
            for (_, x), g, is_chosen in zip(paths, gradients, chosen, strict=True)
        ]
        return structure.unflatten(added), AddDispersionState(state.count + 1)

    def init(params: Any) -> AddDispersionState:
        del params
        return AddDispersionState(jnp.zeros((), jnp.int32))

    return optax.GradientTransformation(init, update)


def _chosen(paths: Any, leaf: str | None) -> list[bool]:
    """Tell which leaves are prototypes; each of them must be ``[n, d]``."""
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    chosen = [leaf is None or f"/{name}".endswith(f"/{leaf}") for name in names]
    if not any(chosen):
        raise InputError(f"leaf={leaf!r}: the parameters have {', '.join(names) or 'no leaves'}")
    for name, (_, x), is_chosen in zip(names, paths, chosen, strict=True):
        if is_chosen and jnp.ndim(x) != 2:
            raise InputError(
                f"the parameter {name!r} has shape {list(jnp.shape(x))}, not [n, d]: name the "
                "prototypes, add_dispersion(..., leaf='head/kernel'), or use optax.partition"
            )
    return chosen


def _correction(decay: float, count: Any, like: Any) -> Any:
    return 1 - decay ** count.astype(like.dtype)


def _required(params: Any) -> Any:
    if params is None:
        raise ValueError(
            "params=None: pass the points, as in optimizer.update(grads, state, params)"
        )
    return params
