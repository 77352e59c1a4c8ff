"""``hyperface diversity``: how varied a data set is within and between its identities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hyperface_jax.cli.evaluation_parts import (
    all_thresholds,
    check_folder,
    circumstances,
    describe,
    make_folder,
    make_sweep,
    open_sets,
)
from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_save_npz, atomic_write_json, one_line
from hyperface_jax.io.run_directory import SUMMARY

if TYPE_CHECKING:
    import numpy as np

    from hyperface_jax.evaluation.variety import Diversity as Figures
    from hyperface_jax.io.embedding_sets import EmbeddingSet

VERB, IDENTITIES = "diversity", "identities.npz"


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """Describe a data set by the embeddings of its images: variation, separation, coverage.

    Embeddings are files as of hyperface leakage. The identity of each row is stored beside them
    (identities, labels or persons), or it is the folder of the image's name as embed writes it.
    """

    embeddings: Path
    """Embeddings of the images."""
    labels: Path | None = None
    """Identity of each row, .npy, .npz or .txt. Default: what is stored beside --embeddings."""
    gallery: Path | None = None
    """Embeddings that stand for all faces, to measure how many of them an identity lies near."""
    out: Path
    """Folder for summary.json, identities.npz and report.html."""
    threshold: tuple[float, ...] = ()
    """Cosines from which a gallery row counts as covered, besides 0.3, 0.4, ... 0.7."""
    seed: int = 0
    """Of the rows between which impostor pairs are scored."""
    devices: int | None = None
    """Devices to cut the rows over. Default: all."""

    def run(self) -> int:
        """Measure, write the results and print the main figures."""
        thresholds = check_settings(self)
        task = open_task(self)
        make_folder(self.out)
        write_results(self, task, measure(self, task), thresholds)
        return 0


class Task(NamedTuple):
    """What is measured, all of it checked."""

    x: EmbeddingSet
    labels: np.ndarray
    gallery: EmbeddingSet | None


def check_settings(config: Diversity) -> list[float]:
    """Refuse settings that cannot work, before any file is read; return the thresholds."""
    if config.seed < 0:
        raise InputError(f"--seed {config.seed}: must be at least 0")
    check_folder(config.out, VERB)
    return all_thresholds(config.threshold)


def open_task(config: Diversity) -> Task:
    """Open all files, so that a bad one is found before any work is done."""
    from hyperface_jax.evaluation.variety import check_labels
    from hyperface_jax.io.embedding_sets import read_labels

    sets = open_sets(embeddings=config.embeddings, gallery=config.gallery)
    x = sets["embeddings"]
    labels = read_labels(x, config.labels)
    try:
        check_labels(labels)
    except InputError as error:
        raise InputError(f"{one_line(config.labels or config.embeddings)}: {error}") from error
    return Task(x, labels, sets.get("gallery"))


def measure(config: Diversity, task: Task) -> Figures:
    """Compute the figures and show the progress."""
    from hyperface_jax.cli.progress import CountProgress
    from hyperface_jax.evaluation.variety import diversity

    sweep = make_sweep(config.devices)
    with CountProgress("reading", "rows", 2 * task.x.shape[0]) as progress:
        return diversity(
            task.x,
            task.labels,
            gallery=task.gallery,
            seed=config.seed,
            sweep=sweep,
            report=progress.update,
        )


def write_results(config: Diversity, task: Task, figures: Figures, thresholds: list[float]) -> None:
    """Write the arrays, the report and, last, the figures; print the main ones."""
    from hyperface_jax.reports.diversity import write_diversity_report
    from hyperface_jax.reports.verification import verification_dict

    classes = figures.classes
    atomic_save_npz(
        config.out / IDENTITIES,
        labels=classes.labels,
        num_images=classes.sizes,
        resultant=classes.resultant,
        nearest_cosine=classes.nearest_cosine,
        embeddings=classes.centers,
    )
    summary: dict[str, Any] = {
        **circumstances(VERB),
        "seed": config.seed,
        "embeddings": describe(task.x),
        "gallery": None if task.gallery is None else describe(task.gallery),
        "diversity": figures.summary(thresholds),
        "pairs": verification_dict(figures.pairs),
    }
    page = write_diversity_report(config.out, summary)
    atomic_write_json(config.out / SUMMARY, summary)
    _announce(summary)
    print(f"report: {one_line(page)}")


def _announce(summary: dict[str, Any]) -> None:
    found, pairs = summary["diversity"], summary["pairs"]
    print(
        f"{found['num_images']} images of {found['num_identities']} identities; cosine within "
        f"{found['genuine_mean']:.4f}, between {found['impostor_mean']:.4f}"
    )
    print(
        f"EER {100 * pairs['eer']:.3f} % of {pairs['num_genuine']} genuine and "
        f"{pairs['num_impostor']} impostor pairs; Fisher ratio {pairs['fisher_ratio']:.3f}, "
        f"d' {pairs['d_prime']:.3f}"
    )
    print(
        f"Vendi score {found['vendi_identities']:.1f} of the identities, "
        f"{found['vendi_images']:.1f} of the images; mean resultant length "
        f"{found['resultant']['mean']:.4f}"
    )
    if found["gallery"] is not None:
        for row in found["gallery"]["above"]:
            print(f"  gallery within {row['threshold']:g}: {100 * row['share']:.2f} %")
