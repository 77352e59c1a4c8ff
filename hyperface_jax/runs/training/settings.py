"""Settings of a training run, and checks of which settings go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hyperface_jax.errors import InputError, require
from hyperface_jax.io.verification_files import refuse_equal_names
from hyperface_jax.runs.support.settings import option

FREE_TO_CHANGE = (
    "out",
    "checkpoint_seconds",
    "stall_seconds",
    "devices",
    "distributed",
    "workers",
    "log_every",
    "data",
    "attributes",
)
"""Settings that may change when an unfinished run is resumed; files must have the same content."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a face recognizer on images of identities.

    The training data are a folder with one subfolder per identity, WebDataset .tar shards, ArrayRecord
    files, an insightface .rec file, or an .lmdb as HSFace and VFace are shipped. Settings that are not
    given come from the recipe. Run the same command again to resume.
    """

    data: Path = option(group="data")
    """Training images, in one of the formats above."""
    out: Path
    """Run directory, for model.safetensors, model.json, summary.json, history.jsonl and TensorBoard
    events."""
    backbone: str = option("iresnet50", group="network")
    """Backbone network: iresnet18, iresnet34, iresnet50 or iresnet100; iresnet_tiny or iresnet_nano for
    images of 32 to 64 pixels."""
    embedding_dim: int | None = option(None, group="network")
    """Dimension of the embedding. Default: 512."""
    variant: Literal["adaface", "insightface"] = option("adaface", group="network")
    """Variant of the network. Its weights fit the PyTorch code of the project with that name. adaface
    takes BGR images, insightface takes RGB images."""
    image_size: int | None = option(None, group="network")
    """Height and width of the images, in pixels. Images of other sizes are cut square and scaled.
    Default: the size that the backbone takes."""
    bf16: bool = option(False, group="network")
    """Compute convolutions in bfloat16."""
    recipe: Literal["hyperface", "casia", "insightface"] = option("hyperface", group="recipe")
    """Recipe that sets the defaults of the other recipe options."""
    head: Literal["adaface", "arcface", "cosface"] | None = option(None, group="recipe")
    """Margin head to train with."""
    margin: float | None = option(None, group="recipe")
    """Margin of the head."""
    batch_size: int | None = option(None, group="recipe")
    """Number of images per step, across all devices."""
    epochs: int | None = option(None, group="recipe")
    """Number of passes over the data. The milestones of the recipe are scaled accordingly."""
    learning_rate: float | None = option(None, group="recipe")
    """Peak learning rate."""
    warmup_epochs: float | None = option(None, group="recipe")
    """Number of epochs during which the learning rate rises from 0. A warmup helps if the loss becomes
    infinite or NaN."""
    weight_decay: float | None = option(None, group="recipe")
    """Weight decay of SGD."""
    max_gradient_norm: float | None = option(None, group="recipe")
    """Norm to which the gradient of the backbone is clipped."""
    ema: float | None = option(None, group="recipe")
    """Decay of an exponential moving average of the weights. If given, the result is this average."""
    sample_rate: float | None = option(None, group="recipe")
    """Share of the classes that take part in each step (Partial FC)."""
    class_norm: float | None = option(None, group="recipe")
    """Length of each class weight at the start, in a random direction. 0 draws the weights from
    N(0, 0.01^2) instead, as insightface does."""
    augment: bool = option(True, group="recipe")
    """Augment images as the recipe specifies."""
    attributes: Path | None = option(None, group="data", metavar="FILE")
    """.csv FILE with known attributes of the identities, in the columns identity,NAME,... The embedding
    also learns to predict them."""
    attribute_weight: float | None = option(None, group="recipe")
    """Weight of the error of the predicted attributes in the loss."""
    validate: tuple[Path, ...] = option((), group="validation", metavar="[FILE ...]")
    """Verification sets of held-out identities (.bin files or lists of pairs), to measure after each
    epoch."""
    images: Path | None = option(None, group="validation", metavar="DIR")
    """Folder that the paths in lists of pairs are relative to. Default: the folder of each list."""
    choose_by_validation: bool = option(False, group="validation")
    """Keep the weights of the epoch that validates best instead of the last ones. Never do this with
    test sets."""
    seed: int = 0
    """Random seed."""
    workers: int = option(0, group="machine")
    """Number of processes that read images. 0 reads them in threads instead."""
    devices: int | None = option(None, group="machine")
    """Number of devices to split batches and classes across. Default: all devices of the job."""
    distributed: Literal["auto", "yes"] = option("auto", group="machine")
    """Whether to join a job of several processes. auto: join if the environment describes one. yes:
    always join; use it on a Cloud TPU pod slice. The help of pack says more."""
    checkpoint_seconds: float = option(300.0, group="machine")
    """Seconds between checkpoints."""
    stall_seconds: float = option(1800.0, group="machine")
    """Seconds without progress after which a job of several processes stops because one of them must be
    stuck."""
    log_every: int = option(20, group="machine")
    """Number of steps between two lines of the history."""


def check_settings(config: Train) -> None:
    """Refuse settings that cannot work or have no effect, before any file is read."""
    checks = [
        ("embedding_dim", _is_at_least(1, config.embedding_dim), "at least 1"),
        ("image_size", _is_at_least(1, config.image_size), "at least 1"),
        ("epochs", _is_at_least(1, config.epochs), "at least 1"),
        ("seed", 0 <= config.seed < 2**32, "between 0 and 4294967295"),
        ("workers", config.workers >= 0, "0 or more"),
        ("devices", _is_at_least(1, config.devices), "at least 1"),
        ("checkpoint_seconds", config.checkpoint_seconds >= 0, "0 or more"),
        ("stall_seconds", config.stall_seconds > 0, "above 0"),
        ("log_every", config.log_every >= 1, "at least 1"),
    ]
    require(config, checks)
    refuse_equal_names("`validate`", config.validate)
    if config.choose_by_validation and not config.validate:
        raise InputError("`choose_by_validation` needs `validate`: give FILE, or drop it")
    if config.attribute_weight is not None and config.attributes is None:
        raise InputError("`attribute_weight` needs `attributes`: give FILE, or drop it")
    if config.images is not None and not config.validate:
        raise InputError("`images` is for lists of pairs: give `validate` too, or drop it")


def _is_at_least(least: int, value: int | None) -> bool:
    return value is None or value >= least
