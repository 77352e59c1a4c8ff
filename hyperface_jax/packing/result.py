"""The result of a packing: its points, how good they are, and how they were found."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import partial
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from hyperface_jax import bounds
from hyperface_jax.errors import InputError
from hyperface_jax.packing.loop import StepRecord
from hyperface_jax.typing import Indices, Number, PerRow, Points

_HISTORY = "history_"
_ABOUT = "about"


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "x",
        "max_cosine",
        "nearest",
        "violations",
        "keep_out_cosine",
        "best_step",
        "history",
        "row",
    ],
    meta_fields=["num_points", "num_frozen"],
)
@dataclass(frozen=True, eq=False, repr=False)
class Packing:
    """A finished packing. It is a pytree; under ``vmap`` every field has a leading axis.

    ``solve`` returns its figures as Python numbers, ``run`` as arrays.

    Attributes:
        x: free points, ``[n, d]`` unit rows, without the frozen ones. A float32 array, or a float64
            NumPy array if polished.
        max_cosine: exact max cosine over all pairs with a free point.
        nearest: exact cosine of each point to its nearest other point, frozen ones included, ``[n]``.
        violations: number of points that violate the keep-out limit even after the repair; None
            without a keep-out set.
        keep_out_cosine: largest cosine of a point to a keep-out row; None without a keep-out set.
        best_step: step at which the points were found.
        history: a single :class:`StepRecord`; its leaves have a leading axis of steps.
        row: identity of each row of ``x``; None if the rows are in order. Points spread over several
            processes are returned in the order of the devices, padded with rows of zeros.
        num_points: number of free points.
        num_frozen: number of frozen points, which also count for the lower bound.
    """

    x: Points
    max_cosine: Number
    nearest: PerRow
    violations: Number | None
    keep_out_cosine: Number | None
    best_step: Number
    history: StepRecord
    row: Indices | None
    num_points: int
    num_frozen: int

    @property
    def lower_bound(self) -> bounds.Bound:
        """The tightest proven lower bound on the max cosine of this many points, with its name."""
        return bounds.tightest(self.num_points + self.num_frozen, self.x.shape[-1])

    @property
    def gap(self) -> Number:
        """How far the max cosine is above the lower bound; it cannot be less than 0."""
        return self.max_cosine - self.lower_bound.value

    @property
    def min_angle(self) -> Number:
        """Smallest angle between two points, in radians."""
        angle = jnp.arccos(jnp.clip(jnp.asarray(self.max_cosine), -1.0, 1.0))
        return float(angle) if isinstance(self.max_cosine, float) else angle

    def __repr__(self) -> str:
        size = f"{self.num_points} points in {self.x.shape[-1]} dimensions"
        if not _is_one(self.max_cosine):
            return f"Packing({size}, {getattr(self.max_cosine, 'shape', '')} side by side)"
        bound = self.lower_bound
        steps = self.history.step.shape[-1]
        violations = "" if self.violations is None else f", {int(self.violations)} violations"
        return (
            f"Packing({size}, max cosine {float(self.max_cosine):.5f}, "
            f"bound {bound.value:.5f}{violations}, {steps} steps)"
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the packing to a ``.npz`` file, atomically.

        The array ``embeddings`` holds the points.
        """
        from hyperface_jax.io.files import atomic_save_npz

        arrays: dict[str, Any] = {"embeddings": np.asarray(self.x)}
        for name in ("max_cosine", "nearest", "violations", "keep_out_cosine", "best_step", "row"):
            if getattr(self, name) is not None:
                arrays[name] = np.asarray(getattr(self, name))
        for name, values in self.history._asdict().items():
            if values is not None:
                arrays[_HISTORY + name] = np.asarray(values)
        sizes = {"num_points": self.num_points, "num_frozen": self.num_frozen}
        about = {"format": "hyperface_jax packing", **sizes}
        arrays[_ABOUT] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        atomic_save_npz(path, **arrays)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Packing:
        """Read a file that :meth:`save` wrote.

        Raises:
            InputError: the file is not such a packing; the message names it.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            about = json.loads(arrays[_ABOUT].tobytes())
            history: dict[str, Any] = {n: arrays.get(_HISTORY + n) for n in StepRecord._fields}
            named = {f.name: _plain(arrays.get(f.name)) for f in fields(cls)}
            sizes = {name: about[name] for name in ("num_points", "num_frozen")}
            named |= {"x": arrays["embeddings"], **sizes}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: is no packing written by Packing.save ({error})") from None
        values: dict[str, Any] = named | {"history": StepRecord(**history)}
        return cls(**values)


def _plain(value: Any) -> Any:
    return value.item() if value is not None and value.ndim == 0 else value


def _is_one(value: Any) -> bool:
    return not isinstance(value, Tracer) and np.ndim(value) == 0
