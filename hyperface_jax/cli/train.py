"""``hyperface train``: settings and their checks. The run itself is in :mod:`.train_run`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hyperface_jax import processes
from hyperface_jax.errors import InputError

if TYPE_CHECKING:
    from hyperface_jax.recognition.recipes import Recipe

_OF_RECIPE = (
    "head",
    "margin",
    "batch_size",
    "learning_rate",
    "warmup_epochs",
    "weight_decay",
    "max_gradient_norm",
    "ema",
    "sample_rate",
    "attribute_weight",
)


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a face recognizer on images of identities.

    DATA is a folder with one folder an identity, WebDataset .tar shards, ArrayRecord files or an
    insightface .rec. What is not given is the recipe's. Run the same command again to resume.
    """

    data: Path
    """Training images."""
    out: Path
    """Run directory: model.safetensors, model.json, summary.json, history.jsonl, TensorBoard events."""
    backbone: str = "iresnet50"
    """iresnet18, iresnet34, iresnet50, iresnet100, or iresnet_tiny or iresnet_nano for 32 to 64
    pixels."""
    embedding_dim: int | None = None
    """Dimension of the embedding; 512 if not given."""
    variant: Literal["adaface", "insightface"] = "adaface"
    """Whose network; its weights serve that PyTorch code. adaface takes BGR, insightface RGB."""
    image_size: int | None = None
    """Side of the images; the backbone's if not given. Others are cut square and scaled."""
    recipe: Literal["hyperface", "casia", "insightface"] = "hyperface"
    """Settings to start from."""
    head: Literal["adaface", "arcface", "cosface"] | None = None
    """Margin head."""
    margin: float | None = None
    """Margin of the head."""
    batch_size: int | None = None
    """Images a step, over all devices."""
    epochs: int | None = None
    """Passes over the data; the recipe's milestones move along."""
    learning_rate: float | None = None
    """The highest."""
    warmup_epochs: float | None = None
    """Over which the learning rate rises from 0; helps against a loss that is not finite."""
    weight_decay: float | None = None
    """Of SGD."""
    max_gradient_norm: float | None = None
    """To which the backbone's gradient is clipped."""
    ema: float | None = None
    """Decay of a running mean of the weights, which is then the result."""
    sample_rate: float | None = None
    """Share of the classes that take part in a step (Partial FC)."""
    attributes: Path | None = None
    """Known attributes of the identities (.csv: identity,NAME,...) that the embedding shall tell too."""
    attribute_weight: float | None = None
    """Of their error in the loss."""
    augment: bool = True
    """Whether images are augmented as the recipe says."""
    bf16: bool = False
    """Compute convolutions in bfloat16."""
    validate: tuple[Path, ...] = ()
    """Verification sets of identities held out (.bin, or lists of pairs), measured after each epoch."""
    images: Path | None = None
    """Folder to which lists of pairs are relative."""
    choose_by_validation: bool = False
    """Keep the weights of the best epoch by validation, not the last. Never use test sets for it."""
    seed: int = 0
    """Seed of everything random."""
    workers: int = 0
    """Processes that read images; 0 reads in threads."""
    devices: int | None = None
    """Devices to use. Default: all of the job."""
    distributed: Literal["auto", "yes"] = "auto"
    """As for pack."""
    checkpoint_seconds: float = 300.0
    """Seconds between checkpoints."""
    log_every: int = 20
    """Steps between two lines of the history."""

    def run(self) -> int:
        """Check the settings, then train."""
        self.check()
        try:
            processes.initialize(force=self.distributed == "yes")
        except (ValueError, RuntimeError) as error:
            raise InputError(f"cannot join the job: {error}") from error
        try:
            from hyperface_jax.cli.train_run import train
        except ImportError as error:
            needed = "pip install 'hyperface_jax[recognition]'"
            raise InputError(f"training needs {error.name}: {needed}") from error
        return train(self)

    def check(self) -> None:
        """Refuse settings that cannot work."""
        from hyperface_jax.io.verification_files import refuse_equal_names

        refuse_equal_names("--validate", self.validate)
        if self.choose_by_validation and not self.validate:
            raise InputError("--choose-by-validation needs --validate FILE")
        if self.embedding_dim is not None and self.embedding_dim < 1:
            raise InputError(f"--embedding-dim {self.embedding_dim}: must be at least 1")
        if self.attribute_weight is not None and self.attributes is None:
            raise InputError("--attribute-weight needs --attributes FILE")
        if self.log_every < 1:
            raise InputError(f"--log-every {self.log_every}: must be at least 1")
        if self.checkpoint_seconds < 0:
            raise InputError(f"--checkpoint-seconds {self.checkpoint_seconds}: must be 0 or more")

    def make_recipe(self) -> Recipe:
        """Return the recipe with what the command line changes."""
        from hyperface_jax.recognition.augment import NO_AUGMENTATION
        from hyperface_jax.recognition.recipes import RECIPES

        recipe = RECIPES[self.recipe]
        given = {name: getattr(self, name) for name in _OF_RECIPE}
        changes = {name: value for name, value in given.items() if value is not None}
        if self.epochs is not None:
            if self.epochs < 1:
                raise InputError(f"--epochs {self.epochs}: must be at least 1")
            moved = (round(m * self.epochs / recipe.num_epochs) for m in recipe.milestones)
            changes |= {"num_epochs": self.epochs, "milestones": tuple(moved)}
        if not self.augment:
            changes["augmentation"] = NO_AUGMENTATION
        return replace(recipe, **changes)
