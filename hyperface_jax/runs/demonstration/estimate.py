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
    "Intel(R) Xeon(R) Processor, 2 cores",
    quick=(8.0, 13.1, 7.2, 24.3, 15.1, 0.5, 8.9),
    default=(10.4, 44.0, 14.6, 165.0, 32.2, 0.6, 8.8),
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
