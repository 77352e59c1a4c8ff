"""The question of the paper, in the world of toy faces: do packed identities train better?

    python -m benchmarks.closed_loop [--parts packing alpha ...] [--seeds 0 1 2 3 4] [--work DIR]

Every arm is packed, drawn and trained (on as many images in all) by the stages of ``hyperface demo``,
and measured by :mod:`benchmarks.instrument`. Seeds change the gallery, the packing, the noise, the
training and the test persons. The JSON keeps the figures of each arm and seed: what it has is not run
again, whatever device it was run on, and several processes may share the work. A gain is a mean of
differences between two arms of one seed, with its standard error over the seeds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, about, console, read_result, result_locked, write_result
from hyperface_jax.io.files import read_json
from hyperface_jax.runs.demonstration.arms import (
    FARTHEST_REAL,
    OF_PERSONS,
    REAL,
    Arm,
    paper_arm,
    through,
)
from hyperface_jax.runs.demonstration.closed_loop import (
    PACKING,
    RECOGNITION,
    SYNTHESIS,
    ClosedLoop,
)
from hyperface_jax.runs.demonstration.sizes import Size
from hyperface_jax.toyfaces.pretrained import (
    GENERATOR,
    GENERATOR_NAME,
    METRICS,
    PARAMETRIC,
    RECOGNIZER,
)

NAME = "closed_loop"
SIZE = Size(
    gallery=2048,
    num_ids=200,
    images_per_id=12,
    epochs=12,
    pairs=800,
    test_ids=300,
    reference_ids=2000,
    crowd=6000,
)
LARGE = replace(SIZE, gallery=8192, num_ids=1000, images_per_id=20)
FEW_FACES = replace(SIZE, gallery=100)
UNPACKED = {"steps": 0}
FARTHEST = {"init": "farthest"}
DRAWN = {"init": "subspace"}
NEGATIVES = {"negatives": 0.5}
CAPS = {"cap-0.9": {"min_cosine": 0.9}, "half-cap-0.8": {"min_cosine": 0.8, "cap_share": 0.5}}


@dataclass(frozen=True)
class Entry:
    """An arm of the study, and what its gain is measured against.

    Attributes:
        arm: the arm.
        baseline: name of the arm of the same seed that it is compared with.
        size: numbers of faces, identities and images.
        epochs: number of passes in training; None makes all arms of a size train on as many images.
        drawn_as: arm whose images are used; None draws its own.
        training: settings of ``hyperface train`` that differ from the demo's.
    """

    arm: Arm
    baseline: str = "unpacked"
    size: Size = SIZE
    epochs: int | None = None
    drawn_as: Arm | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


def parts() -> dict[str, list[Entry]]:
    """Return the arms of each question; an arm may answer several."""
    unpacked, packed = Arm(name="unpacked", packing=UNPACKED), Arm(name="packed")
    best = Arm(name="through", packing=through())
    drawn = Arm(name="ppca-unpacked", packing=DRAWN | UNPACKED)
    spanned = Arm(name="ppca", neighbors=1, packing=DRAWN | {"manifold": "subspace"})
    diffusion = {"generator": GENERATOR_NAME}
    return {
        "packing": [
            Entry(arm)
            for arm in (
                unpacked,
                packed,
                paper_arm(SIZE),
                best,
                Arm(name=REAL),
                Arm(name=FARTHEST_REAL),
            )
        ],
        "response": [
            Entry(packed),
            Entry(Arm(name="chosen", packing=through(rounds=0))),
            Entry(Arm(name="through-1-round", packing=through(rounds=1))),
            Entry(best),
        ],
        "alpha": [
            *(Entry(Arm(name=f"alpha-{a:g}", alpha=a)) for a in (0.5, 2.0)),
            Entry(packed),
            Entry(Arm(name="alpha-32", alpha=32.0)),
        ],
        "manifold": [
            Entry(Arm(name="nearest-row", alpha=2.0, neighbors=1)),
            Entry(packed),
            Entry(Arm(name="span-16", neighbors=16)),
            Entry(Arm(name="farthest-rows", packing=FARTHEST | UNPACKED)),
        ],
        "subspace": [Entry(arm) for arm in (packed, drawn, spanned)],
        "few-faces": [
            Entry(replace(arm, name=f"{arm.name}-100-faces"), "unpacked-100-faces", FEW_FACES)
            for arm in (unpacked, packed, drawn, spanned)
        ],
        "variation": [
            Entry(packed),
            *(Entry(Arm(name=f"packed-{name}", synthesis=cap)) for name, cap in CAPS.items()),
        ],
        "images": [
            Entry(
                replace(arm, name=f"{arm.name}-{k}-images", images_per_id=k), f"unpacked-{k}-images"
            )
            for k in (3, 24)
            for arm in (unpacked, packed, best)
        ],
        "length": [
            Entry(Arm(name=f"{arm.name}-{k}-epochs"), f"{base}-{k}-epochs", epochs=k, drawn_as=arm)
            for k in (4, 36)
            for arm, base in (
                (unpacked, "unpacked"),
                (best, "unpacked"),
                (Arm(name=REAL), REAL),
                (Arm(name=FARTHEST_REAL), REAL),
            )
        ],
        "start": [
            Entry(
                Arm(name=f"{arm.name}-short-start"),
                f"{base}-short-start",
                drawn_as=arm,
                training={"class_norm": 0.0},
            )
            for arm, base in (
                (unpacked, "unpacked"),
                (packed, "unpacked"),
                (best, "unpacked"),
                (Arm(name=REAL), "unpacked"),
                (Arm(name=FARTHEST_REAL), REAL),
            )
        ],
        "diffusion": [
            Entry(replace(arm, name=f"{arm.name}-diffusion", **diffusion), "unpacked-diffusion")
            for arm in (
                unpacked,
                packed,
                paper_arm(SIZE),
                Arm(name="through", packing=through(GENERATOR_NAME)),
                Arm(name="unpacked-negatives", packing=UNPACKED, synthesis=NEGATIVES),
                Arm(name="packed-negatives", synthesis=NEGATIVES),
            )
        ],
        "large": [
            Entry(replace(arm, name=f"{arm.name}-large"), "unpacked-large", LARGE)
            for arm in (unpacked, packed, best)
        ],
    }


def entries() -> dict[str, Entry]:
    """Return the arms by name."""
    return {entry.arm.name: entry for part in parts().values() for entry in part}


def main() -> None:
    """Run the parts that are asked for, and write the JSON after each arm."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [name for name in parts() if name != "large"]
    parser.add_argument("--parts", nargs="+", choices=parts(), default=names)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / NAME)
    parser.add_argument("--arms", nargs="+", choices=entries(), default=None)
    chosen = parser.parse_args()
    asked = chosen.arms or [e.arm.name for part in chosen.parts for e in parts()[part]]
    for seed in chosen.seeds:
        for name in asked:
            _ensure(entries()[name], seed, chosen.work)


def _ensure(entry: Entry, seed: int, work: Path) -> None:
    """Run an arm unless the JSON has it already."""
    name = entry.arm.name
    known = (read_result(NAME) or {}).get("arms", {}).get(name, {})
    if str(seed) in known:
        return
    print(f"\n=== {name}, seed {seed}", flush=True)
    figures = _measure(entry, seed, work)
    with result_locked(NAME):
        found = read_result(NAME) or {}
        arms = found.get("arms", {})
        where = {key: about(seed)[key] for key in ("date", "device")}
        arms.setdefault(name, {})[str(seed)] = figures | where
        folders = (RECOGNIZER, GENERATOR, PARAMETRIC)
        models = {folder.name: read_json(folder / METRICS) for folder in folders}
        write_result(NAME, {"size": vars(SIZE), "models": models, "arms": arms})


def _measure(entry: Entry, seed: int, work: Path) -> dict[str, Any]:
    """Take one arm through all stages, and return its figures."""
    # Imported late, as the tables of the documents need the names of the arms alone.
    from benchmarks import instrument
    from hyperface_jax.runs.demonstration import real_persons, stages

    arm, size = entry.drawn_as or entry.arm, entry.size
    loop = ClosedLoop(work / f"{size.num_ids}-of-{size.gallery}-seed-{seed}", size, seed)
    watch = console()
    stages.make_gallery(loop, watch)
    if arm.name in OF_PERSONS:
        data = real_persons.real_images(loop, arm.name)
        figures = _embedded(data)
    else:
        stages.pack_arm(loop, arm, watch)
        stages.draw_arm(loop, arm, watch)
        data, figures = stages.drawn_images(loop, arm.name), _identities(loop, arm.name)
    name = entry.arm.name
    epochs = entry.epochs or _epochs(arm, size)
    stages.train_arm(loop, name, data, watch, epochs=epochs, **entry.training)
    measured = instrument.measure(loop.path / RECOGNITION / name, seed + 1)
    return {"identities": figures, "sets": measured}


def _epochs(arm: Arm, size: Size) -> int:
    """Return the passes that make all arms of a size train on as many images."""
    num_images = (arm.num_ids or size.num_ids) * (arm.images_per_id or size.images_per_id)
    return max(1, round(size.epochs * size.num_ids * size.images_per_id / num_images))


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


def _embedded(path: Path) -> dict[str, Any]:
    """Return how far apart the persons of a folder are, and how alike the images of one are."""
    import jax.numpy as jnp

    from hyperface_jax import sphere
    from hyperface_jax.faces.flax_recognizer import load_recognizer
    from hyperface_jax.io.images import decode
    from hyperface_jax.packing import row_max
    from hyperface_jax.toyfaces.faces import embed_persons

    files = [sorted(folder.iterdir()) for folder in sorted(path.iterdir()) if folder.is_dir()]
    images = np.array([[decode(f.read_bytes(), name=f.name) for f in own] for own in files])
    faces = embed_persons(load_recognizer(RECOGNIZER), images)
    means = jnp.asarray(faces.embeddings.mean(axis=1))
    return {
        "gallery_cosine": None,
        "nearest_before": None,
        "nearest_after": float(jnp.mean(row_max(sphere.normalize(means)))),
        "target_cosine": None,
        "within_cosine": float(jnp.mean(jnp.linalg.norm(means, axis=1))),
    }


# What the documents show


def table_of(part: str, figures: dict[str, Any], preset: str = "easy") -> list[dict[str, Any]]:
    """Return a row for each arm of a part: mean and standard error of each figure over the seeds.

    All rows are over the same seeds: those that every arm with a result has.
    """
    known = figures["arms"]
    asked = [entry for entry in parts()[part] if known.get(entry.arm.name)]
    seeds = sorted(
        set.intersection(*(set(known[entry.arm.name]) for entry in asked)) if asked else ()
    )
    rows = []
    for entry in asked:
        own = [known[entry.arm.name][seed] for seed in seeds]
        base = [known.get(entry.baseline, {}).get(seed) for seed in seeds]
        row: dict[str, Any] = {"name": entry.arm.name, "num_seeds": len(seeds)}
        for name in ("eer", "tar_at_far_1e-3", "tar_at_far_1e-4", "rank_1"):
            row[name] = mean_and_error([run["sets"][preset][name] for run in own])
        pairs = zip(base, own, strict=True)
        row["gain"] = mean_and_error([_eer(b, preset) - _eer(o, preset) for b, o in pairs if b])
        for name in own[0]["identities"] if own else ():
            row[name] = mean_and_error([run["identities"][name] for run in own])
        rows.append(row)
    return rows


def drawn_arms(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each arm that draws its own images, as in the first part that has it."""
    parts = (
        "packing",
        "response",
        "alpha",
        "manifold",
        "variation",
        "subspace",
        "few-faces",
        "diffusion",
    )
    found: dict[str, dict[str, Any]] = {}
    for row in (row for part in parts for row in table_of(part, figures)):
        found.setdefault(row["name"], row)
    return found


def difference(
    figures: dict[str, Any], first: str, second: str, preset: str = "easy", figure: str = "eer"
) -> dict[str, Any]:
    """Return by how much the second arm is better than the first in a figure, over shared seeds."""
    one, two = figures["arms"][first], figures["arms"][second]
    sign = 1 if figure == "eer" else -1
    values = [
        sign * (one[seed]["sets"][preset][figure] - two[seed]["sets"][preset][figure])
        for seed in sorted(one.keys() & two.keys())
    ]
    return mean_and_error(values)


def _eer(run: dict[str, Any], preset: str) -> float:
    return run["sets"][preset]["eer"]


def mean_and_error(values: list[Any]) -> dict[str, Any]:
    """Return the mean and its standard error; None where there are too few values."""
    known = np.array([value for value in values if value is not None], float)
    if not len(known):
        return {"mean": None, "error": None}
    error = known.std(ddof=1) / math.sqrt(len(known)) if len(known) > 1 else None
    return {"mean": float(known.mean()), "error": error}


if __name__ == "__main__":
    main()
