"""Settings of a training, and what they exclude."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hyperface_jax.errors import InputError
from hyperface_jax.io.verification_files import refuse_equal_names
from hyperface_jax.runs.support.settings import option, require

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
    "class_norm",
)
"""Settings with which an unfinished run may go on as others than it began; files count by content."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a face recognizer on images of identities.

    DATA is a folder with one folder an identity, WebDataset .tar shards, ArrayRecord files or an
    insightface .rec. What is not given is taken from the recipe. Run the same command again to resume.
    """

    data: Path = option(group="data")
    """Training images."""
    out: Path
    """Run directory: model.safetensors, model.json, summary.json, history.jsonl, TensorBoard events."""
    backbone: str = option("iresnet50", group="network")
    """iresnet18, iresnet34, iresnet50, iresnet100, or iresnet_tiny or iresnet_nano for 32 to 64
    pixels."""
    embedding_dim: int | None = option(None, group="network")
    """Dimension of the embedding. Default: 512."""
    variant: Literal["adaface", "insightface"] = option("adaface", group="network")
    """Whose network to train; its weights fit that PyTorch code. adaface takes BGR, insightface RGB."""
    image_size: int | None = option(None, group="network")
    """Height and width of the images; others are cut square and scaled. Default: what the backbone
    takes."""
    bf16: bool = option(False, group="network")
    """Compute convolutions in bfloat16."""
    recipe: Literal["hyperface", "casia", "insightface"] = option("hyperface", group="recipe")
    """Settings to start from."""
    head: Literal["adaface", "arcface", "cosface"] | None = option(None, group="recipe")
    """Margin head."""
    margin: float | None = option(None, group="recipe")
    """Margin of the head."""
    batch_size: int | None = option(None, group="recipe")
    """Images a step, over all devices."""
    epochs: int | None = option(None, group="recipe")
    """Passes over the data; the milestones of the recipe move along."""
    learning_rate: float | None = option(None, group="recipe")
    """Highest learning rate."""
    warmup_epochs: float | None = option(None, group="recipe")
    """Epochs over which the learning rate rises from 0; helps against a loss that is not finite."""
    weight_decay: float | None = option(None, group="recipe")
    """Weight decay of SGD."""
    max_gradient_norm: float | None = option(None, group="recipe")
    """Norm that the gradient of the backbone is clipped to."""
    ema: float | None = option(None, group="recipe")
    """Decay of a running mean of the weights, which is then the result."""
    sample_rate: float | None = option(None, group="recipe")
    """Share of the classes that take part in a step (Partial FC)."""
    augment: bool = option(True, group="recipe")
    """Augment images as the recipe says."""
    attributes: Path | None = option(None, group="data", metavar="FILE")
    """FILE of known attributes of the identities (.csv: identity,NAME,...), which the embedding learns
    to tell too."""
    attribute_weight: float | None = option(None, group="recipe")
    """Weight of the error of the attributes in the loss."""
    validate: tuple[Path, ...] = option((), group="validation", metavar="[FILE ...]")
    """Verification sets of identities held out (.bin, or lists of pairs), measured after each epoch."""
    images: Path | None = option(None, group="validation", metavar="DIR")
    """Folder to which lists of pairs are relative. Default: the folder of each list."""
    choose_by_validation: bool = option(False, group="validation")
    """Keep the weights of the best epoch by validation, not the last. Never use test sets for it."""
    seed: int = 0
    """Seed of everything random."""
    workers: int = option(0, group="machine")
    """Processes that read images; 0 reads in threads."""
    devices: int | None = option(None, group="machine")
    """Devices to spread batch and classes over. Default: all of the job."""
    distributed: Literal["auto", "yes"] = option("auto", group="machine")
    """auto: join the other processes if the environment tells of any. yes: on a Cloud TPU pod slice.
    See pack."""
    checkpoint_seconds: float = option(300.0, group="machine")
    """Seconds between checkpoints."""
    stall_seconds: float = option(1800.0, group="machine")
    """Seconds without progress after which a job of several processes ends, as one of them is stuck."""
    log_every: int = option(20, group="machine")
    """Steps between two lines of the history."""


def check_settings(config: Train) -> None:
    """Refuse settings that cannot work or change nothing, before any file is read."""
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
