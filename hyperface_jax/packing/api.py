"""Entry points: :func:`run`, which can be traced, and :func:`solve`, which runs on the host."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

from hyperface_jax import sphere
from hyperface_jax.codes import SphericalCode
from hyperface_jax.errors import InputError
from hyperface_jax.packing import starts
from hyperface_jax.packing.compiled import Loop, padded_rows
from hyperface_jax.packing.inputs import one_sweep, prng_key, whole
from hyperface_jax.packing.interior_point import polish as polish_rows
from hyperface_jax.packing.loop import (
    Final,
    LoopState,
    StepRecord,
    advance_prepared,
    conclude,
    first_state,
    repaired,
)
from hyperface_jax.packing.methods import (
    Annealed,
    Method,
    check_hashable,
    check_method,
    is_measured,
)
from hyperface_jax.packing.problem import PackingProblem
from hyperface_jax.packing.products import coarse_sweep, fine_sweep, resolved
from hyperface_jax.packing.result import Packing
from hyperface_jax.packing.schedules import refining_annealing
from hyperface_jax.packing.starts import Start
from hyperface_jax.pairwise import Sweep
from hyperface_jax.typing import Array, PRNGKey

_STATES_AT_ONCE = 6
"""Fewest arrays of all points that a run needs: points, best, momentum, force and two temporaries."""


class Progress(NamedTuple):
    """What a callback receives after every chunk of steps."""

    step: int
    """Number of steps done."""
    num_steps: int
    """Total number of steps."""
    max_cosine: float
    """Max cosine of the best iterate so far, if one has been measured; else that of the last step."""
    state: LoopState
    """State of the run. It is donated to the next chunk, so copy what you want to keep."""
    records: StepRecord
    """Figures of the steps in this chunk."""


Callback = Callable[[Progress], Any]


def run(
    problem: PackingProblem,
    key: PRNGKey,
    *,
    method: Method | None = None,
    num_steps: int | None = None,
    start: Start | None = None,
    sweep: Sweep | None = None,
) -> Packing:
    """Find a packing by a pure function that works under ``jit``, ``vmap`` and ``scan``.

    Runs with equal methods and sizes share one compilation, whatever their keys, weights and rows. The
    points, the history and the figures cannot be differentiated with respect to the problem, because a
    run makes discrete decisions (nearest rows, best iterates). To get derivatives at the points found,
    pass ``stop_gradient(packing.x)`` to :func:`~hyperface_jax.packing.max_cosine` or an objective.

    Args:
        problem: what to pack.
        key: seed of all randomness.
        method: how to pack; None means :class:`Annealed`, with a refining schedule if the start is a
            code.
        num_steps: number of steps, in place of the method's own.
        start: a name, a code, rows or a function; None means the gallery if there is one, else
            uniform points.
        sweep: how pairs are visited.

    Returns:
        The best packing seen, with the keep-out limit enforced and with exact figures.

    Raises:
        InputError: an argument cannot be used; the message names it.

    Cost: ``3 n^2 d`` FLOPs per full-batch step, O(n d) memory.

    Examples:
        >>> import jax
        >>> keys = jax.random.split(jax.random.key(0), 4)
        >>> problem = PackingProblem(num_points=6, dim=3)
        >>> packings = jax.vmap(lambda key: run(problem, key, num_steps=300))(keys)
        >>> packings.x.shape
        (4, 6, 3)
    """
    sweep = Sweep() if sweep is None else sweep
    start = starts.checked(start, problem)
    method = resolved(chosen_method(method, num_steps, start), problem, sweep)
    rows, name = starts.split(start)
    return _run(problem, prng_key(key), rows, name, method, sweep)


@partial(jax.jit, static_argnums=(3, 4, 5))
def _run(
    problem: PackingProblem, key: Any, rows: Any, start: Any, method: Method, sweep: Sweep
) -> Packing:
    init_key, run_key = jax.random.split(key)
    size = padded_rows(method, problem.num_points, sweep)
    given = start if rows is None else rows
    x = starts.points(given, problem, init_key, jitter=method.jitter, size=size)
    state = first_state(method, problem, x, run_key, sweep)
    state, coarse = advance_prepared(
        method, problem, state, method.num_coarse, coarse_sweep(method, sweep)
    )
    state, exact = advance_prepared(
        method, problem, state, method.steps - method.num_coarse, fine_sweep(method, sweep)
    )
    x, row = repaired(problem, state, sweep)
    final = conclude(method, problem, x, row, sweep=sweep)
    history = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), coarse, exact)
    return _packing(problem, method, final, state, history)


def solve(
    problem: PackingProblem,
    key: PRNGKey,
    *,
    method: Method | None = None,
    num_steps: int | None = None,
    start: Start | None = None,
    num_restarts: int = 1,
    polish: bool = False,
    mesh: Mesh | None = None,
    sweep: Sweep | None = None,
    callback: Callback | None = None,
) -> Packing:
    """Find a packing on the host: :func:`run` in chunks, with progress, sharding and restarts.

    Args:
        problem: what to pack.
        key: seed of all randomness.
        method: how to pack; None means :class:`Annealed`, with a refining schedule if the start is a
            code.
        num_steps: number of steps, in place of the method's own.
        start: a name, a code, rows or a function; None means the gallery if there is one, else
            uniform points.
        num_restarts: number of independent packings, run side by side; the best is returned. Meant
            for small problems: ``4 r n^2 d`` FLOPs per step.
        polish: whether to end with :func:`~hyperface_jax.packing.polish`, in float64; for small
            problems without a gallery and a keep-out set.
        mesh: devices over which rows are sharded, from :func:`hyperface_jax.meshes.make_mesh`; the
            packing is the same as on one device.
        sweep: how pairs are visited, in place of ``mesh``; for experts.
        callback: called with a :class:`Progress` after every chunk, for example
            :class:`~hyperface_jax.packing.PrintProgress`.

    Returns:
        The best packing seen, with the keep-out limit enforced and with exact figures.

    Raises:
        InputError: an argument cannot be used; the message names it.

    Examples:
        >>> import jax
        >>> packing = solve(PackingProblem(num_points=6, dim=3), jax.random.key(0), num_steps=300)
        >>> packing  # the octahedron  # doctest: +ELLIPSIS
        Packing(6 points in 3 dimensions, max cosine ...0.00..., bound 0.00000, 300 steps)
    """
    num_restarts = whole("num_restarts", num_restarts, least=1)
    restarts = num_restarts if num_restarts > 1 else None
    sweep = chosen_sweep(mesh, sweep, restarts)
    start = starts.checked(start, problem)
    _check_polish(problem, polish, sweep)
    method = chosen_method(method, num_steps, start)
    loop = Loop.of(method, problem, sweep, restarts)
    check_memory(problem.num_points * num_restarts, problem.dim, sweep)
    packing = _with_numbers(_driven(loop, problem, prng_key(key), start, callback))
    return _polished(problem, packing) if polish else packing


def solve_restarts(
    problem: PackingProblem,
    key: PRNGKey,
    *,
    num_restarts: int,
    method: Method | None = None,
    num_steps: int | None = None,
    start: Start | None = None,
) -> Packing:
    """Find independent packings side by side, and return all of them.

    Args:
        problem: what to pack.
        key: seed; restart ``r`` uses ``jax.random.fold_in(key, r)``, whatever the number of restarts.
        num_restarts: number of packings.
        method: how to pack; None means :class:`Annealed`.
        num_steps: number of steps of each restart.
        start: start of each restart.

    Returns:
        A packing with a leading axis of restarts in every field. ``solve(num_restarts=...)`` returns
        only the best one.
    """
    count = whole("num_restarts", num_restarts, least=1)
    keys = jax.vmap(partial(jax.random.fold_in, prng_key(key)))(jnp.arange(count))

    def one(key: Any) -> Packing:
        return run(problem, key, method=method, num_steps=num_steps, start=start)

    return jax.vmap(one)(keys)


def chosen_method(method: Method | None, num_steps: int | None, start: Any) -> Method:
    """Return the checked method, or the default one, with the given number of steps."""
    if method is None:
        is_code = isinstance(start, SphericalCode)
        method = Annealed(annealing=refining_annealing) if is_code else Annealed()
    check_method(method)
    if num_steps is not None:
        method = replace(method, num_steps=num_steps)
    check_hashable(method)
    return method


def chosen_sweep(mesh: Mesh | None, sweep: Sweep | None, num_restarts: int | None) -> Sweep:
    """Return the sweep to use, and check that it allows restarts."""
    sweep = one_sweep(mesh, sweep)
    if num_restarts is not None and sweep.mesh is not None:
        raise InputError(f"num_restarts={num_restarts}: restarts run on one device, drop the mesh")
    return sweep


def check_memory(num_points: int, dim: int, sweep: Sweep) -> None:
    """Raise ``InputError`` if the points do not fit in the memory of the devices.

    Raises:
        InputError: the points do not fit; the message says how much is needed and available.
    """
    needed = 4.0 * num_points * dim * _STATES_AT_ONCE
    there = _memory_bytes(sweep)
    if needed > there:
        raise InputError(
            f"num_points={num_points}: {dim} dimensions need {needed / 2**30:.0f} GiB for the state "
            f"alone, but {there / 2**30:.0f} GiB are available; use fewer points or more devices"
        )


def _memory_bytes(sweep: Sweep) -> float:
    devices = [jax.devices()[0]] if sweep.mesh is None else list(sweep.mesh.devices.flat)
    stats = None if devices[0].platform == "cpu" else devices[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"]) * len(devices)
    if devices[0].platform != "cpu" or not hasattr(os, "sysconf"):
        return math.inf
    processes = len({device.process_index for device in devices})
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) * processes


def _driven(
    loop: Loop, problem: PackingProblem, key: Any, start: Any, callback: Callback | None
) -> Packing:
    placed = loop.place(problem)
    state = loop.init(problem, placed, key, start)
    records: list[StepRecord] = []
    done, total = 0, loop.method.steps
    while done < total:
        length = loop.chunk_at(done)
        state, chunk = loop.advance(placed, state, length)
        done += length
        records.append(chunk)
        if callback:
            callback(Progress(done, total, best_max_cosine(state, chunk), state, chunk))
    state = loop.best(placed, state)
    final = loop.finish(placed, state)
    return _packing(problem, loop.method, final, state, _joined(problem, records))


def best_max_cosine(state: LoopState, records: StepRecord) -> float:
    """Return the max cosine to report during a run."""
    if state.best is not None and is_measured(state.best):
        return float(jnp.min(state.best.max_cosine))
    return float(records.max_cosine[-1])


def _packing(
    problem: PackingProblem, method: Method, final: Final, state: LoopState, history: StepRecord
) -> Packing:
    x, nearest, row = _in_order(final, method, problem.num_points)
    return Packing(
        x,
        final.max_cosine,
        nearest,
        final.violations,
        final.keep_out_cosine,
        state.now.step if state.best is None else state.best.step,
        history,
        row,
        problem.num_points,
        problem.num_frozen,
    )


def _with_numbers(packing: Packing) -> Packing:
    """Turn the figures of a finished run into Python numbers."""
    numbers: dict[str, Any] = {
        "max_cosine": float(packing.max_cosine),
        "best_step": int(packing.best_step),
    }
    if packing.violations is not None and packing.keep_out_cosine is not None:
        numbers["violations"] = int(packing.violations)
        numbers["keep_out_cosine"] = float(packing.keep_out_cosine)
    return replace(packing, **numbers)


def _joined(problem: PackingProblem, records: list[StepRecord]) -> StepRecord:
    if records:
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *map(jax.device_get, records))
    none = np.zeros((0,), np.float32)
    gallery = None if problem.gallery is None else none
    keep_out = None if problem.keep_out is None else none
    step, is_exact = np.zeros((0,), np.int32), np.zeros((0,), bool)
    history: tuple[Any, ...] = (step, none, none, none, gallery, keep_out, is_exact)
    return StepRecord(*history)


def _in_order(final: Final, method: Method, num_points: int) -> tuple[Any, Any, Any]:
    """Put points in the order of the identities, if one process holds all of them."""
    x, row, nearest = final.x, final.row, final.nearest
    if x.shape[0] == num_points and method.num_parts(1) == 1:
        return x, nearest, None
    if not isinstance(x, Tracer) and not x.is_fully_addressable:
        return x, nearest, row
    return *_ordered(x, row, nearest, num_points), None


@partial(jax.jit, static_argnums=3)
def _ordered(x: Array, row: Array, nearest: Array, num_points: int) -> tuple[Any, Any]:
    place = jnp.where(sphere.is_point(x), row, num_points)
    points = jnp.zeros_like(x[:num_points]).at[place].set(x, mode="drop")
    return points, jnp.zeros_like(nearest[:num_points]).at[place].set(nearest, mode="drop")


def _polished(problem: PackingProblem, packing: Packing) -> Packing:
    rows, cosine = polished(problem, packing.x)
    everyone = rows
    if problem.frozen is not None:
        everyone = np.concatenate([rows, np.asarray(problem.frozen, np.float64)])
    cosines = rows @ everyone.T
    np.fill_diagonal(cosines, -np.inf)
    values: dict[str, Any] = {
        "x": rows,
        "max_cosine": np.float64(cosine),
        "nearest": cosines.max(axis=1),
    }
    return replace(packing, **values)


def polished(problem: PackingProblem, x: Any) -> tuple[np.ndarray, float]:
    """Take points to their float64 local optimum, with the frozen points of a problem in place.

    Returns:
        The points, ``[n, d]``, and the max cosine over all pairs with at least one of them.
    """
    points, num_frozen = np.asarray(x, np.float64), problem.num_frozen
    if problem.frozen is not None:
        points = np.concatenate([np.asarray(problem.frozen, np.float64), points])
    result = polish_rows(points, num_frozen=num_frozen)
    return result.x[num_frozen:], result.max_cosine


def _check_polish(problem: PackingProblem, polish: bool, sweep: Sweep) -> None:
    if polish and (problem.gallery is not None or problem.keep_out is not None):
        raise InputError("polish=True optimizes only the max cosine: drop gallery and keep_out")
    if polish and sweep.mesh is not None:
        raise InputError("polish=True runs on the host: drop the mesh")
