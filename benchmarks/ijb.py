"""The lists, fusion and scores of IJB-C at its size, from files of random faces.

    python -m benchmarks.ijb [--faces 469375] [--templates 23124] [--pairs 15658489] [--dim 512]

The lists are written in the layout of the published ones. Embeddings are drawn instead of computed, a
part at a time, so the figures are those of everything but the recognizer. Times are those that the
processor worked, which others on the machine do not lengthen; memory is the largest that the process
held.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import console, write_result
from hyperface_jax.evaluation import TemplateSums
from hyperface_jax.io.ijb_files import read_ijb_faces, read_searches, read_template_pairs
from hyperface_jax.runs.ijb_protocol import measure

_PART = 8192
_WRITTEN_LINES = 1 << 18
_NUM_PEOPLE = 3531
_LEAST_TEMPLATES = 4
"""Templates for each person, at least."""
_NOISE = 4.0
"""Deviation of an image from its person, in units of the persons' own."""


def main() -> None:
    """Write the lists, measure, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=469_375)
    parser.add_argument("--templates", type=int, default=23_124)
    parser.add_argument("--pairs", type=int, default=15_658_489)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--dry-run", action="store_true", help="print the figures, write nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print("writing the lists", flush=True)
        write_lists(Path(folder), options.faces, options.templates, options.pairs)
        row = run(Path(folder), options.dim)
    print(row)
    if not options.dry_run:
        write_result("ijb", {"rows": [row]})


def run(root: Path, dim: int) -> dict[str, Any]:
    """Read the lists, fuse random embeddings, and score."""
    watch, start, marks = console(), time.perf_counter(), [time.process_time()]
    faces, pairs, searches = read_ijb_faces(root), read_template_pairs(root), read_searches(root)
    marks.append(time.process_time())
    rng, sums = np.random.default_rng(0), TemplateSums(faces.template_ids, faces.media_ids)
    num_people = _num_people(len(np.unique(faces.template_ids)))
    people = rng.standard_normal((num_people, dim), np.float32)
    with watch.progress("fusing", "faces", len(faces.names)) as update:
        for first in range(0, len(faces.names), _PART):
            shown = faces.template_ids[first : first + _PART] % num_people
            drawn = rng.standard_normal((len(shown), dim), np.float32)
            sums.add(first, people[shown] + _NOISE * drawn)
            update(first + len(shown))
    templates = sums.templates()
    marks.append(time.process_time())
    figures = measure(templates, pairs, searches, watch=watch)
    marks.append(time.process_time())
    read, fuse, score = np.diff(marks).tolist()
    return {
        "num_faces": len(faces.names),
        "num_templates": len(templates.ids),
        "num_pairs": len(pairs.is_same),
        "dim": dim,
        "read_cpu_seconds": read,
        "fuse_cpu_seconds": fuse,
        "score_cpu_seconds": score,
        "seconds": time.perf_counter() - start,
        "eer": figures["verification"]["eer"],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def write_lists(root: Path, num_faces: int, num_templates: int, num_pairs: int) -> None:
    """Write lists of faces, pairs, galleries and probes; template t is of person t modulo the people."""
    rng, meta = np.random.default_rng(1), root / "meta"
    meta.mkdir()
    num_people = _num_people(num_templates)
    templates = np.append(np.arange(num_templates), rng.integers(0, num_templates, num_faces))
    templates = templates[:num_faces]
    media = rng.integers(0, 1 << 20, num_faces)
    with (meta / "ijbc_face_tid_mid.txt").open("w") as file:
        rows = enumerate(zip(templates.tolist(), media.tolist(), strict=True), 1)
        file.writelines(f"{i}.jpg {template} {medium}\n" for i, (template, medium) in rows)
    places = " ".join(["50.25"] * 10)
    with (meta / "ijbc_name_5pts_score.txt").open("w") as file:
        file.writelines(f"{i}.jpg {places} 0.99\n" for i in range(1, num_faces + 1))
    with (meta / "ijbc_template_pair_label.txt").open("w") as file:
        for start in range(0, num_pairs, _WRITTEN_LINES):
            size = min(_WRITTEN_LINES, num_pairs - start)
            first, second = rng.integers(0, num_templates, (2, size))
            is_kin = rng.random(size) < 0.002
            kin = first + num_people
            second = np.where(is_kin, np.where(kin < num_templates, kin, first), second)
            labels = (first % num_people == second % num_people).astype(int)
            rows = zip(first.tolist(), second.tolist(), labels.tolist(), strict=True)
            file.writelines(f"{a} {b} {label}\n" for a, b, label in rows)
    _write_searches(meta, num_templates)


def _num_people(num_templates: int) -> int:
    return max(1, min(_NUM_PEOPLE, num_templates // _LEAST_TEMPLATES))


def _write_searches(meta: Path, num_templates: int) -> None:
    num_people = _num_people(num_templates)
    half = num_people // 2
    listed = {
        "gallery_G1": range(half),
        "gallery_G2": range(half, num_people),
        "probe_mixed": range(num_people, num_templates),
    }
    for name, ids in listed.items():
        rows = (f"{i},{i % num_people},{i}.jpg\n" for i in ids)
        with (meta / f"ijbc_1N_{name}.csv").open("w") as file:
            file.writelines(["TEMPLATE_ID,SUBJECT_ID,FILENAME\n", *rows])


if __name__ == "__main__":
    main()
