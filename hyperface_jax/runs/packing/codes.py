"""Packings that are unmodified spherical codes, of any size, written block by block.

The max cosine of a code is known without looking at any pair. A sample of rows is still compared with
all others, to make sure that the file contains what the certificate describes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hyperface_jax import sphere
from hyperface_jax.codes import SphericalCode, best_known, verify
from hyperface_jax.errors import InputError, Stopped
from hyperface_jax.io import run_directory as names
from hyperface_jax.io.files import JsonLines, atomic_save_npz, writing
from hyperface_jax.packing.starts import rotated_rows
from hyperface_jax.runs.packing.inputs import Inputs, resolved_config
from hyperface_jax.runs.packing.results import unheld, write_summary
from hyperface_jax.runs.packing.settings import FREE_TO_CHANGE, RENAMED, Pack
from hyperface_jax.runs.support.jobs import open_run
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.watch import Watch

if TYPE_CHECKING:
    from hyperface_jax.io.run_directory import RunDirectory

_BLOCK = 16_384
_SAMPLE = 1024
_ROUNDING = 1e-6


class Code(NamedTuple):
    """A rotated code and a sample of its rows."""

    code: SphericalCode
    rows: Any
    sampled: np.ndarray
    sample: Any


def pack_code(config: Pack, inputs: Inputs, watch: Watch) -> Result:
    """Write a code, resume writing it, or report a finished one."""
    if jax.process_count() > 1:
        raise InputError(
            "`init=code` with `steps=0` is for a single process: run it without the others"
        )
    try:
        code = best_known(config.num_ids, inputs.dim)
    except ValueError as error:
        raise InputError(f"`init=code`: {error}") from error
    run = open_run(config.out, 4 * config.num_ids * inputs.dim)
    try:
        return _pack_code(config, inputs, run, code, watch)
    finally:
        run.close()


def _pack_code(
    config: Pack, inputs: Inputs, run: RunDirectory, code: SphericalCode, watch: Watch
) -> Result:
    resolved = resolved_config(config, inputs, code=code.name)
    run.claim(resolved, ignore=FREE_TO_CHANGE, renamed=RENAMED)
    if run.is_finished:
        summary = run.summary()
        text = f"{run.path}: already finished, max cosine {summary['max_cosine']:.6f}"
        return Result(run.path, summary, text)
    start = time.perf_counter()
    certificate = _certificate(code)
    rotated = _rotated(code, config.seed, inputs.dim)
    nearest = _write(run / names.EMBEDDINGS, rotated, config.num_ids, inputs.dim, watch)
    if nearest is None:
        raise Stopped(run.path)
    _check(nearest, code)
    JsonLines(run / names.HISTORY).close()
    atomic_save_npz(run / names.DIAGNOSTICS, nearest_before=nearest, nearest_after=nearest)
    seconds = time.perf_counter() - start
    return write_summary(run, _summary(config, inputs, code, nearest, certificate, seconds), watch)


def _certificate(code: SphericalCode) -> dict[str, Any]:
    """Check the stated max cosine over all words or pairs if they are few; else cite the proof."""
    found = {"code": code.name, "reference": code.reference, "max_cosine": code.max_cosine}
    try:
        checked = verify(code)
    except ValueError as error:
        return found | {"verified_by": None, "why_not": str(error)}
    if checked.max_cosine > code.max_cosine + checked.error:
        raise AssertionError(f"{code.name}: states {code.max_cosine}, has {checked.max_cosine}")
    return found | {"verified_by": checked.method, "verified_max_cosine": checked.max_cosine}


def _rotated(code: SphericalCode, seed: int, dim: int) -> Code:
    rotation_key, sample_key = jax.random.split(jax.random.key(seed))
    rows = jax.jit(rotated_rows(code, sphere.sample_rotation(rotation_key, dim)))
    drawn = jax.random.randint(sample_key, (min(_SAMPLE, code.num_points),), 0, code.num_points)
    index = np.unique(np.asarray(drawn))
    return Code(code, rows, index, rows(jnp.asarray(index)))


def _write(path: Path, code: Code, num_rows: int, dim: int, watch: Watch) -> np.ndarray | None:
    """Write all rows and return the nearest cosines of the sample; None if a stop was requested."""
    partial = path.with_name(f".{path.name}.partial")
    nearest = np.full(len(code.sampled), -np.inf, np.float32)
    with writing(path):
        file = _opened(partial, (num_rows, dim))
        opened = watch.progress("writing", "rows", num_rows)
        with watch.stopping() as is_asked, opened as update:
            for first, block in _blocks(file, code, num_rows):
                nearest = np.maximum(nearest, _nearest(code, block, first))
                update(min(first + _BLOCK, num_rows), f"max cosine {nearest.max():.5f}")
                if is_asked():
                    return None
        file.flush()
        partial.replace(path)
    return nearest


def _opened(path: Path, shape: tuple[int, int]) -> np.memmap:
    """Open the file that an earlier call left, or a new file of zeros."""
    if path.exists():
        try:
            file = np.lib.format.open_memmap(path, mode="r+")
            if file.shape == shape and file.dtype == np.float32:
                return file
        except ValueError:
            pass
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)


def _blocks(file: np.memmap, code: Code, num_rows: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield all blocks in order, and write those that the file does not hold yet."""
    for first in range(0, num_rows, _BLOCK):
        stop = min(first + _BLOCK, num_rows)
        if not file[stop - 1].any():
            index = jnp.minimum(jnp.arange(first, first + _BLOCK), num_rows - 1)
            rows = np.asarray(code.rows(index))[: stop - first]
            # The last row is written last: its presence marks the block as complete.
            file[first : stop - 1] = rows[:-1]
            file[stop - 1] = rows[-1]
        yield first, file[first:stop]


def _nearest(code: Code, block: np.ndarray, first: int) -> np.ndarray:
    rows = np.zeros((_BLOCK, block.shape[1]), np.float32)
    rows[: len(block)] = block
    return np.asarray(_sample_max(code.sample, jnp.asarray(code.sampled), rows, first, len(block)))


@jax.jit
def _sample_max(sample: Any, index: Any, block: Any, first: Any, size: Any) -> Any:
    scores = jnp.matmul(sample, block.T, precision=lax.Precision.HIGHEST)
    place = jnp.arange(block.shape[0])[None]
    is_other = (place < size) & (first + place != index[:, None])
    return jnp.max(jnp.where(is_other, scores, -jnp.inf), axis=1)


def _check(nearest: np.ndarray, code: SphericalCode) -> None:
    if nearest.max() > code.max_cosine + _ROUNDING:
        raise AssertionError(f"{code.name}: a row at cosine {nearest.max()} of another was written")


def _summary(
    config: Pack,
    inputs: Inputs,
    code: SphericalCode,
    nearest: np.ndarray,
    certificate: dict[str, Any],
    seconds: float,
) -> dict[str, Any]:
    return {
        **unheld(config, inputs.dim, code.max_cosine),
        "method": "code",
        "steps": 0,
        "certificate": certificate,
        "max_cosine_rows": len(nearest),
        "max_cosine_is_exact": bool(nearest.max() > code.max_cosine - _ROUNDING),
        "mean_nearest_cosine": float(nearest.mean()),
        "seconds": seconds,
    }
