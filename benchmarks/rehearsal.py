"""The largest run near a gallery, rehearsed on a CPU: memory and time beside those of its plan.

    python -m benchmarks.rehearsal [--num-ids 200000] [--gallery-rows 50000] [--steps 20] [--out FOLDER]

Writes a gallery on a real manifold: the sentence embeddings of ``text_gallery_12k.npy`` along their 128
principal directions, and as many further rows as needed between two neighbors. Then it runs the command
line that a user would type, and fails if that takes more than 4 GiB. It takes about ten minutes of one
core: with a FOLDER it goes on where it was stopped, and adds up the calls. The JSON also holds the plans
of the run that this rehearses: ten million identities near a million rows.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.common import text_rows, work_folder, write_result
from benchmarks.million import measure
from hyperface_jax import runs
from hyperface_jax.io.embeddings import write_embeddings
from hyperface_jax.packing.contact_pairs import unit_rows
from hyperface_jax.pairwise import k_nearest, sweep

DIM, NUM_NEIGHBORS, MOST_GIB = 128, 10, 4.0
LARGEST = tuple(
    runs.Plan(num_ids=10_000_000, dim=512, devices=devices, gallery_rows=1_000_000)
    for devices in ("v5e:256", "h100:8")
)
_GALLERY = "gallery.npy"


def main() -> None:
    """Write the gallery, run the command and write the JSON once it has finished."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-ids", type=int, default=200_000)
    parser.add_argument("--gallery-rows", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, help="folder to keep, and to go on in")
    options = parser.parse_args()
    sizes = options.num_ids, options.gallery_rows, options.steps
    with work_folder(options.out) as folder:
        figures = rehearse(folder, *sizes)
    write_result("rehearsal", figures)
    if figures["max_rss_gib"] > MOST_GIB:
        raise SystemExit(f"took {figures['max_rss_gib']:.2f} GiB, more than {MOST_GIB:g}")


def rehearse(folder: Path, num_ids: int, gallery_rows: int, steps: int) -> dict[str, Any]:
    """Run the packing in a folder, or go on with it, and return its figures and its plan."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / _GALLERY).exists():
        write_embeddings(folder / _GALLERY, gallery(gallery_rows))
    words = shlex.split(
        f"pack --num-ids {num_ids} --gallery {_GALLERY} --method stochastic --steps {steps} "
        "--checkpoint-seconds 120"
    )
    figures = measure(folder, words)
    here = runs.Plan(
        num_ids=num_ids,
        dim=DIM,
        devices="cpu:1",
        method="stochastic",
        steps=steps,
        gallery_rows=gallery_rows,
    )
    plans = [planned(plan) for plan in (here, *LARGEST)]
    return {**figures, "most_gib": MOST_GIB, "gallery_rows": gallery_rows, "plans": plans}


def planned(plan: runs.Plan) -> dict[str, Any]:
    """Return the figures of a plan that the table shows."""
    summary = runs.plan(plan).summary
    memory = summary["step"]["memory"]
    names = ("method", "num_steps", "num_searches", "search_seconds", "seconds", "command")
    return {
        "num_ids": plan.num_ids,
        "dim": plan.dim,
        "gallery_rows": plan.gallery_rows,
        "devices": plan.devices,
        "memory_gib": memory["total"] / 2**30,
        "gallery_gib": memory["gallery"] / 2**30,
        **{name: summary[name] for name in names},
    }


def gallery(num_rows: int) -> np.ndarray:
    """Return unit rows on the text manifold, ``[num_rows, 128]``."""
    rows = text_rows()
    directions = np.linalg.svd(rows, full_matrices=False)[2][:DIM]
    rows = unit_rows(rows @ directions.T)
    near = np.asarray(sweep(jnp.asarray(rows), reduction=k_nearest(NUM_NEIGHBORS)).column)
    rng = np.random.default_rng(0)
    more = max(num_rows - len(rows), 0)
    first = rng.integers(len(rows), size=more)
    second = near[first, rng.integers(NUM_NEIGHBORS, size=more)]
    share = rng.uniform(size=(more, 1)).astype(np.float32)
    between = unit_rows((1 - share) * rows[first] + share * rows[second])
    return np.concatenate([rows, between])[:num_rows]


if __name__ == "__main__":
    main()
