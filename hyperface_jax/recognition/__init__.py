"""Training of face recognition networks, from labeled images to weights under their published names.

This package holds the backbones, margin heads, losses and recipes, the readers of labeled images, and
:func:`.fit`, which trains a network in a few lines without writing files. It does not know how
identities are chosen or how images are generated or evaluated. It may import the layers up to
``packing``; :mod:`hyperface_jax.faces` and the layers above it, such as :mod:`hyperface_jax.runs`, may
import it.

Each name is loaded on first use, because Flax and grain take a second to import and are installed only
with the extra ``recognition``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperface_jax.lazy import load

if TYPE_CHECKING:
    from hyperface_jax.recognition.attributes import attribute_loss, read_attributes
    from hyperface_jax.recognition.augment import NO_AUGMENTATION, Augmentation
    from hyperface_jax.recognition.backbones import (
        BACKBONES,
        COLOR_ORDER,
        BackboneConfig,
        Embedded,
        IResNet,
        backbone_config,
        embed,
        make_backbone,
        num_parameters,
    )
    from hyperface_jax.recognition.data import Batch, Loader, make_loader
    from hyperface_jax.recognition.fitting import (
        Fitted,
        NotFiniteError,
        Training,
        fit,
        make_training,
    )
    from hyperface_jax.recognition.labeled import ArraySource, Sample, Source
    from hyperface_jax.recognition.losses import margin_loss
    from hyperface_jax.recognition.margins import AdaFace, ArcFace, CosFace, MarginHead
    from hyperface_jax.recognition.recipes import RECIPES, Recipe
    from hyperface_jax.recognition.sources import open_source
    from hyperface_jax.recognition.train import Metrics, Trainer, TrainState, from_tree, to_tree
    from hyperface_jax.recognition.weights import (
        ImportReport,
        export_weights,
        import_weights,
        load_model,
    )

_MODULES = {
    "attributes": ("attribute_loss", "read_attributes"),
    "augment": ("NO_AUGMENTATION", "Augmentation"),
    "backbones": (
        "BACKBONES",
        "COLOR_ORDER",
        "BackboneConfig",
        "Embedded",
        "IResNet",
        "backbone_config",
        "embed",
        "make_backbone",
        "num_parameters",
    ),
    "data": ("Batch", "Loader", "make_loader"),
    "fitting": ("Fitted", "NotFiniteError", "Training", "fit", "make_training"),
    "labeled": ("ArraySource", "Sample", "Source"),
    "losses": ("margin_loss",),
    "margins": ("AdaFace", "ArcFace", "CosFace", "MarginHead"),
    "recipes": ("RECIPES", "Recipe"),
    "sources": ("open_source",),
    "train": ("Metrics", "TrainState", "Trainer", "from_tree", "to_tree"),
    "weights": ("ImportReport", "export_weights", "import_weights", "load_model"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "BACKBONES",
    "COLOR_ORDER",
    "NO_AUGMENTATION",
    "RECIPES",
    "AdaFace",
    "ArcFace",
    "ArraySource",
    "Augmentation",
    "BackboneConfig",
    "Batch",
    "CosFace",
    "Embedded",
    "Fitted",
    "IResNet",
    "ImportReport",
    "Loader",
    "MarginHead",
    "Metrics",
    "NotFiniteError",
    "Recipe",
    "Sample",
    "Source",
    "TrainState",
    "Trainer",
    "Training",
    "attribute_loss",
    "backbone_config",
    "embed",
    "export_weights",
    "fit",
    "from_tree",
    "import_weights",
    "load_model",
    "make_backbone",
    "make_loader",
    "make_training",
    "margin_loss",
    "num_parameters",
    "open_source",
    "read_attributes",
    "to_tree",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(name, f"{__name__}.{_HOMES[name]}", "recognition")


def __dir__() -> list[str]:
    return __all__
