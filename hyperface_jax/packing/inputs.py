"""Input checks: turn what callers pass into checked numbers and unit rows, once.

Rows may be JAX, NumPy or torch arrays, memory maps or lists, of any float type. Of traced values, only
the shapes can be checked.
"""

from __future__ import annotations

import math
import operator
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

from hyperface_jax.errors import InputError
from hyperface_jax.pairwise import Sweep

_UNIT = 1e-5
"""Rows nearer than this to length 1 are left unchanged, to the last bit."""
_NOTED = 1e-3
"""Rows farther than this from length 1 are normalized with a warning."""
_BLOCK_VALUES = 2**24


def whole(name: str, value: Any, *, least: int) -> int:
    """Return a whole number.

    Raises:
        InputError: the value is not a whole number, or is below ``least``.
    """
    if isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name}={value}: give a whole number")
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name}={value!r}: give a whole number") from None
    if number < least:
        raise InputError(f"{name}={number}: must be at least {least}")
    return number


def real(name: str, value: Any, *, least: float = -math.inf, within: float = math.inf) -> Any:
    """Return a finite float that is at least ``least`` and has a magnitude below ``within``.

    A traced number is returned unchecked.

    Raises:
        InputError: the value is not a number, or is out of range.
    """
    if isinstance(value, Tracer):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}={value!r}: give a number") from None
    if not math.isfinite(number) or number < least:
        wanted = "a finite number" if least == -math.inf else f"a finite number >= {least:g}"
        raise InputError(f"{name}={number:g}: must be {wanted}")
    if abs(number) >= within:
        raise InputError(f"{name}={number:g}: must lie in (-{within:g}, {within:g})")
    return number


def unit_rows(name: str, value: Any, dim: int | None = None) -> Any:
    """Return unit rows, ``[n, d]``, in float32 (or in float64, if given so and x64 is enabled).

    Args:
        name: name of the argument, for messages.
        value: an array or list of rows. Rows that do not have length 1 are normalized, with a warning
            if rounding to half precision does not explain the difference.
        dim: dimension d, if known.

    Returns:
        A NumPy array or memory map (the same object if nothing had to change), or a JAX array if one
        was given.

    Raises:
        InputError: there are no rows, they have another dimension, or some are zero or not finite.
    """
    if isinstance(value, Tracer):
        _check_shape(name, value.shape, dim)
        return value.astype(_float_type(value.dtype))
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        _check_shape(name, value.shape, dim)
        return value
    rows = value if isinstance(value, jax.Array) else _as_numpy(name, value)
    _check_shape(name, rows.shape, dim)
    dtype = _float_type(rows.dtype)
    low, high = _lengths(name, rows)
    if max(1 - low, high - 1) > _UNIT:
        if max(1 - low, high - 1) > _NOTED:
            warnings.warn(
                f"{name}: rows of length {low:.4g} to {high:.4g} were normalized", stacklevel=3
            )
        rows = _normalized(rows, dtype)
    return rows if rows.dtype == dtype else rows.astype(dtype)


def one_sweep(mesh: Mesh | None, sweep: Sweep | None) -> Sweep:
    """Return the given sweep, or one over the given mesh.

    Raises:
        InputError: both are given.
    """
    if mesh is not None and sweep is not None:
        raise InputError("mesh and sweep: pass the mesh to the sweep instead, Sweep(mesh=...)")
    return Sweep(mesh) if sweep is None else sweep


def prng_key(key: Any) -> Any:
    """Return a typed PRNG key; raw keys from ``jax.random.PRNGKey`` are wrapped.

    Raises:
        InputError: the value is not a key.
    """
    dtype = getattr(key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return key
    if dtype == np.uint32 and key.shape and key.shape[-1] == 2:
        return jax.random.wrap_key_data(jnp.asarray(key))
    raise InputError(f"key={key!r}: give a key, such as jax.random.key(0)")


def _as_numpy(name: str, value: Any) -> Any:
    if type(value).__module__.partition(".")[0] == "torch":
        value = value.detach().cpu()
        value = value.double().numpy() if value.element_size() == 8 else value.float().numpy()
    try:
        rows = value if isinstance(value, np.ndarray) else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: cannot be read as rows of numbers ({error})") from None
    if not jnp.issubdtype(rows.dtype, np.number) or jnp.issubdtype(rows.dtype, np.complexfloating):
        raise InputError(f"{name}: has elements of type {rows.dtype}; give rows of real numbers")
    return rows


def _float_type(dtype: Any) -> Any:
    wide = dtype == np.float64 and jax.config.read("jax_enable_x64")
    return np.dtype(np.float64 if wide else np.float32)


def _check_shape(name: str, shape: tuple[int, ...], dim: int | None) -> None:
    if len(shape) != 2 or (dim is not None and shape[1] != dim):
        wanted = "[rows, d]" if dim is None else f"[rows, {dim}], since dim={dim}"
        raise InputError(f"{name} has shape {list(shape)}: give {wanted}")
    if shape[0] < 1 or shape[1] < 1:
        raise InputError(f"{name} has shape {list(shape)}: it holds no rows")


def _lengths(name: str, rows: Any) -> tuple[float, float]:
    """Return the lengths of the shortest and the longest row; memory maps are read block by block."""
    low, high = math.inf, 0.0
    for first, block in _blocks(rows):
        length = np.linalg.norm(block, axis=1)
        if not np.all(np.isfinite(length)):
            row = first + int(np.flatnonzero(~np.isfinite(length))[0])
            raise InputError(f"{name}: row {row} is not finite; drop such rows")
        if not length.all():
            row = first + int(np.flatnonzero(length == 0)[0])
            raise InputError(f"{name}: row {row} is zero and has no direction; drop such rows")
        low, high = min(low, float(length.min())), max(high, float(length.max()))
    return low, high


def _normalized(rows: Any, dtype: Any) -> Any:
    result = np.empty(rows.shape, dtype)
    for first, block in _blocks(rows):
        length = np.linalg.norm(block, axis=1, keepdims=True)
        result[first : first + len(block)] = block / length
    return result


def _blocks(rows: Any) -> Any:
    step = max(_BLOCK_VALUES // rows.shape[1], 1)
    for first in range(0, rows.shape[0], step):
        block = np.asarray(rows[first : first + step])
        yield first, block.astype(np.float64)
