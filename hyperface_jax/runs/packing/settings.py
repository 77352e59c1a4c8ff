"""Settings of a packing, and what they exclude."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hyperface_jax.errors import InputError
from hyperface_jax.runs.support.settings import option, require

Method = Literal["annealed", "paper", "stochastic"]
FREE_TO_CHANGE = (
    "out",
    "checkpoint_seconds",
    "stall_seconds",
    "command",
    "devices",
    "distributed",
    "relax",
)
"""Settings with which an unfinished run may go on as others than it began."""
RENAMED = {"neighbours": "neighbors"}
"""Settings as runs of earlier versions call them, and what they are called now."""
ALPHA, LEARNING_RATE = 0.5, 0.01
"""What stands for None."""
NAMED_STARTS = ("gallery", "farthest", "uniform", "code")


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Choose identities on the hypersphere, as far apart as possible, near the gallery.

    FILE is .npy, .npz, .safetensors or .parquet with one embedding a row; FILE:KEY takes one of several
    arrays. Rows are normalized on reading. Run the same command again to resume an unfinished run.
    """

    num_ids: int
    """Number of (new) identities."""
    out: Path
    """Run directory: embeddings.npy, summary.json, report.html, checkpoints."""
    dim: int | None = None
    """Dimension of the sphere's space; taken from the files where there are any."""
    gallery: Path | None = option(None, group="gallery", metavar="FILE")
    """FILE of face embeddings that stand for the face manifold."""
    alpha: float | None = option(None, group="gallery")
    """Weight of the mean cosine distance to the gallery. Default: 0.5."""
    neighbors: int = option(1, group="gallery", aliases=("neighbours",))
    """Gallery rows that stand for the face manifold near an identity: 1 is the nearest row alone, as in
    HyperFace; with more, the distance is measured to their span."""
    init: str | None = option(None, group="start", metavar="gallery|farthest|uniform|code|FILE")
    """Start: random gallery rows, gallery rows far from each other, uniform points, the best known
    spherical code rotated at random, or the rows of FILE. Default: the gallery, if there is one, else
    uniform. With code and 0 steps the code itself is written, certified by its construction."""
    method: Method = option("annealed", group="method")
    """annealed: ours, full batch. stochastic: ours, mini-batches. paper: Algorithm 1 of HyperFace."""
    steps: int | None = option(None, group="method")
    """Optimizer steps; chosen from num-ids and dim if not given."""
    batch_size: int | None = option(None, group="method")
    """Points of a mini-batch (method stochastic)."""
    relax: bool = option(True, group="method")
    """End with one exact sweep over all pairs that also pushes the closest ones apart (method
    stochastic)."""
    coarse_steps: int = option(0, group="method")
    """Steps at the start with bfloat16 products, several times faster on an accelerator (method
    annealed). The steps that count are in float32."""
    learning_rate: float | None = option(None, group="method")
    """Adam's learning rate (method paper). Default: 0.01."""
    iterate: Literal["best", "last"] | None = option(None, group="method")
    """Which iterate counts. Default: the last for the method paper, as published; the best for ours."""
    frozen: Path | None = option(None, group="other points", metavar="FILE")
    """FILE of an existing packing to extend: its rows do not move and come first in the output."""
    keep_out: Path | None = option(None, group="other points", metavar="FILE")
    """FILE of embeddings that no new identity may come near, for example of real people."""
    keep_out_cosine: float | None = option(None, group="other points")
    """Largest allowed cosine to a keep-out row, for example a verification threshold."""
    restarts: int = option(1, group="method")
    """Independent packings, side by side; the best is kept. For small problems."""
    polish: bool = option(False, group="method")
    """Refine to a float64 local optimum (small problems, without gallery and keep-out)."""
    seed: int = 0
    """Seed of everything random."""
    devices: int | None = option(None, group="machine")
    """Devices to spread the identities over. Default: all of the job."""
    distributed: Literal["auto", "yes"] = option("auto", group="machine")
    """auto: join the other processes if the environment tells of any (Slurm, torchrun, Open MPI, GKE,
    or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID). yes: on a Cloud TPU pod slice."""
    checkpoint_seconds: float = option(30.0, group="machine")
    """Seconds between checkpoints."""
    stall_seconds: float = option(1800.0, group="machine")
    """Seconds without progress after which a job of several processes ends, as one of them is stuck."""


def is_code_alone(config: Pack) -> bool:
    """Tell whether the packing is a spherical code as it is, with nothing to measure it against."""
    has_sets = config.gallery or config.frozen or config.keep_out
    is_plain = not has_sets and config.restarts == 1 and not config.polish
    return config.init == "code" and config.steps == 0 and is_plain


def check_settings(config: Pack) -> None:
    """Refuse settings that cannot work, before any file is read."""
    _check_numbers(config)
    if not _has_files(config) and config.dim is None:
        raise InputError("`dim` is missing: give `dim` or `gallery`")
    if config.init in ("gallery", "farthest") and config.gallery is None:
        raise InputError(f"`init={config.init}` needs `gallery`")
    if config.init == "code" and config.method != "annealed":
        raise InputError(
            f"`init=code` with `method={config.method}`: drop `method`, the annealed one alone refines "
            "a code"
        )
    if (config.keep_out is None) != (config.keep_out_cosine is None):
        raise InputError("`keep_out` and `keep_out_cosine` go together: give both or neither")
    if config.coarse_steps and config.restarts > 1:
        raise InputError("`coarse_steps` does not go with `restarts`: drop one of them")
    if config.restarts > 1 and config.method == "stochastic":
        raise InputError("`restarts` does not go with `method=stochastic`: use annealed or paper")
    if config.polish and (config.gallery or config.keep_out):
        raise InputError("`polish` optimizes the max cosine alone: drop `gallery` and `keep_out`")
    _refuse_ignored(config)


def _has_files(config: Pack) -> bool:
    has_start = config.init is not None and config.init not in NAMED_STARTS
    return bool(config.gallery or config.frozen or config.keep_out or has_start)


def _refuse_ignored(config: Pack) -> None:
    """Refuse what would change nothing."""
    if config.gallery is None:
        for name, is_given in (
            ("alpha", config.alpha is not None),
            ("neighbors", config.neighbors > 1),
        ):
            if is_given:
                raise InputError(f"`{name}` is for a gallery: give `gallery` too, or drop it")
    of_methods = (
        ("batch_size", config.batch_size is not None, "stochastic"),
        ("relax", not config.relax, "stochastic"),
        ("coarse_steps", config.coarse_steps > 0, "annealed"),
        ("learning_rate", config.learning_rate is not None, "paper"),
    )
    for name, is_given, method in of_methods:
        if is_given and config.method != method:
            raise InputError(f"`{name}` is for `method={method}`: give that too, or drop `{name}`")


def _check_numbers(config: Pack) -> None:
    least = 1 if config.frozen else 2
    alpha, rate, size = config.alpha, config.learning_rate, config.batch_size
    checks = [
        ("num_ids", config.num_ids >= least, f"at least {least}"),
        ("dim", config.dim is None or config.dim >= 2, "at least 2"),
        ("alpha", alpha is None or 0 <= alpha < float("inf"), "0 or more"),
        ("neighbors", config.neighbors >= 1, "at least 1"),
        ("steps", config.steps is None or config.steps >= 0, "0 or more"),
        ("batch_size", size is None or size >= 2, "at least 2"),
        ("coarse_steps", config.coarse_steps >= 0, "0 or more"),
        ("learning_rate", rate is None or 0 < rate < float("inf"), "above 0"),
        ("restarts", config.restarts >= 1, "at least 1"),
        ("devices", config.devices is None or config.devices >= 1, "at least 1"),
        ("checkpoint_seconds", config.checkpoint_seconds >= 0, "0 or more"),
        ("stall_seconds", config.stall_seconds > 0, "above 0"),
        ("seed", 0 <= config.seed < 2**32, "between 0 and 4294967295"),
        ("keep_out_cosine", -1 < (config.keep_out_cosine or 0) < 1, "between -1 and 1"),
    ]
    require(config, checks)
