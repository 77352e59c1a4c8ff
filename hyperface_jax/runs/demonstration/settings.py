"""Settings of a demonstration, and checks of which settings go together."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from hyperface_jax.errors import InputError, require
from hyperface_jax.runs.demonstration.sizes import DEFAULT, FULL, QUICK, Size
from hyperface_jax.runs.support.settings import option

_SIZE = "size"
_LEAST = {"alpha": 0, "neighbors": 1}
_SMALLEST = 2
_MOST = 2**31


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Run the whole method in a world of toy faces, and write one report.

    The stages are gallery, packing, synthesis, recognition, evaluation and leakage. Everything runs on
    this machine, without downloads. The options quick and full choose the size of the world; the other
    size options change single numbers of it. Run the same command again to resume.
    """

    out: Path | None = None
    """Folder for the stages and report.html. Default: runs/demo, runs/quick or runs/full."""
    quick: bool = option(False, group=_SIZE)
    """Run a small world, to see every stage at work. It is too small to show which way to choose
    identities is better."""
    full: bool = option(False, group=_SIZE)
    """Run a larger world. On two cores, it takes an hour or more instead of minutes."""
    num_ids: int | None = option(None, group=_SIZE)
    """Number of synthetic identities."""
    images_per_id: int | None = option(None, group=_SIZE)
    """Number of images for each synthetic identity."""
    gallery: int | None = option(None, group=_SIZE)
    """Number of random faces in the gallery."""
    epochs: int | None = option(None, group=_SIZE)
    """Number of passes over the images in each training run."""
    alpha: float | None = option(None, group=_SIZE)
    """Weight of the gallery in the packing."""
    neighbors: int | None = option(None, group=_SIZE, aliases=("neighbours",))
    """Number of gallery rows whose span stands for the face manifold in the packing."""
    pairs: int | None = option(None, group=_SIZE)
    """Number of pairs in each verification set."""
    test_ids: int | None = option(None, group=_SIZE)
    """Number of held-out persons to test the recognizers on."""
    reference_ids: int | None = option(None, group=_SIZE)
    """Number of real persons who must not leak."""
    seed: int = 0
    """Random seed."""


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
    """Return the folder of a demonstration: the given one, or the default one for its size."""
    name = "quick" if config.quick else "full" if config.full else "demo"
    return config.out or Path("runs") / name
