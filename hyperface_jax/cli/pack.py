"""``hyperface pack``: settings, inputs and their checks. The run itself is in :mod:`.pack_run`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import tyro

from hyperface_jax import processes
from hyperface_jax.errors import InputError
from hyperface_jax.io.embeddings import Embeddings, check_same_dim, read_embeddings, read_points
from hyperface_jax.packing.interior_point import MAX_VARIABLES

Method = Literal["annealed", "paper", "stochastic"]
FREE_TO_CHANGE = ("out", "checkpoint_seconds", "command", "devices", "distributed", "relax")
"""Settings with which an unfinished run may go on as others than it began."""


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Choose identities on the hypersphere, as far apart as possible, near the gallery.

    FILE is .npy, .npz, .safetensors or .parquet with one embedding a row; rows are normalized on
    reading. Run the same command again to resume an unfinished run.
    """

    num_ids: int
    """Number of (new) identities."""
    out: Path
    """Run directory: embeddings.npy, summary.json, report.html, checkpoints."""
    dim: int | None = None
    """Dimension of the sphere's space; taken from the files where there are any."""
    gallery: Path | None = None
    """FILE of face embeddings that stand for the face manifold."""
    alpha: float = 0.5
    """Weight of the mean cosine distance to the gallery."""
    neighbors: int = 1
    """Gallery rows that stand for the face manifold near an identity: 1 is the nearest row alone, as in
    HyperFace; with more, the distance is measured to their span."""
    init: Annotated[str | None, tyro.conf.arg(metavar="gallery|farthest|uniform|code|FILE")] = None
    """Start: random gallery rows, gallery rows far from each other, uniform points, the best known
    spherical code rotated at random, or the rows of FILE. Default: the gallery, if there is one, else
    uniform. With code and --steps 0 the code itself is written, certified by its construction."""
    method: Method = "annealed"
    """annealed: ours, full batch. stochastic: ours, mini-batches. paper: Algorithm 1 of HyperFace."""
    steps: int | None = None
    """Optimizer steps; chosen from num-ids and dim if not given."""
    batch_size: int | None = None
    """Points of a mini-batch (--method stochastic)."""
    relax: bool = True
    """End with one exact sweep over all pairs that also pushes the closest ones apart (--method
    stochastic)."""
    coarse_steps: int = 0
    """Steps at the start with bfloat16 products, several times faster on an accelerator (--method
    annealed). The steps that count are in float32."""
    learning_rate: float = 0.01
    """Adam's learning rate (--method paper)."""
    iterate: Literal["best", "last"] | None = None
    """Which iterate counts. Default: the last for --method paper, as published; the best for ours."""
    frozen: Path | None = None
    """FILE of an existing packing to extend: its rows do not move and come first in the output."""
    keep_out: Path | None = None
    """FILE of embeddings that no new identity may come near, for example of real people."""
    keep_out_cosine: float | None = None
    """Largest allowed cosine to a keep-out row, for example a verification threshold."""
    restarts: int = 1
    """Independent packings, side by side; the best is kept. For small problems."""
    polish: bool = False
    """Refine to a float64 local optimum (small problems, without gallery and keep-out)."""
    seed: int = 0
    """Seed of everything random."""
    devices: int | None = None
    """Devices to spread the identities over. Default: all of the job."""
    distributed: Literal["auto", "yes"] = "auto"
    """auto: join the other processes if the environment tells of any (Slurm, torchrun, Open MPI, GKE,
    or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID). yes: on a Cloud TPU pod slice."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints."""

    def run(self) -> int:
        """Check the settings and the files, then pack."""
        check_settings(self)
        try:
            processes.initialize(force=self.distributed == "yes")
        except (ValueError, RuntimeError) as error:
            raise InputError(f"cannot join the job: {error}") from error
        inputs = read_inputs(self)
        if is_code_alone(self):
            from hyperface_jax.cli.pack_code import pack_code

            return pack_code(self, inputs)
        from hyperface_jax.cli.pack_run import pack

        return pack(self, inputs)


class Inputs(NamedTuple):
    """Everything read from files, checked against each other."""

    dim: int
    gallery: Embeddings | None
    init: Embeddings | None
    frozen: Embeddings | None
    frozen_rows: np.ndarray | None
    """The frozen rows as they will be written, bit for bit."""
    keep_out: Embeddings | None

    def digests(self) -> dict[str, Any]:
        """Return the content hash of every file, to tell whether a resumed run sees the same."""
        files = {name: getattr(self, name) for name in ("gallery", "init", "frozen", "keep_out")}
        return {f"{name}_sha256": file.sha256 for name, file in files.items() if file}


def is_code_alone(config: Pack) -> bool:
    """Tell whether the packing is a spherical code as it is, with nothing to measure it against."""
    has_sets = config.gallery or config.frozen or config.keep_out
    is_plain = not has_sets and config.restarts == 1 and not config.polish
    return config.init == "code" and config.steps == 0 and is_plain


def check_settings(config: Pack) -> None:
    """Refuse settings that cannot work, before any file is read."""
    _check_numbers(config)
    if config.dim is None and not (config.gallery or config.frozen or config.keep_out):
        raise InputError("--dim is missing: give --dim D or --gallery FILE")
    if config.neighbors > 1 and config.gallery is None:
        raise InputError("--neighbors is for a gallery: give --gallery FILE")
    if config.init in ("gallery", "farthest") and config.gallery is None:
        raise InputError(f"--init {config.init} needs --gallery FILE")
    if config.init == "code" and config.method != "annealed":
        raise InputError(
            f"--init code --method {config.method}: drop --method, the annealed one alone refines a code"
        )
    if (config.keep_out is None) != (config.keep_out_cosine is None):
        raise InputError("--keep-out and --keep-out-cosine go together: give both or neither")
    if config.batch_size is not None and config.method != "stochastic":
        raise InputError("--batch-size is for --method stochastic")
    if config.coarse_steps and (config.method != "annealed" or config.restarts > 1):
        raise InputError("--coarse-steps is for --method annealed without --restarts")
    if config.restarts > 1 and config.method == "stochastic":
        raise InputError("--restarts does not go with --method stochastic: use annealed or paper")
    if config.polish and (config.gallery or config.keep_out):
        raise InputError("--polish optimizes the max cosine alone: drop --gallery and --keep-out")


def _check_numbers(config: Pack) -> None:
    least = 1 if config.frozen else 2
    requirements = [
        ("num_ids", config.num_ids >= least, f"at least {least}"),
        ("dim", config.dim is None or config.dim >= 2, "at least 2"),
        ("alpha", 0 <= config.alpha < float("inf"), "0 or more"),
        ("neighbors", config.neighbors >= 1, "at least 1"),
        ("steps", config.steps is None or config.steps >= 0, "0 or more"),
        ("batch_size", config.batch_size is None or config.batch_size >= 2, "at least 2"),
        ("coarse_steps", config.coarse_steps >= 0, "0 or more"),
        ("learning_rate", 0 < config.learning_rate < float("inf"), "above 0"),
        ("restarts", config.restarts >= 1, "at least 1"),
        ("devices", config.devices is None or config.devices >= 1, "at least 1"),
        ("checkpoint_seconds", config.checkpoint_seconds >= 0, "0 or more"),
        ("seed", 0 <= config.seed < 2**32, "between 0 and 4294967295"),
        ("keep_out_cosine", -1 < (config.keep_out_cosine or 0) < 1, "between -1 and 1"),
    ]
    for name, holds, needed in requirements:
        if not holds:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag} {getattr(config, name)}: must be {needed}")


def read_inputs(config: Pack) -> Inputs:
    """Read all files and check that they fit together."""
    gallery = read_embeddings(config.gallery) if config.gallery else None
    start = None
    if config.init not in (None, "gallery", "farthest", "uniform", "code"):
        start = read_embeddings(config.init)
    frozen = read_embeddings(config.frozen) if config.frozen else None
    keep_out = read_embeddings(config.keep_out) if config.keep_out else None
    files = [file for file in (gallery, start, frozen, keep_out) if file]
    dim = check_same_dim(*files, dim=config.dim)
    if start and start.num_points != config.num_ids:
        raise InputError(
            f"{start.path}: has {start.num_points} rows and --num-ids is {config.num_ids}: "
            "make them equal"
        )
    num_variables = config.num_ids * (dim - 1)
    if gallery and config.neighbors > gallery.num_points:
        raise InputError(
            f"{gallery.path}: has {gallery.num_points} rows and --neighbors is {config.neighbors}: "
            "lower it"
        )
    if config.polish and num_variables > MAX_VARIABLES:
        raise InputError(
            f"--polish: num-ids x (dim - 1) is {num_variables} and the limit is {MAX_VARIABLES}: "
            "drop --polish"
        )
    for file in files:
        if file.num_duplicates:
            warn(f"{file.path}: {file.num_duplicates} rows repeat an earlier row")
    return Inputs(dim, gallery, start, frozen, _output_rows(frozen), keep_out)


def _output_rows(frozen: Embeddings | None) -> np.ndarray | None:
    """Keep a float64 packing's own bits; other rows are written as the float32 that was read."""
    if frozen is None:
        return None
    raw = read_points(frozen.path)
    return np.array(raw) if raw.dtype == np.float64 else frozen.points


def resolved_config(config: Pack, inputs: Inputs, **resolved: Any) -> dict[str, Any]:
    """Return the settings as plain values, with defaults resolved and files by content."""
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()}
    return {
        **plain,
        "dim": inputs.dim,
        **resolved,
        **inputs.digests(),
        "command": shlex.join(["hyperface", *sys.argv[1:]]),
    }


def warn(message: str) -> None:
    """Print a warning to standard error."""
    print(f"hyperface: warning: {message}", file=sys.stderr)
