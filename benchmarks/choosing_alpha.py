"""What alpha and neighbors do in the toy world: the frontier, and the faces that are drawn of it.

    python -m benchmarks.choosing_alpha [--work DIR]

2,048 random toy faces are the gallery; ``hyperface frontier`` packs 200 identities near it with every
alpha and number of neighbors, and the parametric generator draws four faces of each identity. As many
gallery rows are drawn too. What is in DIR already is not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.common import console, work_folder, write_result
from hyperface_jax import runs
from hyperface_jax.toyfaces.faces import SOURCE
from hyperface_jax.toyfaces.pretrained import PARAMETRIC_NAME, RECOGNIZER

NUM_GALLERY, NUM_IDS, STEPS, IMAGES_PER_ID = 2048, 200, 400, 4
ALPHAS, NEIGHBORS = (0.125, 0.5, 2.0, 3.2, 5.0, 8.0, 32.0), (1, 4)
_OF_FACES = ("target_cosine", "within_cosine", "nearest_after_mean")


def main() -> None:
    """Run the frontier, draw its identities and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path)
    with work_folder(parser.parse_args().work) as folder:
        write_result("choosing_alpha", figures(folder))


def figures(work: Path) -> dict[str, Any]:
    """Return the figures of the frontier and of the faces, made in a folder."""
    watch, gallery = console(), work / "faces.npz"
    if not gallery.exists():
        images = work / "faces"
        runs.faces(runs.Faces(source=SOURCE, out=images, num=NUM_GALLERY, batch_size=256))
        runs.embed(runs.Embed(images=images, recognizer=RECOGNIZER, out=gallery, devices=1))
    packing: dict[str, Any] = {"num_ids": NUM_IDS, "gallery": gallery, "devices": 1}
    settings = runs.Frontier(
        **packing, alpha=ALPHAS, neighbors=NEIGHBORS, steps=STEPS, out=work / "frontier"
    )
    found = runs.frontier(settings, watch=watch).summary
    rows = runs.pack(runs.Pack(**packing, steps=0, out=work / "rows"), watch=watch).summary
    points = [_with_faces(point, Path(point["folder"]), work, watch) for point in found["points"]]
    unpacked = {name: rows[name] for name in ("max_cosine", "mean_nearest_cosine")}
    return {
        "num_gallery": NUM_GALLERY,
        "num_ids": NUM_IDS,
        "steps": STEPS,
        "images_per_id": IMAGES_PER_ID,
        "gallery_nearness": found["gallery_nearness"],
        "needed_nearness": found["needed_nearness"],
        "recommended": {name: found["recommended"][name] for name in ("alpha", "neighbors")},
        "rows": _with_faces(unpacked, work / "rows", work, watch),
        "points": points,
    }


def _with_faces(point: dict[str, Any], packing: Path, work: Path, watch: Any) -> dict[str, Any]:
    """Draw the identities of a packing, and add the figures of their faces to its own."""
    settings = runs.Synthesize(
        embeddings=packing,
        generator=PARAMETRIC_NAME,
        out=work / "drawn" / packing.name,
        images_per_id=IMAGES_PER_ID,
        batch_size=100,
        crop="none",
        recognizer=RECOGNIZER,
    )
    drawn = runs.synthesize(settings, watch=watch).summary["fidelity"]
    kept = {name: value for name, value in point.items() if name not in ("folder", "seconds")}
    return {**kept, **{name: drawn[name] for name in _OF_FACES}}


if __name__ == "__main__":
    main()
