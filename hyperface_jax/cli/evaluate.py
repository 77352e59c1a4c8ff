"""``hyperface evaluate``: the figures of a recognizer on verification benchmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from hyperface_jax.cli.pack import warn
from hyperface_jax.cli.versions import versions
from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_write_json, one_line, os_input_error

if TYPE_CHECKING:
    from hyperface_jax.faces import Recognizer
    from hyperface_jax.io.verification_files import VerificationSet

RESULT = "evaluation.json"

_MEANS = ("accuracy", "eer", "auc", "d_prime")
_SHOWN_FAR = "1e-03"
_PACKAGES = ("hyperface_jax", "jax", "jaxlib", "flax", "onnxruntime", "numpy", "pillow")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Verify the pairs of benchmarks with a recognizer, by the published ten-fold protocol.

    FILE is a .bin of insightface, an LFW pairs.txt, a .csv of path1,path2,label, or lines of the
    three. Images should be aligned to 112 x 112.
    """

    model: Path
    """Folder of a training run; a .pt, .pth, .ckpt or .safetensors of an IR network; or an .onnx."""
    benchmark: tuple[Path, ...]
    """FILE of each benchmark, which is named after it."""
    out: Path
    """Folder for evaluation.json and the figures."""
    images: Path | None = None
    """Folder that the paths in a list of pairs start from. Default: the list's own."""
    flip: bool = True
    """Add the embedding of the mirrored image, as published."""
    batch_size: int = 256
    """Images a step, over all devices."""
    color: Literal["rgb", "bgr"] | None = None
    """Channel order of the model's training. Default: that of its variant; rgb for .onnx."""
    devices: int | None = None
    """Devices to cut each batch over. Default: all. An .onnx runs where onnxruntime puts it."""

    def run(self) -> int:
        """Evaluate, write the figures and print them."""
        check_settings(self)
        from hyperface_jax.faces import open_recognizer
        from hyperface_jax.runs.support.jobs import local_mesh

        mesh = local_mesh(self.devices)
        recognizer = open_recognizer(self.model, mesh=mesh, color=self.color)
        benchmarks = read_benchmarks(self)
        _make_folder(self.out)
        results = {
            item.pairs.name: _verified(item, recognizer, self.flip, self.batch_size)
            for item in benchmarks
        }
        atomic_write_json(self.out / RESULT, summary(self, recognizer, results))
        _print_table(results)
        from hyperface_jax.reports.verification import write_verification_report

        write_verification_report(self.out, results)
        print(f"figures: {one_line(self.out)}")
        return 0


class Benchmark(NamedTuple):
    """A benchmark, and the file that it comes from."""

    path: Path
    pairs: VerificationSet


@dataclass(frozen=True)
class _Images:
    """The images of a benchmark, each with a name for errors."""

    pairs: VerificationSet
    names: Sequence[str]

    def read(self, index: int, /) -> bytes:
        return self.pairs.read(index)


def check_settings(config: Evaluate) -> None:
    """Refuse settings that cannot work, before any file is read."""
    from hyperface_jax.io.verification_files import refuse_equal_names

    if config.batch_size < 1:
        raise InputError(f"--batch-size {config.batch_size}: must be at least 1")
    if not config.benchmark:
        raise InputError("--benchmark: names no file; give one or more")
    refuse_equal_names("--benchmark", config.benchmark)
    if config.out.is_dir() and any(config.out.iterdir()) and not (config.out / RESULT).exists():
        raise InputError(
            f"--out {one_line(config.out)}: holds files of something else; choose an empty folder"
        )


def read_benchmarks(config: Evaluate) -> list[Benchmark]:
    """Read all benchmarks, so that a bad one is found before any work is done."""
    from hyperface_jax.io.verification_files import read_verification_set

    return [
        Benchmark(path, read_verification_set(path, config.images)) for path in config.benchmark
    ]


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_input_error(path, "cannot write", error) from error


def _verified(
    item: Benchmark, recognizer: Recognizer, flip: bool, batch_size: int
) -> dict[str, Any]:
    """Embed the images of a benchmark, and return its figures as plain values."""
    from hyperface_jax.cli.progress import ImageProgress
    from hyperface_jax.evaluation import verify
    from hyperface_jax.faces import extract
    from hyperface_jax.io.embeddings import file_sha256
    from hyperface_jax.reports.verification import verification_dict

    path, pairs = item
    images = _Images(pairs, [_image_name(path, i, x) for i, x in enumerate(pairs.images)])
    with ImageProgress(pairs.name, len(pairs.images)) as progress:
        extracted = extract(
            images,
            recognizer,
            batch_size=batch_size,
            flip=flip,
            is_strict=True,
            progress=progress.update,
        )
        seconds = progress.seconds
    if extracted.num_unaligned:
        warn(
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
        **verification_dict(result),
    }


def _image_name(path: Path, index: int, image: bytes | Path) -> str:
    return f"{path}: image {index}" if isinstance(image, bytes) else str(image)


def summary(
    config: Evaluate, recognizer: Recognizer, results: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Gather what evaluation.json holds."""
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


def _mean(results: dict[str, dict[str, Any]], name: str) -> float:
    return float(np.mean([result[name] for result in results.values()]))


def _print_table(results: dict[str, dict[str, Any]]) -> None:
    width = max(len(one_line(name)) for name in (*results, "benchmark"))
    heads = ("pairs", "accuracy %", f"TAR@{_SHOWN_FAR} %", "EER %", "AUC", "d'")
    print(f"{'benchmark':{width}}  " + "  ".join(f"{head:>14}" for head in heads))
    for name, result in results.items():
        cells = _cells(result)
        print(f"{one_line(name):{width}}  " + "  ".join(f"{cell:>14}" for cell in cells))
    if len(results) > 1:
        print(
            f"mean accuracy {100 * _mean(results, 'accuracy'):.3f} % over {len(results)} benchmarks"
        )


def _cells(result: dict[str, Any]) -> tuple[str, ...]:
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
