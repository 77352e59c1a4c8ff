"""The ``diversity`` stage: how varied a data set is within and between its identities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hyperface_jax.errors import InputError, require
from hyperface_jax.io.files import atomic_save_npz, atomic_write_json, one_line, read_json
from hyperface_jax.io.run_directory import SUMMARY
from hyperface_jax.runs.support.described_embeddings import (
    all_thresholds,
    check_folder,
    circumstances,
    describe,
    make_folder,
    make_sweep,
    open_sets,
)
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import option
from hyperface_jax.runs.support.watch import QUIET, Watch

if TYPE_CHECKING:
    import numpy as np

    from hyperface_jax.evaluation.certificates import Certificate
    from hyperface_jax.evaluation.variety import Diversity as Figures
    from hyperface_jax.io.embedding_sets import EmbeddingSet

VERB, IDENTITIES = "diversity", "identities.npz"


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """Describe a data set by the embeddings of its images: variation, separation, coverage.

    FILE is a .npy (possibly larger than memory), .npz, .safetensors or .parquet file, a run of pack, or
    a data set that was synthesized with a recognizer. FILE:KEY selects one of several arrays in a file.
    The identity of each row is read from an array stored with the embeddings (labels, identities or
    persons), or else from the folder in the image name that embed wrote.
    """

    embeddings: Path = option(metavar="FILE")
    """Embeddings of the images."""
    labels: Path | None = None
    """.npy, .npz or .txt file with the identity of each row. Default: what is stored with the
    embeddings."""
    gallery: Path | None = option(None, metavar="FILE")
    """Embeddings that stand for all faces. The report tells how many of them have an identity nearby."""
    out: Path
    """Folder for summary.json, identities.npz and report.html."""
    threshold: tuple[float, ...] = option((), group="report")
    """Additional cosine thresholds above which a gallery row counts as covered. 0.3, 0.4, 0.5, 0.6 and
    0.7 are always reported."""
    certify: float | None = option(None, group="report", metavar="COSINE")
    """Verification threshold, a cosine: report which pairs of identities it tells apart whatever images
    of theirs are compared."""
    seed: int = 0
    """Random seed for choosing the rows that form the impostor pairs."""
    devices: int | None = option(None, group="machine")
    """Number of devices to split the rows across. Default: all."""


def diversity(config: Diversity, *, watch: Watch = QUIET) -> Result:
    """Describe a data set by the embeddings of its images: variation, separation, coverage.

    The same call writes the same result again.

    Args:
        config: the settings.
        watch: receives messages and progress.

    Returns:
        The contents of ``summary.json``, the folder, and the main figures in words.

    Raises:
        InputError: a setting or a file cannot be used; nothing was done.
    """
    thresholds = check_settings(config)
    task = _open_task(config)
    make_folder(config.out)
    figures = _measured(config, task, watch)
    certificate = _certified(config, task, figures, watch)
    return _write_results(config, task, figures, thresholds, certificate)


class _Task(NamedTuple):
    """Everything that the measurement needs, already checked."""

    x: EmbeddingSet
    labels: np.ndarray
    gallery: EmbeddingSet | None


def check_settings(config: Diversity) -> list[float]:
    """Refuse settings that cannot work, before any file is read.

    Returns:
        The thresholds.

    Raises:
        InputError: a setting cannot work.
    """
    is_cosine = config.certify is None or -1 <= config.certify <= 1
    checks = [
        ("seed", config.seed >= 0, "at least 0"),
        ("certify", is_cosine, "a cosine, from -1 to 1"),
    ]
    require(config, checks)
    check_folder(config.out, VERB)
    return all_thresholds(config.threshold)


def _open_task(config: Diversity) -> _Task:
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
    return _Task(x, labels, sets.get("gallery"))


def _measured(config: Diversity, task: _Task, watch: Watch) -> Figures:
    from hyperface_jax.evaluation.variety import diversity as described

    sweep = make_sweep(config.devices)
    with watch.progress("reading", "rows", 2 * task.x.shape[0]) as update:
        return described(
            task.x,
            task.labels,
            gallery=task.gallery,
            seed=config.seed,
            sweep=sweep,
            progress=update,
        )


def _certified(
    config: Diversity, task: _Task, figures: Figures, watch: Watch
) -> Certificate | None:
    from hyperface_jax.evaluation.certificates import certify

    threshold = config.certify
    if threshold is None:
        return None
    with watch.progress("certifying", "rows", task.x.shape[0]) as update:
        classes = figures.classes
        return certify(task.x, task.labels, classes, threshold=threshold, progress=update)


def _write_results(
    config: Diversity,
    task: _Task,
    figures: Figures,
    thresholds: list[float],
    certificate: Certificate | None,
) -> Result:
    """Write the arrays, then the report, and the figures last."""
    from hyperface_jax.reports.diversity import write_diversity_report

    classes = figures.classes
    atomic_save_npz(
        config.out / IDENTITIES,
        labels=classes.labels,
        num_images=classes.sizes,
        resultant=classes.resultant,
        **({} if certificate is None else {"radius": certificate.radii}),
        nearest_cosine=classes.nearest_cosine,
        embeddings=classes.centers,
    )
    summary: dict[str, Any] = {
        **circumstances(VERB),
        "seed": config.seed,
        "embeddings": describe(task.x),
        "gallery": None if task.gallery is None else describe(task.gallery),
        "diversity": figures.summary(thresholds),
        "pairs": figures.pairs.summary(),
        "certificate": None if certificate is None else certificate.summary(),
    }
    page = write_diversity_report(config.out, summary)
    atomic_write_json(config.out / SUMMARY, summary)
    lines = [*_in_words(summary), f"report: {one_line(page)}"]
    return Result(config.out, read_json(config.out / SUMMARY), "\n".join(lines))


def _in_words(summary: dict[str, Any]) -> list[str]:
    found, pairs = summary["diversity"], summary["pairs"]
    covered = [] if found["gallery"] is None else found["gallery"]["above"]
    return [
        f"{found['num_images']} images of {found['num_identities']} identities; cosine within "
        f"{found['genuine_mean']:.4f}, between {found['impostor_mean']:.4f}",
        f"EER {100 * pairs['eer']:.3f} % of {pairs['num_genuine']} genuine and "
        f"{pairs['num_impostor']} impostor pairs; Fisher ratio {pairs['fisher_ratio']:.3f}, "
        f"d' {pairs['d_prime']:.3f}",
        f"Vendi score {found['vendi_identities']:.1f} of the identities, "
        f"{found['vendi_images']:.1f} of the images; mean resultant length "
        f"{found['resultant']['mean']:.4f}",
        *_certificate_in_words(summary["certificate"]),
        *(f"  gallery within {row['threshold']:g}: {100 * row['share']:.2f} %" for row in covered),
    ]


def _certificate_in_words(told: dict[str, Any] | None) -> list[str]:
    if told is None:
        return []
    radius, worst = told["radius_degrees"], told["worst"][0]
    one, other = (one_line(label) for label in worst["identities"])
    return [
        f"certified at cosine {told['threshold']:g}: {told['num_certified']} of "
        f"{told['num_pairs']} pairs of identities; radius {radius['median']:.1f}° in the median, "
        f"{radius['max']:.1f}° at most; the worst pair is {one} and {other}, "
        f"{worst['margin_degrees']:.1f}°"
    ]
