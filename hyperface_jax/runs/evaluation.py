"""The ``evaluate`` stage: it measures a recognizer on verification benchmarks."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError, require
from hyperface_jax.io.claims import refuse_foreign
from hyperface_jax.io.files import atomic_write_json, one_line, read_json
from hyperface_jax.io.verification_files import refuse_equal_names
from hyperface_jax.runs.support.described_embeddings import make_folder
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import option
from hyperface_jax.runs.support.versions import versions
from hyperface_jax.runs.support.watch import QUIET, Watch

if TYPE_CHECKING:
    from hyperface_jax.faces import Recognizer
    from hyperface_jax.io.verification_files import VerificationSet

    Figures = dict[str, Any]

RESULT = "evaluation.json"

_MEANS = ("accuracy", "eer", "auc", "d_prime")
_SHOWN_FAR = "1e-03"
_PACKAGES = ("hyperface_jax", "jax", "jaxlib", "flax", "onnxruntime", "numpy", "pillow")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Verify the pairs of benchmarks with a recognizer, by the published ten-fold protocol.

    A benchmark FILE is a .bin file of insightface, a pairs.txt file of LFW or CPLFW, a .csv file with
    the columns path1,path2,label, or a text file with these three values on each line. The images
    should be aligned to 112 x 112 pixels.
    """

    model: Path
    """Recognizer: the folder of a training run, a .pt, .pth, .ckpt or .safetensors file of an IR
    network, or an .onnx file."""
    benchmark: tuple[Path, ...] = option(metavar="FILE")
    """One FILE for each benchmark. The benchmark takes its name from the file."""
    out: Path
    """Folder for evaluation.json, report.html and the figures."""
    images: Path | None = None
    """Folder that the paths in a list of pairs are relative to. Default: the folder of the list."""
    flip: bool = True
    """Add the embedding of the mirrored image to that of the image, as in the published protocol."""
    color: Literal["rgb", "bgr"] | None = option(None, aliases=("colour",))
    """Channel order that the model was trained with. Default: that of its variant, or what an .onnx file
    states, else rgb."""
    batch_size: int = option(256, group="machine")
    """Number of images per batch, across all devices."""
    devices: int | None = option(None, group="machine")
    """Number of devices to split each batch across. Default: all. An .onnx file runs where onnxruntime
    decides."""


def evaluate(config: Evaluate, *, watch: Watch = QUIET) -> Result:
    """Verify the pairs of benchmarks with a recognizer, by the published ten-fold protocol.

    The same call writes the same result again.

    Args:
        config: the settings.
        watch: receives messages and progress.

    Returns:
        The contents of ``evaluation.json``, the folder, and a table of the main figures.

    Raises:
        InputError: a setting or a file cannot be used.
    """
    from hyperface_jax.reports.evaluation import write_evaluation_report
    from hyperface_jax.reports.verification import write_verification_report
    from hyperface_jax.runs.support.recognizers import open_on_devices

    check_settings(config)
    recognizer = open_on_devices(
        config.model, config.devices, color=config.color, watch=watch, field="model"
    )
    benchmarks = _read_benchmarks(config)
    make_folder(config.out)
    results = {item.pairs.name: _verified(item, recognizer, config, watch) for item in benchmarks}
    summary = _summary(config, recognizer, results)
    atomic_write_json(config.out / RESULT, summary)
    write_verification_report(config.out, results)
    page = write_evaluation_report(config.out, summary)
    lines = [*_table(results), f"report: {one_line(page)}"]
    return Result(config.out, read_json(config.out / RESULT), "\n".join(lines))


class _Benchmark(NamedTuple):
    """A benchmark and the file that it was read from."""

    path: Path
    pairs: VerificationSet


@dataclass(frozen=True)
class _Images:
    """The images of a benchmark, each with a name for error messages."""

    pairs: VerificationSet
    names: Sequence[str]

    def read(self, index: int, /) -> bytes:
        return self.pairs.read(index)


def check_settings(config: Evaluate) -> None:
    """Refuse settings that cannot work, before any file is read.

    Raises:
        InputError: a setting cannot work.
    """
    require(config, [("batch_size", config.batch_size >= 1, "at least 1")])
    if not config.benchmark:
        raise InputError("`benchmark`: names no file; give one or more")
    refuse_equal_names("`benchmark`", config.benchmark)
    refuse_foreign(config.out, RESULT)


def _read_benchmarks(config: Evaluate) -> list[_Benchmark]:
    """Read all benchmarks, so that a bad one is found before any work is done."""
    from hyperface_jax.io.verification_files import read_verification_set

    found = [
        _Benchmark(path, read_verification_set(path, config.images)) for path in config.benchmark
    ]
    if config.images is not None and not any(map(_is_list, found)):
        raise InputError(
            f"`images={one_line(config.images)}`: is for lists of pairs, but every `benchmark` here "
            "holds its own images; drop it"
        )
    return found


def _is_list(item: _Benchmark) -> bool:
    return isinstance(item.pairs.images[0], Path)


def _verified(item: _Benchmark, recognizer: Recognizer, config: Evaluate, watch: Watch) -> Figures:
    """Embed the images of a benchmark, and return its figures as plain values."""
    from hyperface_jax.evaluation import verify
    from hyperface_jax.faces import extract
    from hyperface_jax.io.embeddings import file_sha256

    path, pairs = item
    images = _Images(pairs, [_image_name(path, i, x) for i, x in enumerate(pairs.images)])
    start = time.monotonic()
    with watch.progress(one_line(pairs.name), "images", len(pairs.images)) as update:
        extracted = extract(
            images,
            recognizer,
            batch_size=config.batch_size,
            flip=config.flip,
            is_strict=True,
            progress=update,
        )
    seconds = time.monotonic() - start
    if extracted.num_unaligned:
        watch.warn(
            f"{one_line(path)}: {extracted.num_unaligned} images are not of an aligned face's "
            "112 x 112 pixels and were cropped in the middle: align them first"
        )
    try:
        result = verify(extracted.embeddings[::2], extracted.embeddings[1::2], pairs.is_same)
    except InputError as error:
        raise InputError(f"{one_line(path)}: {error}") from error
    return {
        "file_sha256": file_sha256(path),
        "num_pairs": len(pairs.is_same),
        "num_unaligned_images": extracted.num_unaligned,
        "seconds": seconds,
        **result.summary(),
    }


def _image_name(path: Path, index: int, image: bytes | Path) -> str:
    return f"{path}: image {index}" if isinstance(image, bytes) else str(image)


def _summary(config: Evaluate, recognizer: Recognizer, results: dict[str, Figures]) -> Figures:
    """Gather the contents of evaluation.json."""
    import jax

    return {
        "model": config.model,
        "model_sha256": recognizer.digest,
        "color": recognizer.color,
        "image_size": recognizer.image_size,
        "embedding_dim": recognizer.embedding_dim,
        "is_flip_fused": config.flip,
        "benchmarks": results,
        "mean": {name: _mean(results, name) for name in _MEANS},
        "device": jax.devices()[0].device_kind,
        "versions": versions(*_PACKAGES),
    }


def _mean(results: dict[str, Figures], name: str) -> float:
    return float(np.mean([result[name] for result in results.values()]))


def _table(results: dict[str, Figures]) -> list[str]:
    width = max(len(one_line(name)) for name in (*results, "benchmark"))
    heads = ("pairs", "accuracy %", f"TAR@{_SHOWN_FAR} %", "EER %", "AUC", "d'")
    lines = [f"{'benchmark':{width}}  " + "  ".join(f"{head:>14}" for head in heads)]
    lines += [
        f"{one_line(name):{width}}  " + "  ".join(f"{cell:>14}" for cell in _cells(result))
        for name, result in results.items()
    ]
    if len(results) > 1:
        mean = 100 * _mean(results, "accuracy")
        lines.append(f"mean accuracy {mean:.3f} % over {len(results)} benchmarks")
    return lines


def _cells(result: Figures) -> tuple[str, ...]:
    rate = result["fold_tar_at_far"][_SHOWN_FAR]
    d_prime = result["d_prime"]
    return (
        str(result["num_pairs"]),
        f"{100 * result['accuracy']:.3f} ± {100 * result['accuracy_std']:.3f}",
        "-" if rate is None else f"{100 * rate['tar']:.2f}",
        f"{100 * result['eer']:.3f}",
        f"{result['auc']:.5f}",
        f"{d_prime:.3f}" if math.isfinite(d_prime) else "-",
    )
