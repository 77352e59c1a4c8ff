"""What a closed loop found, gathered from the files of its stages."""

from __future__ import annotations

from typing import Any

from hyperface_jax.cli.closed_loop import stages
from hyperface_jax.cli.closed_loop.stages import Loop
from hyperface_jax.io.files import read_json, read_jsonl


def gather(loop: Loop) -> dict[str, Any]:
    """Return the figures of every arm, in terms of JSON."""
    return {
        "seed": loop.seed,
        "threshold": loop.threshold,
        "packing": {way: _packing(loop, way) for way in stages.DRAWN},
        "synthesis": {way: _synthesis(loop, way) for way in stages.DRAWN},
        "recognition": {way: recognition(loop, way) for way in stages.TRAINED},
        "leakage": read_json(loop.path / stages.LEAKAGE / "leakage.json"),
    }


def _packing(loop: Loop, way: str) -> dict[str, Any]:
    found = read_json(loop.path / stages.PACKING / way / "summary.json")
    names = ("max_cosine", "mean_nearest_cosine", "gallery_mean_cosine", "steps", "seconds")
    return {name: found[name] for name in (*names, "keep_out_violations")}


def _synthesis(loop: Loop, way: str) -> dict[str, Any]:
    found = read_json(loop.path / stages.SYNTHESIS / way / "summary.json")
    return {"num_images": found["num_images"], **found["fidelity"]}


def recognition(loop: Loop, way: str) -> dict[str, Any]:
    """Return how good the recognizer of an arm is."""
    folder = loop.path / stages.EVALUATION / way
    sets = read_json(folder / "evaluation.json")
    together = read_json(folder / "all_pairs.json")
    return {
        "accuracy": {name: row["accuracy"] for name, row in sets["benchmarks"].items()},
        "mean_accuracy": sets["mean"]["accuracy"],
        "tar_at_far_1e-3": together["tar_at_far"]["1e-03"],
        "rank_1": together["rank_1"],
        "loss": read_json(loop.path / stages.RECOGNITION / way / "summary.json")["loss"],
    }


def training_curve(loop: Loop, way: str) -> tuple[list[float], list[float]]:
    """Return epochs and losses of the training of an arm."""
    rows = read_jsonl(loop.path / stages.RECOGNITION / way / "history.jsonl")
    kept = [row for row in rows if "loss" in row]
    return [row["epoch"] for row in kept], [row["loss"] for row in kept]
