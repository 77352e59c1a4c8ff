"""All-pairs sweeps on GPUs as one fused Pallas (Triton) kernel: score tiles never reach GPU memory.

The folds have the same interface as those of :mod:`.blockwise`, and take any reduction that may run
in a kernel. Each program of the grid owns a block of rows: it keeps their accumulators on chip, visits
all columns block by block and writes the accumulators once. A kernel cannot capture traced values, so
the values that a reduction captures (such as the soft maximum's shift) are hoisted and become inputs
of the kernel.

Unlike on the CPU, ``within`` and ``both`` compute every tile twice, once for each side. So programs
own disjoint rows and need no atomic additions.

The kernel has not yet run on a GPU, and JAX deprecates the Triton backend of Pallas: only
``Sweep(implementation="pallas")`` takes it. It is tested in interpret mode on a CPU, lowered for CUDA,
and compiled offline for sm_90.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jax.extend import core

from hyperface_jax.pairwise.precision import Precision, scores
from hyperface_jax.pairwise.reductions import Reduction, masked
from hyperface_jax.pairwise.rows import NumberedRows

_MIN_SIDE = 16
"""Triton multiplies tiles of at least 16 by 16, and all sides must be powers of two."""
_NUM_WARPS = 8
_ABSENT = -1


class _Tiling(NamedTuple):
    rows: int
    columns: int
    num_stages: int


_TILINGS: dict[Precision, dict[int, _Tiling]] = {
    "bf16": {512: _Tiling(64, 32, 3), 1024: _Tiling(32, 32, 2)},
    "tf32": {256: _Tiling(64, 32, 2), 512: _Tiling(32, 32, 1), 1024: _Tiling(16, 16, 1)},
    "float32": {256: _Tiling(32, 32, 2), 512: _Tiling(32, 16, 2), 1024: _Tiling(16, 16, 1)},
}
"""Tiles by the largest dimension they suit, chosen for one program per multiprocessor of Hopper.

The registers of a multiprocessor (65,536, at most 255 per thread) hold the force of a block of rows,
``rows * dim`` numbers (32,768 leave room for the rest). Its shared memory (227 KiB) holds the rows and
``num_stages`` blocks of columns. Compiled for sm_90 with d = 512 and the sum of a pair function, bf16
takes 244 registers and 160 KiB, tf32 243 and 128 KiB, and float32 247 and 98 KiB, all without spills.
"""
_MAX_SIDE = 64


class PallasFolds:
    """Add the pairs of two sets of rows to accumulators, with one kernel per side.

    Args:
        reduction: the statistic to accumulate. Its functions may capture traced scalars.
        block_size: largest number of rows of a tile; it is rounded down to a power of two, at least
            16. None chooses it from the dimension and the precision.
        precision: precision of the scores.
        interpret: whether to emulate the kernel with JAX operations, which works on any backend.

    Raises:
        NotImplementedError: the kernel does not have the reduction or the precision.
    """

    def __init__(
        self,
        reduction: Reduction,
        block_size: int | None = None,
        precision: Precision = "float32",
        *,
        interpret: bool = False,
    ) -> None:
        if not reduction.in_kernel:
            raise NotImplementedError(
                "implementation='pallas' cannot sort, so it has no k nearest rows: drop it"
            )
        if precision not in _TILINGS:
            raise NotImplementedError(
                f"implementation='pallas' has no {precision} products: choose {', '.join(_TILINGS)}"
            )
        self.reduction = reduction
        self.block_size = block_size or _MAX_SIDE
        self.precision: Precision = precision
        self.interpret = interpret

    def onto(self, carry: Any, rows: NumberedRows, columns: NumberedRows) -> Any:
        """Add ``columns`` to the accumulators of ``rows``: ``2 n m d`` FLOPs for the scores."""
        return self.reduction.merge(carry, self._reduced(rows, columns))

    def both(
        self, carry: Any, rows: NumberedRows, other: Any, columns: NumberedRows
    ) -> tuple[Any, Any]:
        """Add ``columns`` to the accumulators of ``rows`` and ``rows`` to those of ``columns``."""
        return self.onto(carry, rows, columns), self.onto(other, columns, rows)

    def within(self, carry: Any, rows: NumberedRows) -> Any:
        """Add all pairs of ``rows`` with each other; equal indices mask the diagonal."""
        return self.onto(carry, rows, rows)

    def _reduced(self, rows: NumberedRows, columns: NumberedRows) -> Any:
        """Reduce over ``columns`` from empty accumulators."""
        tiling, visit = self._plan(rows, columns)
        x, y = _padded(rows, tiling.rows), _padded(columns, tiling.columns)
        inputs = [*_stored(x, visit), *_stored(y, visit), *map(jnp.atleast_1d, visit.captured)]
        # The shapes of a visit also record over which mesh axes the result varies.
        shapes, tree = jax.tree.flatten(jax.eval_shape(self._first_visit, x, y))
        found = pl.pallas_call(
            self._kernel(tiling, visit),
            grid=(x.x.shape[0] // tiling.rows,),
            in_specs=[
                *(_own(tiling.rows, a.shape) for a in inputs[:2]),
                *(_whole(a.shape) for a in inputs[2:]),
            ],
            out_specs=[_own(tiling.rows, a.shape) for a in shapes],
            out_shape=shapes,
            interpret=self.interpret,
            compiler_params=plgpu.CompilerParams(
                num_warps=_NUM_WARPS, num_stages=tiling.num_stages
            ),
            name="all_pairs",
        )(*inputs)
        wanted = jax.eval_shape(lambda: self._empty(rows))
        return jax.tree.map(_cut, jax.tree.unflatten(tree, found), wanted)

    def _plan(self, rows: NumberedRows, columns: NumberedRows) -> tuple[_Tiling, _Hoisted]:
        """Choose the tiles, and trace the visit of one tile."""
        sizes = rows.x.shape[0], columns.x.shape[0]
        tiling, visit = self._traced(self.precision, sizes, rows)
        if self.precision == "bf16" and not visit.is_rounded:
            tiling, visit = self._traced("float32", sizes, rows)
        return tiling, visit

    def _traced(
        self, precision: Precision, sizes: tuple[int, int], rows: NumberedRows
    ) -> tuple[_Tiling, _Hoisted]:
        width = _width(rows.x.shape[1])
        tiling = _fitting(_TILINGS[precision], width)
        tiling = tiling._replace(
            rows=_side(min(tiling.rows, self.block_size), sizes[0]),
            columns=_side(min(tiling.columns, self.block_size), sizes[1]),
        )
        row, column = (_block(n, width, rows.x.dtype) for n in tiling[:2])
        empty = jax.eval_shape(lambda: self._empty(row))
        return tiling, _Hoisted(self._visit, empty, row, column)

    def _kernel(self, tiling: _Tiling, visit: _Hoisted) -> Callable[..., None]:
        def kernel(x_ref: Any, row_ref: Any, y_ref: Any, column_ref: Any, *refs: Any) -> None:
            captured = [_loaded(ref, a) for ref, a in zip(refs, visit.captured, strict=False)]
            row = NumberedRows(x_ref[...].astype(visit.dtype), row_ref[...])

            def one_tile(j: Any, carry: Any) -> Any:
                here = pl.ds(j * tiling.columns, tiling.columns)
                column = NumberedRows(y_ref[here, :].astype(visit.dtype), column_ref[here])
                return visit(captured, carry, row, column)

            num_tiles = y_ref.shape[0] // tiling.columns
            carry = lax.fori_loop(0, num_tiles, one_tile, self._empty(row))
            outputs = refs[len(captured) :]
            for ref, leaf in zip(outputs, jax.tree.leaves(carry), strict=True):
                ref[...] = leaf

        return kernel

    def _visit(self, carry: Any, row: NumberedRows, column: NumberedRows) -> Any:
        values = masked(scores(row.x, column.x, self.precision), row.ids, column.ids)
        return self.reduction.update(carry, self.reduction.tile(values), column.x, column.ids)

    def _first_visit(self, row: NumberedRows, column: NumberedRows) -> Any:
        return self._visit(self._empty(row), row, column)

    def _empty(self, rows: NumberedRows) -> Any:
        return self.reduction.init(*rows.x.shape, rows.x.dtype)


class _Hoisted:
    """A visit of one tile as a function of its captured values and its arguments.

    Scalars that depend only on captured ones (such as a schedule of the step) are computed here, once.

    Attributes:
        captured: the captured values.
        dtype: dtype of the rows.
        is_rounded: whether the visit rounds all rows to bfloat16 before it uses them. If so, they are
            stored in bfloat16 to halve the memory traffic.
    """

    def __init__(
        self,
        visit: Callable[[Any, NumberedRows, NumberedRows], Any],
        carry: Any,
        row: NumberedRows,
        column: NumberedRows,
    ) -> None:
        closed, result = jax.make_jaxpr(visit, return_shape=True)(carry, row, column)
        jaxpr = closed.jaxpr
        outside, inside = _split(jaxpr)
        used = {v for equation in inside for v in equation.invars if isinstance(v, core.Var)}
        known = [*jaxpr.constvars, *(v for equation in outside for v in equation.outvars)]
        captured = [v for v in known if v in used]
        *_, x, _, y, _ = jaxpr.invars
        self.captured = _function(jaxpr, jaxpr.constvars, captured, outside)(*closed.consts)
        self.dtype = row.x.dtype
        self.is_rounded = _is_rounded(jaxpr, x) and _is_rounded(jaxpr, y)
        self._call = _function(jaxpr, [*captured, *jaxpr.invars], jaxpr.outvars, inside)
        self._tree = jax.tree.structure(result)

    def __call__(
        self, captured: list[Any], carry: Any, row: NumberedRows, column: NumberedRows
    ) -> Any:
        leaves = self._call(*captured, *jax.tree.leaves((carry, row, column)))
        return jax.tree.unflatten(self._tree, leaves)


def _split(jaxpr: core.Jaxpr) -> tuple[list[Any], list[Any]]:
    """Split equations into scalar ones that depend only on captured values, and the others."""
    known = set(jaxpr.constvars)
    outside, inside = [], []
    for equation in jaxpr.eqns:
        if _is_known_scalar(equation, known):
            outside.append(equation)
            known.update(equation.outvars)
        else:
            inside.append(equation)
    return outside, inside


def _is_known_scalar(equation: Any, known: set[Any]) -> bool:
    is_known = all(isinstance(v, core.Literal) or v in known for v in equation.invars)
    return is_known and all(v.aval.shape == () for v in equation.outvars)


def _function(
    jaxpr: core.Jaxpr, inputs: list[Any], outputs: list[Any], equations: list[Any]
) -> Callable[..., list[Any]]:
    """Make a function from some of the equations."""
    names = jaxpr.debug_info.with_unknown_names()
    part = jaxpr.replace(
        constvars=[], invars=inputs, outvars=outputs, eqns=equations, debug_info=names
    )
    return core.jaxpr_as_fun(core.ClosedJaxpr(part, []))


def _is_rounded(jaxpr: core.Jaxpr, variable: core.Var) -> bool:
    readers = [e for e in jaxpr.eqns if any(v is variable for v in e.invars)]
    return all(e.params.get("new_dtype") == jnp.bfloat16 for e in readers)


def _fitting(tilings: dict[int, _Tiling], width: int) -> _Tiling:
    for largest, tiling in tilings.items():
        if width <= largest:
            return tiling
    raise NotImplementedError(
        f"implementation='pallas': rows of {width} numbers do not fit on the chip, at most "
        f"{max(tilings)} do: use 'blockwise'"
    )


def _side(limit: int, num_rows: int) -> int:
    """Choose the side of a tile: a power of two, at least 16, and otherwise at most ``limit``."""
    return max(min(1 << (limit.bit_length() - 1), pl.next_power_of_2(num_rows)), _MIN_SIDE)


def _width(dim: int) -> int:
    return max(pl.next_power_of_2(dim), _MIN_SIDE)


def _padded(rows: NumberedRows, block: int) -> NumberedRows:
    """Pad with absent rows, and with zero coordinates, which do not change inner products."""
    num_rows, dim = rows.x.shape
    more = -num_rows % block
    index = jnp.pad(rows.ids, (0, more), constant_values=_ABSENT)
    return NumberedRows(jnp.pad(rows.x, ((0, more), (0, _width(dim) - dim))), index)


def _stored(rows: NumberedRows, visit: _Hoisted) -> NumberedRows:
    return rows._replace(x=rows.x.astype(jnp.bfloat16)) if visit.is_rounded else rows


def _block(size: int, width: int, dtype: Any) -> NumberedRows:
    x: Any = jax.ShapeDtypeStruct((size, width), dtype)
    index: Any = jax.ShapeDtypeStruct((size,), jnp.int32)
    return NumberedRows(x, index)


def _loaded(ref: Any, value: Any) -> Any:
    return ref[0] if jnp.ndim(value) == 0 else ref[...]


def _own(size: int, shape: tuple[int, ...]) -> pl.BlockSpec:
    """Give each program its own block along the first axis."""
    return pl.BlockSpec((size, *shape[1:]), lambda i: (i, *(0 for _ in shape[1:])))


def _whole(shape: tuple[int, ...]) -> pl.BlockSpec:
    """Give every program the whole array, from which it loads what it needs."""
    return pl.BlockSpec(shape, lambda i: tuple(0 for _ in shape))


def _cut(leaf: Any, shape: Any) -> Any:
    return leaf[tuple(slice(size) for size in shape.shape)]
