"""How F, the recognizer of toy faces, was made.

    python -m benchmarks.toy_models.recognizer --work WORK

Run the same command again to go on from its last checkpoint.
It stands in for a pretrained recognizer of real faces, so it may learn from the traits of its training
persons too; nothing that is compared with others may.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from benchmarks.common import console
from hyperface_jax import runs
from hyperface_jax.io.files import atomic_write_json, read_json
from hyperface_jax.recognition.weights import RUN_SETTINGS, RUN_WEIGHTS
from hyperface_jax.runs.support.settings import command
from hyperface_jax.runs.support.versions import versions
from hyperface_jax.runs.support.watch import QUIET
from hyperface_jax.toyfaces.population import (
    benchmark_lists,
    image_counts,
    sample_identities,
    split_key,
    write_attributes,
    write_benchmarks,
    write_folder,
)
from hyperface_jax.toyfaces.pretrained import METRICS, RECOGNIZER

_PACKAGES = ("hyperface_jax", "jax", "jaxlib", "flax", "optax")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Train the recognizer of toy faces, and measure it on persons it has not seen."""

    work: Path
    """Folder for the images and the run; run the same command again to resume."""
    out: Path = RECOGNIZER
    """Folder for the model."""
    num_ids: int = 4000
    """Persons in the training set."""
    images_per_id: float = 16
    """Mean number of their images."""
    epochs: int = 7
    """Passes over them."""
    num_pairs: int = 3000
    """Pairs of each benchmark."""
    seed: int = 0
    """Seed of the world."""
    test_seed: int = 7
    """Seed of the world that the benchmarks come from."""

    def training(self) -> runs.Train:
        """Return the settings of the training."""
        return runs.Train(
            data=self.work / "faces",
            out=self.work / "run",
            attributes=self.work / "faces.csv",
            attribute_weight=20.0,
            backbone="iresnet_nano",
            embedding_dim=128,
            head="cosface",
            margin=0.2,
            batch_size=128,
            learning_rate=0.05,
            warmup_epochs=0.2,
            ema=0.995,
            epochs=self.epochs,
            devices=1,
        )


def write_data(settings: Settings) -> None:
    """Write the training images and the benchmarks, where they are not yet."""
    settings.work.mkdir(parents=True, exist_ok=True)
    key = split_key(settings.seed, "recognition")
    latents = sample_identities(key, settings.num_ids).latents
    if not (settings.work / "faces").exists():
        counts = image_counts(key, settings.num_ids, mean=settings.images_per_id)
        write_folder(settings.work / "faces", latents, counts, key=key)
    write_attributes(settings.work / "faces.csv", latents)
    write_benchmarks(settings.work, settings.test_seed, settings.num_pairs)


def train(settings: Settings, watch: runs.Watch = QUIET) -> None:
    """Train, measure, and copy the model to its folder."""
    write_data(settings)
    watch.say(runs.train(settings.training(), watch=watch).text)
    publish(settings, watch)


def publish(settings: Settings, watch: runs.Watch = QUIET) -> None:
    """Measure the finished run, and copy its model to its folder with the figures."""
    result = settings.work / "evaluation"
    evaluation = runs.Evaluate(
        model=settings.work / "run",
        out=result,
        benchmark=tuple(benchmark_lists(settings.work).values()),
        devices=1,
    )
    watch.say(runs.evaluate(evaluation, watch=watch).text)
    found = read_json(result / "evaluation.json")
    settings.out.mkdir(parents=True, exist_ok=True)
    for name in (RUN_WEIGHTS, RUN_SETTINGS):
        shutil.copyfile(settings.work / "run" / name, settings.out / name)
    metrics = {
        "command": "python -m benchmarks.toy_models.recognizer --work WORK",
        "settings": {
            name: value for name, value in asdict(settings).items() if name not in ("work", "out")
        },
        "train": command(settings.training()).replace(str(settings.work), "WORK"),
        "benchmarks": {
            name: {
                "accuracy": row["accuracy"],
                "tar_at_far_1e-3": row["tar_at_far"]["1e-03"],
                "num_pairs": row["num_pairs"],
            }
            for name, row in found["benchmarks"].items()
        },
        "versions": versions(*_PACKAGES),
    }
    atomic_write_json(settings.out / METRICS, metrics)


if __name__ == "__main__":
    train(tyro.cli(Settings), console())
