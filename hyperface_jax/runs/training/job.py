"""A training job on its devices: the state that the loop and the results share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from hyperface_jax.errors import InputError
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.recognition.attributes import read_attributes
from hyperface_jax.recognition.augment import NO_AUGMENTATION
from hyperface_jax.recognition.backbones import backbone_config
from hyperface_jax.recognition.fitting import Training, make_training
from hyperface_jax.recognition.labeled import summary
from hyperface_jax.recognition.recipes import RECIPES, Recipe
from hyperface_jax.runs.support.jobs import job_mesh
from hyperface_jax.runs.support.settings import plain
from hyperface_jax.runs.training.settings import Train
from hyperface_jax.runs.training.validation import Validation, read_validation

if TYPE_CHECKING:
    from hyperface_jax.io.run_directory import RunDirectory
    from hyperface_jax.recognition.labeled import Source
    from hyperface_jax.recognition.train import Trainer


@dataclass(frozen=True)
class Job:
    """A training, its validation sets, and the run directory that keeps it."""

    config: Train
    training: Training
    validation: list[Validation]
    run: RunDirectory

    @property
    def trainer(self) -> Trainer:
        """Everything that a training step needs besides its data."""
        return self.training.trainer

    @property
    def source(self) -> Source:
        """The training images."""
        return self.training.loader.source

    def resolved_config(self) -> dict[str, Any]:
        """Return the settings as plain values, with defaults resolved and files by content hash."""
        config, trainer = self.config, self.trainer
        chosen = asdict(trainer.recipe)
        return {
            "command": "train",
            **{name: value for name, value in plain(config).items() if name not in chosen},
            **chosen,
            "image_size": trainer.backbone.image_size,
            "embedding_dim": trainer.backbone.embedding_dim,
            "milestones": list(trainer.recipe.milestones),
            "data_fingerprint": self.source.fingerprint,
            "attributes_sha256": config.attributes and file_sha256(config.attributes),
            **summary(self.source),
        }


@dataclass
class Account:
    """Figures of a run that a checkpoint keeps along with its state.

    Attributes:
        seconds: time that the steps took so far.
        accuracy: accuracy on each set at the last validation.
        best_accuracy: highest mean accuracy over the sets so far.
        best_epoch: epoch after which it was measured.
    """

    seconds: float = 0.0
    accuracy: dict[str, float] | None = None
    best_accuracy: float = -1.0
    best_epoch: int | None = None


def make_recipe(config: Train) -> Recipe:
    """Return the recipe with the changes that the settings make."""
    if config.recipe not in RECIPES:
        raise InputError(f"`recipe={config.recipe}`: choose one of {', '.join(RECIPES)}")
    recipe = RECIPES[config.recipe]
    given = {item.name: getattr(config, item.name, None) for item in fields(Recipe)}
    changes = {name: value for name, value in given.items() if value is not None}
    if config.epochs is not None:
        moved = (round(m * config.epochs / recipe.num_epochs) for m in recipe.milestones)
        changes |= {"num_epochs": config.epochs, "milestones": tuple(moved)}
    if config.class_norm == 0:
        changes["class_norm"] = None
    if not config.augment:
        changes["augmentation"] = NO_AUGMENTATION
    return replace(recipe, **changes)


def make_job(config: Train, recipe: Recipe, source: Source, run: RunDirectory) -> Job:
    """Combine data, network, recipe and devices into a job, and read its validation sets."""
    shape = backbone_config(
        config.backbone,
        variant=config.variant,
        image_size=config.image_size,
        embedding_dim=config.embedding_dim,
    )
    attributes = None
    if config.attributes is not None:
        attributes = read_attributes(config.attributes, source.classes)
    training = make_training(
        source,
        shape,
        recipe,
        seed=config.seed,
        attributes=attributes,
        mesh=job_mesh(config.devices),
        dtype=jnp.bfloat16 if config.bf16 else jnp.float32,
        num_workers=config.workers,
    )
    return Job(config, training, read_validation(config, shape.image_size), run)
