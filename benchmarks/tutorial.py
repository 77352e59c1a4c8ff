"""The numbers of the tutorial: its toy commands, run as its page has them, and estimates for real faces.

    python -m benchmarks.tutorial

The blocks of docs/tutorials/faces.md that are titled "toy world" run in an empty folder, in order and in
one shell each, and the figures are read from the files that they leave. A test runs them again, all in
one process, and holds the figures to the tolerances here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common import ROOT, write_result
from hyperface_jax.planning.machines import parse_devices
from hyperface_jax.planning.plans import plan_run

PAGE = ROOT / "docs" / "tutorials" / "faces.md"
_TOY = re.compile(r'```(bash|python) title="toy world"\n(.*?)```', re.DOTALL)


class Expected(NamedTuple):
    """A figure that the toy commands leave in a file."""

    stage: str
    what: str
    path: str
    keys: tuple[str, ...]
    tolerance: float


_LEAKAGE = "toy/leakage/summary.json"
FIGURES = {
    "max_cosine": Expected(
        "pack", "max cosine of the packing", "toy/identities/summary.json", ("max_cosine",), 0.02
    ),
    "gallery_cosine": Expected(
        "pack",
        "mean cosine to the nearest gallery row",
        "toy/identities/summary.json",
        ("gallery_mean_cosine",),
        0.01,
    ),
    "target_cosine": Expected(
        "synthesize",
        "mean cosine of an identity's faces to its embedding",
        "toy/data/summary.json",
        ("fidelity", "target_cosine"),
        0.02,
    ),
    "nearest_after": Expected(
        "synthesize",
        "nearest other identity of the drawn faces, mean cosine",
        "toy/data/summary.json",
        ("fidelity", "nearest_after_mean"),
        0.04,
    ),
    "loss": Expected(
        "train", "loss of the last steps", "toy/recognizer/summary.json", ("loss",), 2.0
    ),
    "accuracy": Expected(
        "evaluate",
        "verification accuracy",
        "toy/figures/evaluation.json",
        ("benchmarks", "easy", "accuracy"),
        0.06,
    ),
    "leakage_mean": Expected(
        "leakage", "nearest real person, mean cosine", _LEAKAGE, ("nearest", "mean_cosine"), 0.03
    ),
    "leakage_max": Expected(
        "leakage", "nearest real person, largest cosine", _LEAKAGE, ("nearest", "max_cosine"), 0.06
    ),
    "genuine": Expected(
        "diversity",
        "two faces of one identity, mean cosine",
        "toy/variety/summary.json",
        ("diversity", "genuine_mean"),
        0.03,
    ),
}


def main() -> None:
    """Run the toy commands, and write their figures and the estimates."""
    with tempfile.TemporaryDirectory() as folder:
        figures = run_toy(Path(folder))
    rows = [
        {"name": name, "stage": e.stage, "what": e.what, "tolerance": e.tolerance} | {"value": v}
        for (name, e), v in zip(FIGURES.items(), figures.values(), strict=True)
    ]
    write_result("tutorial", {"toy": rows, "costs": costs()})


def run_toy(folder: Path) -> dict[str, float]:
    """Run the toy blocks of the page in a folder, and return their figures."""
    for language, block in toy_blocks():
        command = ["bash", "-euc", block] if language == "bash" else [sys.executable, "-c", block]
        subprocess.run(command, cwd=folder, env=environment(), check=True)
    return {name: read_figure(folder, figure) for name, figure in FIGURES.items()}


def toy_blocks() -> list[tuple[str, str]]:
    """Return the language and the text of each toy block of the page."""
    return _TOY.findall(PAGE.read_text())


def environment(*folders: Path) -> dict[str, str]:
    """Return the environment, with programs of these folders and of this Python found first."""
    path = (*folders, Path(sys.executable).parent, os.environ["PATH"])
    return os.environ | {"PATH": os.pathsep.join(map(str, path))}


def read_figure(folder: Path, figure: Expected) -> float:
    """Read a figure from the file that the toy commands left in a folder."""
    value: Any = json.loads((folder / figure.path).read_text())
    for key in figure.keys:
        value = value[key]
    return value


NUM_IDS, IMAGES_PER_ID, DIM, FACE, EPOCHS = 10_000, 64, 512, 112, 30
GALLERY, GALLERY_SIZE = 10_000, 256


def costs() -> list[dict[str, str]]:
    """Estimate disc and time of the paper's size: arithmetic on published rates, and the cost model."""
    num_images = NUM_IDS * IMAGES_PER_ID
    raw = {"faces": GALLERY * GALLERY_SIZE**2 * 3, "data": num_images * FACE**2 * 3}
    packed = plan_run(NUM_IDS, DIM, parse_devices("a100:1"), method="annealed")
    hours = [8 * num_images * EPOCHS / rate / 3600 for rate in (6100, 5600)]
    return [
        _cost("faces", raw["faces"], "", "disc: pixels, before compression"),
        _cost("embed", 4 * DIM * GALLERY, "", "disc: 4 bytes a number"),
        _cost(
            "pack",
            4 * DIM * NUM_IDS + 2 * packed.checkpoint_bytes,
            f"{packed.seconds:.1f} s on an A100",
            "`hyperface plan --devices a100:1`, a model; without compilation",
        ),
        _cost(
            "synthesize, 25 steps",
            raw["data"],
            "174 h on an RTX 3090, or 60 h on an A100",
            "the HyperFace paper; FLOPs of the networks at 3 images/s",
        ),
        _cost(
            "synthesize, LCM-LoRA, 4 steps",
            raw["data"],
            "5 to 9 h on an A100",
            "the same FLOPs at 20 to 35 images/s",
        ),
        _cost(
            "train",
            4 * 43_585_600 * 3,
            f"{hours[0]:.1f} to {hours[1]:.1f} h",
            "insightface's R50 on 8 GPUs, 5,600 to 6,100 images/s; disc: weights, momentum, result",
        ),
    ]


def _cost(stage: str, num_bytes: float, hours: str, source: str) -> dict[str, str]:
    size = f"{num_bytes / 1e9:.2g} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
    return {"stage": stage, "disc": size, "gpu_hours": hours, "source": source}


if __name__ == "__main__":
    main()
