"""The questions of the paper, in the world of toy faces: do packed identities train better?

    python -m benchmarks.closed_loop [--parts packing alpha ...] [--seeds 3] [--work DIR]

Every arm is packed, drawn, trained (on as many images in all) and tested by the stages of
``hyperface demo``, at one size but for what the part varies. Seeds change the gallery, the packing,
the noise, the training and the test persons. Arms that are done are not run again. Each figure is a
mean over the seeds with its standard error; the gain over no packing is a mean of differences, each
between two arms of one seed.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, about, console, read_result, write_result
from hyperface_jax.io.files import atomic_write_json, read_json
from hyperface_jax.runs.demonstration.arms import Arm, keep_out, paper_arm
from hyperface_jax.runs.demonstration.closed_loop import PACKING, SYNTHESIS, ClosedLoop
from hyperface_jax.runs.demonstration.results import recognition
from hyperface_jax.runs.demonstration.sizes import Size
from hyperface_jax.toyfaces.pretrained import GENERATOR, METRICS, RECOGNIZER

SIZE = Size(
    gallery=2048,
    num_ids=200,
    images_per_id=12,
    epochs=12,
    alpha=2.0,
    neighbors=1,
    pairs=800,
    test_ids=300,
    reference_ids=2000,
)
UNPACKED = {"steps": 0}
FARTHEST = {"init": "farthest"}
CAP = {"min_cosine": 0.85}


def parts() -> dict[str, list[tuple[Arm, int | None]]]:
    """Return the arms of each question, and the size of the gallery where it is another."""
    return {
        "packing": [
            (Arm(name="packed"), None),
            (paper_arm(SIZE), None),
            (Arm(name="unpacked", packing=UNPACKED), None),
            (Arm(name="real"), None),
        ],
        "alpha": [(Arm(name=f"alpha-{a}", alpha=a), None) for a in (0.0, 0.5, 1.0, 4.0)],
        "identities": [
            (Arm(name=f"{way}-{n}-ids", num_ids=n, packing=settings), None)
            for n in (50, 400)
            for way, settings in (("packed", {}), ("unpacked", UNPACKED))
        ],
        "manifold": [
            (Arm(name="span-4", alpha=8.0, neighbors=4), None),
            (Arm(name="span-16", neighbors=16), None),
            (Arm(name="farthest-unpacked", packing=FARTHEST | UNPACKED), None),
            (Arm(name="farthest-8", alpha=8.0, packing=FARTHEST), None),
            (Arm(name="farthest-2", packing=FARTHEST), None),
        ],
        "images": [(Arm(name=f"images-{k}", images_per_id=k), None) for k in (3, 24)],
        "variation": [
            (Arm(name="beta-0.1", synthesis={"beta": 0.1}), None),
            (Arm(name="cap-0.85", synthesis=CAP), None),
            (Arm(name="unpacked-cap-0.85", packing=UNPACKED, synthesis=CAP), None),
        ],
        "gallery": [
            *((Arm(name="packed"), m) for m in (256, None, 8192)),
            (Arm(name="unpacked", packing=UNPACKED), None),
        ],
        "keep-out": [(Arm(name="keep-out"), None)],
    }


def main() -> None:
    """Run the parts that are asked for, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=parts(), default=list(parts()))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "closed_loop")
    chosen = parser.parse_args()
    _run(chosen.parts, chosen.seeds, chosen.work)


def _run(names: list[str], num_seeds: int, work: Path) -> None:
    known = read_result("closed_loop") or {}
    found, abouts = known.get("parts", {}), known.get("about_parts", {})
    for part in names:
        runs: dict[str, list[dict[str, Any]]] = {}
        for seed in range(num_seeds):
            for arm, gallery in parts()[part]:
                name = arm.name if gallery is None else f"gallery-{gallery}"
                figures = run_arm(work, arm, gallery, seed)
                baseline = run_arm(work, _unpacked(arm), None, seed)
                gain = figures["mean_accuracy"] - baseline["mean_accuracy"]
                runs.setdefault(name, []).append(figures | {"accuracy_gain": gain})
        found[part] = [summarize(name, figures) for name, figures in runs.items()]
        abouts[part] = about(0)
        models = {folder.name: read_json(folder / METRICS) for folder in (RECOGNIZER, GENERATOR)}
        figures = {"size": vars(SIZE), "models": models, "about_parts": abouts, "parts": found}
        write_result("closed_loop", figures)


def _unpacked(arm: Arm) -> Arm:
    """Return the arm of as many identities that are not packed."""
    name = "unpacked" if arm.num_ids is None else f"unpacked-{arm.num_ids}-ids"
    return Arm(name=name, num_ids=arm.num_ids, packing=UNPACKED)


def run_arm(work: Path, arm: Arm, gallery: int | None, seed: int) -> dict[str, Any]:
    """Take one arm through all stages, and return its figures; those that are there are read."""
    size = SIZE if gallery is None else replace(SIZE, gallery=gallery)
    loop = ClosedLoop(work / f"gallery-{size.gallery}-seed-{seed}", size, seed)
    path = loop.folder("figures") / f"{arm.name}.json"
    if not path.exists():
        atomic_write_json(path, _measure(loop, arm))
    return read_json(path)


def _measure(loop: ClosedLoop, arm: Arm) -> dict[str, Any]:
    # Imported late, as the tables of the documents need the names of the arms alone.
    from hyperface_jax.runs.demonstration import stages

    watch = console()
    stages.make_gallery(loop, watch)
    if arm.name == "real":
        data = stages.real_images(loop)
    else:
        if arm.name == "keep-out":
            arm = replace(arm, packing=keep_out(loop))
        stages.pack_arm(loop, arm, watch)
        stages.draw_arm(loop, arm, watch)
        data = stages.drawn_images(loop, arm.name)
    stages.train_arm(loop, arm.name, data, watch, _epochs(arm))
    stages.make_sets(loop)
    stages.evaluate_arm(loop, arm.name, watch)
    figures = recognition(loop, arm.name)
    del figures["accuracy"], figures["loss"]
    return figures if arm.name == "real" else figures | _identities(loop, arm.name)


def _epochs(arm: Arm) -> int:
    """Return the passes that make all arms train on as many images."""
    num_images = (arm.num_ids or SIZE.num_ids) * (arm.images_per_id or SIZE.images_per_id)
    return max(1, round(SIZE.epochs * SIZE.num_ids * SIZE.images_per_id / num_images))


def _identities(loop: ClosedLoop, name: str) -> dict[str, Any]:
    packing = read_json(loop.path / PACKING / name / "summary.json")
    faces = read_json(loop.path / SYNTHESIS / name / "summary.json")["fidelity"]
    return {
        "gallery_cosine": packing["gallery_mean_cosine"],
        "nearest_before": faces["nearest_before_mean"],
        "nearest_after": faces["nearest_after_mean"],
        "target_cosine": faces["target_cosine"],
        "within_cosine": faces["within_cosine"],
    }


def summarize(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean and the standard error of each figure over the seeds."""
    row: dict[str, Any] = {"name": name, "num_seeds": len(runs)}
    for figure in runs[0]:
        values = np.array([run[figure] for run in runs], float)
        error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
        row[figure] = {"mean": float(values.mean()), "error": error}
    return row


if __name__ == "__main__":
    main()
