"""How F, the recogniser of toy faces, was made: ``python -m`` this module with ``--work DIR``.

It stands in for a pretrained recogniser of real faces, so it may learn from the traits of its training
persons too; nothing that is compared with others may.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from hyperface_jax.cli.main import main
from hyperface_jax.cli.versions import versions
from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_write_json, read_json
from hyperface_jax.recognition.recognizer import RUN_SETTINGS, RUN_WEIGHTS
from hyperface_jax.toyfaces.parameters import BENCHMARKS
from hyperface_jax.toyfaces.population import (
    benchmark_pairs,
    image_counts,
    sample_identities,
    split_key,
    write_attributes,
    write_folder,
    write_pairs,
)
from hyperface_jax.toyfaces.pretrained import METRICS, RECOGNIZER

_PACKAGES = ("hyperface_jax", "jax", "jaxlib", "flax", "optax")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Train the recogniser of toy faces, and measure it on persons it has not seen."""

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
    """Of the world."""
    test_seed: int = 7
    """Of the world that the benchmarks come from."""

    def train_command(self) -> list[str]:
        """Return the words of ``hyperface train``."""
        words = ["train", "--data", self.work / "faces", "--out", self.work / "run"]
        words += ["--attributes", self.work / "faces.csv", "--attribute-weight", 20]
        words += ["--backbone", "iresnet_nano", "--embedding-dim", 128, "--head", "cosface"]
        words += ["--margin", 0.2, "--batch-size", 128, "--learning-rate", 0.05]
        words += ["--warmup-epochs", 0.2, "--ema", 0.995, "--epochs", self.epochs, "--devices", 1]
        return [str(word) for word in words]


def write_data(settings: Settings) -> list[Path]:
    """Write the training images and the benchmarks, where they are not yet; return the benchmarks."""
    settings.work.mkdir(parents=True, exist_ok=True)
    key = split_key(settings.seed, "recognition")
    latents = sample_identities(key, settings.num_ids).latents
    if not (settings.work / "faces").exists():
        counts = image_counts(key, settings.num_ids, mean=settings.images_per_id)
        write_folder(settings.work / "faces", latents, counts, key=key)
    write_attributes(settings.work / "faces.csv", latents)
    return write_benchmarks(settings.work, settings.test_seed, settings.num_pairs)


def write_benchmarks(folder: Path, seed: int, num_pairs: int) -> list[Path]:
    """Write the five benchmarks below a folder, where they are not yet; return their lists."""
    lists = [folder / name / f"{name}.txt" for name in BENCHMARKS]
    for name, found in zip(BENCHMARKS, lists, strict=True):
        if not found.exists():
            write_pairs(folder / name, benchmark_pairs(split_key(seed, "test"), name, num_pairs))
    return lists


def train(settings: Settings) -> None:
    """Train, measure, and copy the model to its folder."""
    benchmarks = write_data(settings)
    _run(settings.train_command())
    publish(settings, benchmarks)


def publish(settings: Settings, benchmarks: list[Path]) -> None:
    """Measure the finished run, and copy its model to its folder with the figures."""
    result = settings.work / "evaluation"
    evaluate = ["evaluate", "--model", settings.work / "run", "--out", result, "--devices", 1]
    _run([str(word) for word in [*evaluate, "--benchmark", *benchmarks]])
    found = read_json(result / "evaluation.json")
    settings.out.mkdir(parents=True, exist_ok=True)
    for name in (RUN_WEIGHTS, RUN_SETTINGS):
        shutil.copyfile(settings.work / "run" / name, settings.out / name)
    metrics = {
        "command": "python -m hyperface_jax.cli.closed_loop.train_recognizer --work WORK",
        "settings": {
            name: value for name, value in asdict(settings).items() if name not in ("work", "out")
        },
        "train": " ".join(["hyperface", *settings.train_command()]).replace(
            str(settings.work), "WORK"
        ),
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


def _run(command: list[str]) -> None:
    code = main(command)
    if code:
        raise InputError(
            f"hyperface {command[0]}: ended with exit code {code}; run again to resume"
        )


if __name__ == "__main__":
    train(tyro.cli(Settings))
