"""What writing a data set costs beside drawing it, and how memory grows.

    python -m benchmarks.synthesis

A generator that takes 10 ms an image, 100 images/s, stands for a GPU: "waiting" leaves the processor
to the writer, "computing" keeps one core busy. The time of the whole work over the time in the generator
is the overhead. Then 1,000 images of a tiny Arc2Face, and the resident memory of a run of 10,000 images
against one of 1,000.
"""

from __future__ import annotations

import dataclasses
import hashlib
import resource
import runpy
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.common import ROOT, write_result
from hyperface_jax import runs, sphere
from hyperface_jax.runs.support.settings import command
from hyperface_jax.synthesis import FunctionGenerator

SECONDS_AN_IMAGE, DIM, SIZE = 0.01, 512, 112
KINDS = ("png", "jpg", "webp")
NUM_IMAGES = 3000
in_generator: list[float] = []


def _blocks(noise: np.ndarray) -> np.ndarray:
    """Return an image of 14 x 14 blocks of color for each row of noise."""
    return np.repeat(np.repeat(noise.reshape(-1, 14, 14, 3), 8, 1), 8, 2)


def _draw(conditions: np.ndarray, noise: np.ndarray, *, is_busy: bool) -> np.ndarray:
    start = time.perf_counter()
    gray = np.clip(127 + 50 * _blocks(noise) + conditions[:, :112, None, None], 0, 255).astype(
        np.uint8
    )
    end = start + SECONDS_AN_IMAGE * len(noise)
    while time.perf_counter() < end:
        if is_busy:
            sum(range(1000))
        else:
            time.sleep(max(0.0, end - time.perf_counter()))
    in_generator.append(time.perf_counter() - start)
    return gray


def make(is_busy: bool) -> FunctionGenerator:
    """Return a generator of blocks of color."""
    return FunctionGenerator(
        function=lambda conditions, noise: _draw(conditions, noise, is_busy=is_busy),
        name=f"blocks, {'computing' if is_busy else 'waiting'}",
        digest=hashlib.sha256(str(is_busy).encode()).hexdigest(),
        condition_dim=DIM,
        noise_shape=(14 * 14 * 3,),
        image_size=SIZE,
    )


WAITING, COMPUTING = make(False), make(True)
INSTANT = dataclasses.replace(
    WAITING,
    function=lambda conditions, noise: _blocks(noise > 0).astype(np.uint8) * 255,
    name="instant",
)


def main() -> None:
    """Measure all and write the JSON."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        np.save(root / "ids.npy", np.asarray(sphere.sample_uniform(jax.random.key(0), 1000, DIM)))
        overhead = [
            _overhead(root, name, kind) for name in ("WAITING", "COMPUTING") for kind in KINDS
        ]
        memory = [_memory(root, num) for num in (1000, 10_000)]
        figures = {"overhead": overhead, "memory": memory, "arc2face": _arc2face(root)}
    write_result("synthesis", figures)


def _settings(
    root: Path, generator: str, out: str, *, num_images: int, **more: Any
) -> runs.Synthesize:
    return runs.Synthesize(
        embeddings=root / "ids.npy",
        generator=f"benchmarks.synthesis:{generator}",
        out=root / out,
        images_per_id=10,
        num_ids=num_images // 10,
        crop="none",
        **more,
    )


def _overhead(root: Path, generator: str, kind: str) -> dict[str, Any]:
    """Write images in this process; the first 100 compile and warm up elsewhere."""
    out, form = f"{generator}-{kind}", {"image_format": kind}
    runs.synthesize(_settings(root, generator, f"warm-{out}", num_images=100, **form))
    in_generator.clear()
    start = time.perf_counter()
    runs.synthesize(_settings(root, generator, out, num_images=NUM_IMAGES, **form))
    whole = time.perf_counter() - start
    row = {
        "generator": generator.lower(),
        "image_format": kind,
        "images_per_second": NUM_IMAGES / whole,
        "overhead": whole / sum(in_generator) - 1,
    }
    print(row, flush=True)
    return row


def _memory(root: Path, num_images: int) -> dict[str, Any]:
    """Return the largest resident memory of a run in a process of its own."""
    settings = _settings(root, "INSTANT", f"memory-{num_images}", num_images=num_images)
    _, *words = shlex.split(command(settings))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    subprocess.run(
        [sys.executable, "-m", "hyperface_jax.cli.main", *words, "--quiet"], check=True, cwd=ROOT
    )
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    row = {"num_images": num_images, "max_rss_mib": most / 1024, "is_new_maximum": most > before}
    print(row, flush=True)
    return row


def _arc2face(root: Path) -> dict[str, Any]:
    """Draw 1,000 images with a tiny Arc2Face of random weights."""
    write = runpy.run_path(str(ROOT / "tests" / "synthesis" / "tiny_arc2face.py"))
    write["write_tiny_arc2face"](root / "model")
    np.save(root / "small.npy", np.asarray(sphere.sample_uniform(jax.random.key(0), 100, 32)))
    start = time.perf_counter()
    runs.synthesize(
        runs.Synthesize(
            embeddings=root / "small.npy",
            generator=str(root / "model"),
            out=root / "tiny",
            images_per_id=10,
            arc2face=runs.Arc2FaceOptions(steps=4),
        )
    )
    row = {"num_images": 1000, "steps": 4, "seconds_with_loading": time.perf_counter() - start}
    print(row, flush=True)
    return row


if __name__ == "__main__":
    # The stage imports the generators by this name.
    sys.modules["benchmarks.synthesis"] = sys.modules[__name__]
    main()
