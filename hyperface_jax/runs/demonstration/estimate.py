"""An estimate of how long a closed loop takes: for each stage, a line through two measured runs."""

from __future__ import annotations

from typing import NamedTuple

from hyperface_jax.runs.demonstration.sizes import DEFAULT, QUICK, Size


class Measured(NamedTuple):
    """Seconds that two runs took, as measured by ``python -m benchmarks.demo``.

    Attributes:
        machine: name of the machine that they were measured on.
        quick: seconds of each stage at the size QUICK; the last entry covers the rest, such as imports.
        default: the same at the size DEFAULT.
    """

    machine: str
    quick: tuple[float, ...]
    default: tuple[float, ...]


MEASURED = Measured(
    "AMD EPYC, 2 cores",
    quick=(7.2, 11.2, 10.0, 15.1, 7.1, 0.2, 4.4),
    default=(9.7, 31.7, 28.6, 103.0, 23.3, 0.3, 4.5),
)


def estimate(size: Size) -> float:
    """Return the seconds that a closed loop takes on two idle cores such as those of ``MEASURED``."""
    rows = zip(_work(size), _work(QUICK), _work(DEFAULT), *MEASURED[1:], strict=True)
    return sum(_on_line(*row) for row in rows)


def _on_line(work: float, low: float, high: float, quick: float, default: float) -> float:
    slope = 0.0 if high == low else max(default - quick, 0) / (high - low)
    return max(quick + slope * (work - low), 0)


def _work(size: Size) -> tuple[float, ...]:
    """Return an amount of work for each stage and for the rest, which their times grow with."""
    num_images = size.num_ids * size.images_per_id
    faces = size.gallery + 2 * size.reference_ids + 2 * max(size.test_ids, 200)
    paper = size.num_ids**2 * size.gallery
    return faces, paper, num_images, num_images * size.epochs, 5 * size.pairs, 0, 0


def in_words(seconds: float) -> str:
    """Write a time in words, rounded.

    Examples:
        >>> [in_words(x) for x in (20, 89, 95, 340, 9000)]
        ['half a minute', '1.5 minutes', '1.5 minutes', '6 minutes', '2.5 hours']
    """
    if seconds < 45:
        return "half a minute"
    if seconds < 150:
        halves = round(seconds / 30) / 2
        return f"{halves:g} minute{'s' * (halves != 1)}"
    if seconds < 5400:
        return f"{round(seconds / 60)} minutes"
    return f"{round(seconds / 1800) / 2:g} hours"
