"""What every benchmark records beside its figures, and how it takes a time."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hyperface_jax.io.files import atomic_write_json, read_json
from hyperface_jax.runs.support.watch import Watch
from hyperface_jax.typing import Update

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PICTURES = ROOT / "docs" / "pictures"
SHARED = Path(__file__).parents[2] / "shared" / "data"
_SECONDS_A_LINE = 10.0
_PACKAGES = ("jax", "jaxlib", "optax", "numpy", "scipy", "torch", "geoopt", "pymanopt")


def device_name() -> str:
    """Name this machine's device: the accelerator, or the processor with its core count."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    return f"{_processor()}, {len(os.sched_getaffinity(0))} cores"


def result_path(name: str) -> Path:
    """Return where the JSON of a benchmark lives on this device."""
    slug = re.sub(r"[^a-z0-9]+", "-", device_name().lower()).strip("-")
    return RESULTS / slug / f"{name}.json"


def write_result(name: str, figures: dict[str, Any], *, seed: int = 0) -> Path:
    """Write figures with device, versions, commit and seed; return the path."""
    path = result_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, {"about": about(seed), **figures})
    print(f"wrote {path}")
    return path


@contextmanager
def result_locked(name: str) -> Iterator[None]:
    """Keep other processes on this machine from changing the JSON of a benchmark meanwhile."""
    path = Path(tempfile.gettempdir()) / f"hyperface_jax-{name}.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_own_result(name: str) -> dict[str, Any] | None:
    """Read the JSON of a benchmark on this device, to go on with it."""
    path = result_path(name)
    return read_json(path) if path.exists() else None


def read_result(name: str) -> dict[str, Any] | None:
    """Read the JSON of a benchmark on this device, or the only one of another device."""
    own = result_path(name)
    paths = [own] if own.exists() else sorted(RESULTS.glob(f"*/{name}.json"))
    return read_json(paths[0]) if paths else None


def text_rows() -> np.ndarray:
    """Return a real embedding manifold: 12,000 sentence embeddings, unit rows ``[12_000, 384]``.

    Raises:
        SystemExit: the file is absent.
    """
    path = SHARED / "text_gallery_12k.npy"
    if not path.exists():
        raise SystemExit(f"{path}: is absent; put unit rows of embeddings there, [12000, 384]")
    rows = np.load(path).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@contextmanager
def work_folder(kept: Path | None) -> Iterator[Path]:
    """Yield a folder to keep and to go on in, or a temporary one if None is given."""
    with nullcontext(kept) if kept else tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def console() -> Watch:
    """Return a watch that prints what a run says, and a line of its progress now and then."""
    return Watch(say=_print, warn=_print, progress=_lines)


def _print(text: str) -> None:
    print(text, flush=True)


@contextmanager
def _lines(title: str, unit: str, total: float, done: float = 0) -> Iterator[Update]:
    printed_at = time.monotonic()

    def update(count: float, figure: str = "", /) -> None:
        nonlocal printed_at
        if time.monotonic() - printed_at > _SECONDS_A_LINE or count >= total > done:
            printed_at = time.monotonic()
            _print(f"{title}: {count:g} of {total:g} {unit}  {figure}".rstrip())

    yield update


def seconds(function: Callable[..., Any], *arguments: Any, runs: int = 5) -> list[float]:
    """Time ``runs`` calls after a warm-up, each to completion."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return times


def spread(times: list[float]) -> dict[str, float]:
    """Summarize times as minimum, median and maximum."""
    return {"min": min(times), "median": statistics.median(times), "max": max(times)}


def about(seed: int) -> dict[str, Any]:
    """Say where and from what figures come."""
    return {
        "device": device_name(),
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "commit": _git("rev-parse", "--short", "HEAD"),
        "seed": seed,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"model name\s*:\s*(.+)", text)
    return match[1].strip() if match else platform.machine()
