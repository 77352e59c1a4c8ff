"""The ``bounds`` stage: a bound that no packing can beat, and what the best construction reaches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hyperface_jax.bounds import tightest
from hyperface_jax.errors import InputError
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.watch import QUIET, Watch

if TYPE_CHECKING:
    from hyperface_jax.codes import SphericalCode


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Find the best lower bound on the max cosine of N unit vectors in R^D, and the best code."""

    num_ids: int
    """Number of identities."""
    dim: int
    """Dimension of the space that contains the sphere."""
    verify: bool = False
    """Also compute the code's max cosine: over all words if the code is linear, else over all pairs."""


def bounds(config: Bounds, *, watch: Watch = QUIET) -> Result:
    """Find the tightest bound and the best code.

    Args:
        config: the settings.
        watch: unused, because nothing here takes long.

    Raises:
        InputError: the dimension or the number of points is invalid, or the code is too large to be
            verified.
    """
    del watch
    from hyperface_jax.codes import best_known, better_record

    try:
        bound = tightest(config.num_ids, config.dim)
        code = best_known(config.num_ids, config.dim)
    except ValueError as error:
        raise InputError(f"`num_ids={config.num_ids}` `dim={config.dim}`: {error}") from error
    listed = better_record(config.num_ids, config.dim)
    summary: dict[str, Any] = {
        "num_ids": config.num_ids,
        "dim": config.dim,
        "lower_bound": bound.value,
        "lower_bound_name": bound.name,
        "min_angle_deg": math.degrees(math.acos(bound.value)),
        "best_known": code.max_cosine,
        "best_known_name": code.name,
        "record": listed and listed.max_cosine,
        "record_source": listed and listed.source,
        "verified": _verified(code) if config.verify else None,
    }
    return Result(None, summary, _in_words(summary))


def _verified(code: SphericalCode) -> dict[str, Any]:
    from hyperface_jax.codes import verify

    try:
        found = verify(code)
    except ValueError as error:
        raise InputError(f"`verify`: {error}") from error
    return {"max_cosine": found.max_cosine, "over": found.method}


def _in_words(summary: dict[str, Any]) -> str:
    lines = [
        f"{summary['num_ids']} points in {summary['dim']} dimensions: "
        f"({summary['lower_bound_name']} bound)",
        f"  max cosine >= {summary['lower_bound']:.9f}",
        f"  min angle  <= {summary['min_angle_deg']:.6f} degrees",
        f"  construction: {summary['best_known']:.9f} ({summary['best_known_name']})",
    ]
    if summary["record"]:
        lines.append(f"  record:       {summary['record']:.9f} ({summary['record_source']})")
    if found := summary["verified"]:
        lines.append(f"  verified:     {found['max_cosine']:.9f} over all {found['over']}")
    return "\n".join(lines)
