"""Settings of a demonstration, and what they exclude."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from hyperface_jax.errors import InputError
from hyperface_jax.runs.demonstration.sizes import DEFAULT, FULL, QUICK, Size
from hyperface_jax.runs.support.settings import option, require

_SIZE = "size"
_LEAST = {"alpha": 0, "neighbors": 1}
_SMALLEST = 2
_MOST = 2**31


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Run the whole method in a world of toy faces, and write one report.

    Gallery, packing, synthesis, recognition, evaluation, leakage: on this machine, without downloads.
    Run the same command again to resume.
    """

    out: Path | None = None
    """Folder for the stages and report.html. Default: runs/demo, runs/quick or runs/full."""
    quick: bool = option(False, group=_SIZE)
    """A small world, to see every stage at work; too small to tell ways to choose identities apart."""
    full: bool = option(False, group=_SIZE)
    """A larger world: an hour or more instead of minutes on two cores."""
    num_ids: int | None = option(None, group=_SIZE)
    """Synthetic identities, for another size."""
    images_per_id: int | None = option(None, group=_SIZE)
    """Images of each."""
    gallery: int | None = option(None, group=_SIZE)
    """Random faces in the gallery."""
    epochs: int | None = option(None, group=_SIZE)
    """Passes of each training."""
    alpha: float | None = option(None, group=_SIZE)
    """Weight of the gallery in the packing."""
    neighbors: int | None = option(None, group=_SIZE, aliases=("neighbours",))
    """Gallery rows whose span stands for the face manifold in the packing."""
    pairs: int | None = option(None, group=_SIZE)
    """Pairs of each verification set."""
    test_ids: int | None = option(None, group=_SIZE)
    """Held-out persons."""
    reference_ids: int | None = option(None, group=_SIZE)
    """Real persons who must not leak."""
    seed: int = 0
    """Seed of everything random."""


def size_of(config: Demo) -> Size:
    """Return the size that the settings ask for.

    Raises:
        InputError: a setting cannot work.
    """
    if config.quick and config.full:
        raise InputError("`quick`, `full`: they exclude each other; give one")
    names = [item.name for item in fields(Size) if hasattr(config, item.name)]
    given = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    least = {name: _LEAST.get(name, _SMALLEST) for name in given}
    require(
        config,
        [
            ("seed", 0 <= config.seed < _MOST, f"between 0 and {_MOST - 1}"),
            *((n, least[n] <= value < _MOST, f"{least[n]} or more") for n, value in given.items()),
        ],
    )
    return replace(QUICK if config.quick else FULL if config.full else DEFAULT, **given)


def folder_of(config: Demo) -> Path:
    """Return the folder of a demonstration: what is asked for, or one for each size."""
    name = "quick" if config.quick else "full" if config.full else "demo"
    return config.out or Path("runs") / name
