"""Settings of a packing, and checks of which settings go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hyperface_jax.errors import InputError, require
from hyperface_jax.runs.support.settings import changed, option

Method = Literal["annealed", "paper", "stochastic"]
FinePrecision = Literal["float32", "bf16_x3"]
FREE_TO_CHANGE = (
    "out",
    "checkpoint_seconds",
    "chunk",
    "stall_seconds",
    "command",
    "devices",
    "distributed",
    "precision",
    "relax",
    "gallery",
    "frozen",
    "keep_out",
    "threshold",
)
"""Settings that may change when an unfinished run is resumed."""
RENAMED = {"neighbours": "neighbors"}
"""Names of settings in runs of earlier versions, and their current names."""
ALPHA, LEARNING_RATE = 0.5, 0.01
"""Values that are used where the setting is None."""
OF_GENERATOR = (
    "recognizer",
    "rounds",
    "probe_images",
    "candidates",
    "learning_steps",
    "crop",
)
"""Settings that need a generator to pack through."""
NAMED_STARTS = ("gallery", "farthest", "subspace", "uniform", "code")
OF_GALLERY = ("gallery", "farthest", "subspace")
"""Starts that are made from the gallery."""
_NOT_SEARCHED = (
    "gallery",
    "init",
    "method",
    "steps",
    "iterate",
    "precision",
    "coarse_steps",
    "frozen",
    "keep_out",
    "restarts",
    "polish",
    "through",
    "devices",
)


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Choose identities on the hypersphere, as far apart as possible, near the gallery.

    FILE is a .npy, .npz, .safetensors or .parquet file with one embedding per row; FILE:KEY selects one
    of several arrays in a file. Rows are normalized when they are read. Run the same command again to
    resume an unfinished run.
    """

    num_ids: int
    """Number of identities to choose, not counting those of the frozen packing."""
    out: Path
    """Run directory, for embeddings.npy, summary.json, report.html and checkpoints."""
    dim: int | None = None
    """Dimension of the space that contains the sphere. Default: that of the files, if any are given."""
    gallery: Path | None = option(None, group="gallery", metavar="FILE")
    """FILE of face embeddings that stand for the face manifold."""
    alpha: float | None = option(None, group="gallery")
    """Weight of the mean cosine distance to the gallery. Default: 0.5."""
    neighbors: int = option(1, group="gallery", aliases=("neighbours",))
    """Number of gallery rows that stand for the face manifold near an identity. With 1, the distance is
    measured to the nearest row, as in HyperFace; with more, to the span of the nearest rows."""
    manifold: Literal["subspace"] | None = option(None, group="gallery")
    """What stands for the face manifold. subspace: the span of the directions in which the faces of the
    gallery differ, for small galleries. Default: the nearest gallery rows, as many as neighbors says."""
    subspace_dims: int | None = option(None, group="gallery")
    """Number of directions of the subspace. Default: the number under which gallery rows that were left
    out are most likely."""
    init: str | None = option(
        None, group="start", metavar="gallery|farthest|subspace|uniform|code|FILE"
    )
    """Starting points. gallery: random gallery rows. farthest: gallery rows far from each other.
    subspace: new faces, drawn from a Gaussian model of the gallery (probabilistic PCA). uniform:
    uniformly random points. code: the best known spherical code, randomly rotated. FILE: the rows of
    FILE. Default: gallery if there is a gallery, else uniform. With code and 0 steps, the code itself
    is written, certified by its construction."""
    method: Method = option("annealed", group="method")
    """Packing method. annealed: our method, full batch. stochastic: our method, mini-batches. paper:
    Algorithm 1 of HyperFace."""
    steps: int | None = option(None, group="method")
    """Number of optimizer steps. Default: chosen from num-ids and dim."""
    batch_size: int | None = option(None, group="method")
    """Number of points per mini-batch. For the stochastic method only."""
    relax: bool = option(True, group="method")
    """Finish with one exact sweep over all pairs that also pushes the closest pairs apart. For the
    stochastic method only."""
    coarse_steps: int | None = option(None, group="method")
    """Number of steps at the start that use bfloat16 products, which are several times faster on an
    accelerator. For the annealed method only. Default: four fifths of the steps of a large packing on an
    accelerator, else 0."""
    precision: FinePrecision | None = option(None, group="method")
    """Products of the other steps, which decide the result. bf16_x3: three bfloat16 products instead of
    one in float32, with an error of a cosine of about 1e-6. The result is measured in float32. Default:
    bf16_x3 on an accelerator, float32 on a CPU."""
    learning_rate: float | None = option(None, group="method")
    """Learning rate of Adam. For the paper method only. Default: 0.01."""
    iterate: Literal["best", "last"] | None = option(None, group="method")
    """Whether to keep the best or the last iterate. Default: the last one for the paper method, as
    published; the best one for the others."""
    frozen: Path | None = option(None, group="other points", metavar="FILE")
    """FILE with an existing packing to extend. Its rows do not move, and come first in the output."""
    keep_out: Path | None = option(None, group="other points", metavar="FILE")
    """FILE with embeddings that no new identity may come near, such as those of real people."""
    keep_out_cosine: float | None = option(None, group="other points")
    """Largest allowed cosine between an identity and a keep-out row, such as a verification
    threshold."""
    restarts: int = option(1, group="method")
    """Number of independent packings to run side by side. The best one is kept. For small problems."""
    polish: bool = option(False, group="method")
    """Refine the result to a float64 local optimum. For small problems without gallery and keep-out."""
    search: float | None = option(None, group="method", metavar="SECONDS")
    """Search for this many seconds among packings with and without symmetry, instead of a single
    packing, and keep the best one, refined in float64. It ends early where a proven bound is met. For a
    few hundred points with nothing but each other. An unfinished search may be continued with another
    time."""
    through: str | None = option(None, group="generator", metavar="FOLDER|MODULE:NAME")
    """Generator to pack through, as for synthesize: the faces that it draws are what is spread. It is
    drawn from in rounds, and the number of images is printed before the first. Needs gallery and
    recognizer."""
    recognizer: Path | None = option(None, group="generator", metavar="FILE|FOLDER")
    """The recognizer that embedded the gallery, in any form that embed takes."""
    rounds: int = option(3, group="generator")
    """Number of rounds in which the identities are moved by what the generator was found to draw."""
    probe_images: int = option(4, group="generator")
    """Number of images to draw of each identity in a round, and of each candidate."""
    candidates: float = option(5.0, group="generator")
    """Number of further embeddings to draw before the first round, as a multiple of num-ids."""
    learning_steps: int = option(1500, group="generator")
    """Number of training steps in which the response of the generator is learned, in each round."""
    crop: str = option("center", group="generator", metavar="none|center|FILE")
    """How to cut out the face, as for synthesize."""
    threshold: float | None = option(None, group="report")
    """Verification threshold of the recognizer, a cosine. The report marks it and counts the identities
    above it. Changes nothing else."""
    seed: int = 0
    """Random seed."""
    devices: int | None = option(None, group="machine")
    """Number of devices to split the identities across. Default: all devices of the job."""
    distributed: Literal["auto", "yes"] = option("auto", group="machine")
    """Whether to join a job of several processes. auto: join if the environment describes one (Slurm,
    torchrun, Open MPI, GKE, or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID). yes:
    always join; use it on a Cloud TPU pod slice."""
    checkpoint_seconds: float = option(30.0, group="machine")
    """Seconds between checkpoints."""
    stall_seconds: float = option(1800.0, group="machine")
    """Seconds without progress after which a job of several processes stops because one of them must be
    stuck."""


def is_code_alone(config: Pack) -> bool:
    """Tell whether the packing is an unmodified spherical code, with nothing to measure it against."""
    has_sets = config.gallery or config.frozen or config.keep_out
    is_plain = not has_sets and config.restarts == 1 and not config.polish
    return config.init == "code" and config.steps == 0 and is_plain


def check_settings(config: Pack) -> None:
    """Refuse settings that cannot work, before any file is read."""
    _check_numbers(config)
    if not _has_files(config) and config.dim is None:
        raise InputError("`dim` is missing: give `dim` or `gallery`")
    if config.init in OF_GALLERY and config.gallery is None:
        raise InputError(f"`init={config.init}` needs `gallery`")
    if config.init == "code" and config.method != "annealed":
        raise InputError(
            f"`init=code` with `method={config.method}`: drop `method`, because only the annealed one "
            "refines a code"
        )
    if (config.keep_out is None) != (config.keep_out_cosine is None):
        raise InputError("`keep_out` and `keep_out_cosine` go together: give both or neither")
    if config.coarse_steps and config.restarts > 1:
        raise InputError("`coarse_steps` does not go with `restarts`: drop one of them")
    if config.restarts > 1 and config.method == "stochastic":
        raise InputError("`restarts` does not go with `method=stochastic`: use annealed or paper")
    if config.polish and (config.gallery or config.keep_out):
        raise InputError("`polish` optimizes only the max cosine: drop `gallery` and `keep_out`")
    if config.search is not None:
        _refuse_beside(config, "search", _NOT_SEARCHED)
    _check_generator(config)
    _refuse_ignored(config)


def _refuse_beside(config: Pack, name: str, others: Sequence[str]) -> None:
    given = changed(config)
    if other := next((n for n in others if n in given), None):
        raise InputError(f"`{other}` does not go with `{name}`: drop one of them")


def _check_generator(config: Pack) -> None:
    given = changed(config)
    if config.through is None:
        if ignored := next((name for name in OF_GENERATOR if name in given), None):
            raise InputError(f"`{ignored}` is for `through`: give that too, or drop `{ignored}`")
        return
    for name in ("recognizer", "gallery"):
        if name not in given:
            raise InputError(f"`through` needs `{name}`: give it too")
    _refuse_beside(config, "through", ("frozen", "keep_out"))


def _has_files(config: Pack) -> bool:
    has_start = config.init is not None and config.init not in NAMED_STARTS
    return bool(config.gallery or config.frozen or config.keep_out or has_start)


def _refuse_ignored(config: Pack) -> None:
    """Refuse settings that would have no effect."""
    if config.gallery is None:
        for name, is_given in (
            ("alpha", config.alpha is not None),
            ("neighbors", config.neighbors > 1),
            ("manifold", config.manifold is not None),
        ):
            if is_given:
                raise InputError(f"`{name}` is for a gallery: give `gallery` too, or drop it")
    if config.manifold is None and config.subspace_dims is not None:
        raise InputError(
            "`subspace_dims` is for `manifold=subspace`: give that too, or drop `subspace_dims`"
        )
    if config.manifold is not None and config.neighbors > 1:
        raise InputError("`neighbors` does not go with `manifold=subspace`: drop one of them")
    of_methods = (
        ("batch_size", config.batch_size is not None, "stochastic"),
        ("relax", not config.relax, "stochastic"),
        ("coarse_steps", bool(config.coarse_steps), "annealed"),
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
        ("subspace_dims", config.subspace_dims is None or config.subspace_dims >= 1, "at least 1"),
        ("steps", config.steps is None or config.steps >= 0, "0 or more"),
        ("batch_size", size is None or size >= 2, "at least 2"),
        ("coarse_steps", (config.coarse_steps or 0) >= 0, "0 or more"),
        ("learning_rate", rate is None or 0 < rate < float("inf"), "above 0"),
        ("restarts", config.restarts >= 1, "at least 1"),
        ("search", config.search is None or 0 < config.search < float("inf"), "above 0"),
        ("devices", config.devices is None or config.devices >= 1, "at least 1"),
        ("checkpoint_seconds", config.checkpoint_seconds >= 0, "0 or more"),
        ("stall_seconds", config.stall_seconds > 0, "above 0"),
        ("seed", 0 <= config.seed < 2**32, "between 0 and 4294967295"),
        ("rounds", config.rounds >= 0, "0 or more"),
        ("probe_images", config.probe_images >= 2, "at least 2, to tell luck from a difference"),
        ("learning_steps", config.learning_steps >= 1, "at least 1"),
        ("candidates", 0 <= config.candidates < float("inf"), "0 or more"),
        ("threshold", -1 < (config.threshold or 0) < 1, "between -1 and 1"),
        ("keep_out_cosine", -1 < (config.keep_out_cosine or 0) < 1, "between -1 and 1"),
    ]
    require(config, checks)
