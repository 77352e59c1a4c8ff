"""Class weights that start at length 1, as AdaFace has them, against insightface's N(0, 0.01^2).

    python -m benchmarks.class_norms

The same real persons of the toy world train the same small network by the AdaFace recipe, three seeds
each; after every epoch unseen persons are told apart, all against all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.common import write_result
from hyperface_jax.evaluation import all_pairs
from hyperface_jax.faces.flax_recognizer import FlaxRecognizer
from hyperface_jax.recognition import RECIPES, ArraySource, Fitted, fit, make_training
from hyperface_jax.recognition.backbones import backbone_config
from hyperface_jax.toyfaces.faces import draw_persons, embed_persons

NUM_PERSONS, IMAGES_PER_PERSON, EPOCHS, SEEDS = 200, 12, 6, (0, 1, 2)
NUM_UNSEEN, IMAGES_OF_UNSEEN = 300, 4
RECIPE = replace(RECIPES["hyperface"], batch_size=64, learning_rate=0.05, num_epochs=EPOCHS)


def main() -> None:
    """Train with both starts and write the JSON."""
    images = draw_persons(0, "recognition", NUM_PERSONS, IMAGES_PER_PERSON, preset="portrait")
    labels = np.repeat(np.arange(NUM_PERSONS), IMAGES_PER_PERSON)
    source = ArraySource(images.reshape(-1, *images.shape[2:]), labels)
    unseen = draw_persons(1, "test", NUM_UNSEEN, IMAGES_OF_UNSEEN, preset="mixed")
    rows = [train(source, unseen, norm, seed) for norm in (1.0, None) for seed in SEEDS]
    write_result("class_norms", {"persons": NUM_PERSONS, "images": len(labels), "rows": rows})


def train(
    source: ArraySource, unseen: np.ndarray, class_norm: float | None, seed: int
) -> dict[str, Any]:
    """Train once; return the loss and the EER of unseen persons after each epoch."""
    recipe = replace(RECIPE, class_norm=class_norm)
    backbone = replace(backbone_config("iresnet_nano"), embedding_dim=128)
    training = make_training(source, backbone, recipe, seed=seed)
    losses: list[float] = []
    rates: list[float] = []

    def look(fitted: Fitted) -> None:
        losses.append(fitted.loss)
        rates.append(_eer(fitted, unseen))

    fit(training, on_epoch=look)
    row = {
        "class_norm": class_norm,
        "seed": seed,
        "losses": losses,
        "eer": rates,
    }
    print(row, flush=True)
    return row


def _eer(fitted: Fitted, unseen: np.ndarray) -> float:
    faces = embed_persons(FlaxRecognizer(fitted.model()), unseen)
    persons = np.repeat(np.arange(len(unseen)), unseen.shape[1])
    return all_pairs(faces.embeddings.reshape(len(persons), -1), persons).separation.eer


if __name__ == "__main__":
    main()
