"""The results of a closed loop, gathered from the files of its stages."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperface_jax.io.files import read_json, read_jsonl
from hyperface_jax.runs.demonstration.arms import DRAWN, TRAINED
from hyperface_jax.runs.demonstration.closed_loop import (
    EVALUATION,
    LEAKAGE,
    PACKING,
    RECOGNITION,
    SYNTHESIS,
    ClosedLoop,
)


def gather(loop: ClosedLoop) -> dict[str, Any]:
    """Return the figures of every arm as plain values."""
    return {
        "seed": loop.seed,
        "threshold": loop.threshold,
        "packing": {way: _packing(loop, way) for way in DRAWN},
        "synthesis": {way: _synthesis(loop, way) for way in DRAWN},
        "recognition": {way: recognition(loop, way) for way in TRAINED},
        "leakage": read_json(loop.path / LEAKAGE / "leakage.json"),
    }


def _packing(loop: ClosedLoop, way: str) -> dict[str, Any]:
    found = read_json(loop.path / PACKING / way / "summary.json")
    names = ("max_cosine", "mean_nearest_cosine", "gallery_mean_cosine", "steps", "seconds")
    return {name: found[name] for name in (*names, "keep_out_violations")}


def _synthesis(loop: ClosedLoop, way: str) -> dict[str, Any]:
    found = read_json(loop.path / SYNTHESIS / way / "summary.json")
    return {"num_images": found["num_images"], **found["fidelity"]}


def recognition(loop: ClosedLoop, way: str) -> dict[str, Any]:
    """Return the figures of the recognizer of an arm.

    ``accuracy_error`` is the standard error of each accuracy over the folds of its pairs. It leaves out
    that another seed trains another recognizer.
    """
    folder = loop.path / EVALUATION / way
    sets = read_json(folder / "evaluation.json")
    together = read_json(folder / "all_pairs.json")
    return {
        "accuracy": {name: row["accuracy"] for name, row in sets["benchmarks"].items()},
        "accuracy_error": {
            name: _standard_error(row["fold_accuracies"])
            for name, row in sets["benchmarks"].items()
        },
        "mean_accuracy": sets["mean"]["accuracy"],
        "eer": together["eer"],
        "tar_at_far_1e-3": together["tar_at_far"]["1e-03"],
        "rank_1": together["rank_1"],
        "loss": read_json(loop.path / RECOGNITION / way / "summary.json")["loss"],
    }


def _standard_error(values: list[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def training_curve(loop: ClosedLoop, way: str) -> tuple[list[float], list[float]]:
    """Return the epochs and losses of the training run of an arm."""
    rows = read_jsonl(loop.path / RECOGNITION / way / "history.jsonl")
    kept = [row for row in rows if "loss" in row]
    return [row["epoch"] for row in kept], [row["loss"] for row in kept]
