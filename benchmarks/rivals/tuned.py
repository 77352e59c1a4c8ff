"""Settings of each rival that the comparison runs, from grids on (500, 32) and (2000, 128).

The large shapes have none: they take the setting that was best on the shape before. Near a gallery
no grid was run before: each rival tries a span of rates there, and of scales where it has one, since a
sharp kernel leaves all but the closest pairs to the gallery's pull.
"""

from __future__ import annotations

from benchmarks.rivals.core import Settings


def _rates(*rates: float, **fixed: object) -> tuple[Settings, ...]:
    return tuple({"lr": rate, "schedule": "cosine", **fixed} for rate in rates)


# A constant rate never settles (0.1: 0.527 on the small shape), the paper's own decay does.
_PAPER = ({"lr": 0.01, "schedule": "staircase"}, {"lr": 0.001, "schedule": "staircase"})

_PAPER_NEAR = tuple({"lr": rate, "schedule": "staircase"} for rate in (0.1, 0.01, 0.001))
_NEAR = (0.1, 0.03, 0.01)


def _softer(*scales: float) -> tuple[Settings, ...]:
    return tuple(one for scale in scales for one in _rates(0.1, 0.03, scale=scale))


TUNED: dict[str, dict[str, tuple[Settings, ...]]] = {
    "paper_closest_pair": {"small": _PAPER, "medium": _PAPER, "manifold": _PAPER_NEAR},
    # Too few steps on the medium shape to come down from a large rate: 0.120, 0.114, 0.110.
    "mean_row_max": {
        "small": _rates(0.1, 0.3),
        "medium": _rates(0.01, 0.03),
        "manifold": _rates(*_NEAR),
    },
    "koleo": {
        "small": _rates(0.1, 0.3),
        "medium": _rates(0.1, 0.03),
        "manifold": _rates(*_NEAR),
    },
    "mma": {
        "small": _rates(0.1, 0.3),
        "medium": _rates(0.1, 0.03),
        "manifold": _rates(*_NEAR),
    },
    "mmd_gaussian": {
        "small": _rates(0.03, 0.01, scale=300.0),
        "medium": _rates(0.1, 0.03, scale=300.0),
        "manifold": _softer(25.0, 100.0, 300.0),
    },
    "mmd_laplace": {"small": _rates(0.03, scale=300.0), "medium": _rates(0.03, scale=300.0)},
    "riesz": {
        "small": _rates(0.03, 0.01, scale=512.0),
        "medium": _rates(0.1, 0.03, scale=512.0),
        "manifold": _softer(32.0, 128.0, 512.0),
    },
    "pymanopt_lse_cg": {
        "small": (
            {"stages": 6, "betas": (20.0, 20_000.0)},
            {"stages": 12, "betas": (20.0, 20_000.0), "dtype": "float32"},
        ),
        "medium": (
            {"stages": 6, "betas": (20.0, 4000.0), "dtype": "float32"},
            {"stages": 12, "betas": (20.0, 20_000.0), "dtype": "float32"},
        ),
        "manifold": (
            {"stages": 6, "betas": (20.0, 4000.0), "dtype": "float32"},
            {"stages": 12, "betas": (20.0, 20_000.0), "dtype": "float32"},
            {"stages": 24, "betas": (20.0, 20_000.0), "dtype": "float32"},
        ),
    },
}
