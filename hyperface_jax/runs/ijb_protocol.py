"""The ``ijb`` stage: it measures a recognizer on IJB-B or IJB-C, 1:1 and 1:N."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hyperface_jax.errors import InputError, require
from hyperface_jax.evaluation import TemplateSums, identify, verify_templates
from hyperface_jax.faces import extract
from hyperface_jax.faces.image_sets import ImageFolder
from hyperface_jax.io.claims import refuse_foreign
from hyperface_jax.io.files import atomic_write_json, one_line, read_json
from hyperface_jax.io.ijb_files import IMAGES, read_ijb_faces, read_searches, read_template_pairs
from hyperface_jax.runs.support.described_embeddings import make_folder
from hyperface_jax.runs.support.recognizers import open_on_devices
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import option
from hyperface_jax.runs.support.versions import versions
from hyperface_jax.runs.support.watch import QUIET, Watch

if TYPE_CHECKING:
    from hyperface_jax.evaluation import Templates
    from hyperface_jax.faces import Recognizer
    from hyperface_jax.io.ijb_files import IjbFaces, Subjects, TemplatePairs

    Searches = tuple[dict[str, Subjects], Subjects] | None

RESULT = "ijb.json"

_CHUNK_BATCHES = 32
_SHOWN_FARS = ("1e-06", "1e-05", "1e-04", "1e-03")
_PACKAGES = ("hyperface_jax", "jax", "jaxlib", "flax", "onnxruntime", "numpy", "scipy", "pillow")


@dataclass(frozen=True, kw_only=True)
class Ijb:
    """Measure a recognizer on IJB-B or IJB-C, as insightface ships them.

    FOLDER holds the faces in loose_crop and the lists in meta. The faces are aligned by their listed
    landmarks. Pairs of templates are verified (1:1), and people are searched in each gallery whose list
    is there (1:N).
    """

    folder: Path = option(is_positional=True)
    """Folder of one benchmark, such as IJBC."""
    model: Path
    """Recognizer: the folder of a training run, a .pt, .pth, .ckpt or .safetensors file of an IR
    network, or an .onnx file."""
    out: Path
    """Folder for ijb.json."""
    images: Path | None = None
    """Folder of the faces. Default: loose_crop in FOLDER."""
    flip: bool = True
    """Add the embedding of the mirrored image to that of the image, as in the published protocol."""
    norms: bool = True
    """Weight each face by the norm of its embedding, as in the published protocol."""
    detector_scores: bool = True
    """Weight each face by its listed detector score, as in the published protocol."""
    color: Literal["rgb", "bgr"] | None = option(None, aliases=("colour",))
    """Channel order that the model was trained with. Default: that of its variant, or what an .onnx file
    states, else rgb."""
    batch_size: int = option(256, group="machine")
    """Number of images per batch, across all devices."""
    devices: int | None = option(None, group="machine")
    """Number of devices to split each batch across. Default: all. An .onnx file runs where onnxruntime
    decides."""


def ijb(config: Ijb, *, watch: Watch = QUIET) -> Result:
    """Measure a recognizer on IJB-B or IJB-C.

    Args:
        config: the settings.
        watch: receives messages and progress.

    Returns:
        The contents of ``ijb.json``, the folder, and a table of the main figures.

    Raises:
        InputError: a setting or a file cannot be used.
    """
    require(config, [("batch_size", config.batch_size >= 1, "at least 1")])
    refuse_foreign(config.out, RESULT)
    recognizer = open_on_devices(
        config.model, config.devices, color=config.color, watch=watch, field="model"
    )
    faces = read_ijb_faces(config.folder)
    pairs, searches = read_template_pairs(config.folder), read_searches(config.folder)
    if searches is None:
        watch.say(f"{one_line(config.folder)}: has no lists for 1:N; 1:1 only")
    make_folder(config.out)
    start = time.monotonic()
    templates = embed_templates(config, faces, recognizer, watch)
    seconds = time.monotonic() - start
    figures = measure(templates, pairs, searches, watch=watch)
    circumstances = {
        "benchmark": faces.name,
        "model": config.model,
        "model_sha256": recognizer.digest,
        "color": recognizer.color,
        "is_flip_fused": config.flip,
        "is_weighted_by_norm": config.norms,
        "is_weighted_by_detector": config.detector_scores,
        "num_faces": len(faces.names),
        "num_templates": len(templates.ids),
        "seconds": seconds,
        "versions": versions(*_PACKAGES),
    }
    atomic_write_json(config.out / RESULT, {**circumstances, **figures})
    text = "\n".join([*_table(figures), f"figures: {one_line(config.out)}"])
    return Result(config.out, read_json(config.out / RESULT), text)


def embed_templates(
    config: Ijb, faces: IjbFaces, recognizer: Recognizer, watch: Watch
) -> Templates:
    """Embed all faces, and fuse them into templates a part at a time.

    Raises:
        InputError: a face cannot be read.
    """
    root = config.folder / IMAGES if config.images is None else config.images
    sums = TemplateSums(faces.template_ids, faces.media_ids)
    marks: Mapping[str, np.ndarray] = dict(zip(faces.names, faces.landmarks, strict=True))
    size, num_faces = _CHUNK_BATCHES * config.batch_size, len(faces.names)
    with watch.progress(faces.name, "images", num_faces) as update:
        for start in range(0, num_faces, size):
            part = slice(start, start + size)
            found = extract(
                ImageFolder(root, faces.names[part]),
                recognizer,
                batch_size=config.batch_size,
                landmarks=marks,
                flip=config.flip,
                is_strict=True,
            )
            weights = found.norms if config.norms else np.ones_like(found.norms)
            weights = weights * faces.scores[part] if config.detector_scores else weights
            sums.add(start, found.embeddings * weights[:, None])
            update(min(start + size, num_faces))
    return sums.templates()


def measure(
    templates: Templates, pairs: TemplatePairs, searches: Searches, *, watch: Watch = QUIET
) -> dict[str, Any]:
    """Return the figures of 1:1 verification and, for each gallery, of 1:N identification.

    Args:
        templates: the templates.
        pairs: the pairs of 1:1 verification.
        searches: the galleries and the probes of 1:N identification; None leaves it out.
        watch: receives the progress.

    Raises:
        InputError: a list names a template without a face.
    """
    with watch.progress("comparing templates", "pairs", len(pairs.is_same)) as update:
        separation = verify_templates(templates, *pairs, progress=update)
    found: dict[str, Any] = {"verification": separation.summary(), "identification": None}
    if searches is None:
        return found
    galleries, probes = searches
    rows, people = _rows(templates, probes, "the probes")
    results = {}
    for name, gallery in galleries.items():
        known = _rows(templates, gallery, f"gallery {name}")
        results[name] = dataclasses.asdict(identify(rows, people, *known))
    return {**found, "identification": results}


def _rows(templates: Templates, subjects: Subjects, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings of listed templates, and their persons."""
    ids = subjects.template_ids
    places = np.minimum(np.searchsorted(templates.ids, ids), len(templates.ids) - 1)
    lacking = ids[templates.ids[places] != ids]
    if lacking.size:
        raise InputError(
            f"{what}: {lacking.size} templates have no face, the first is {lacking[0]}; take all files "
            "from one archive"
        )
    return templates.embeddings[places], subjects.subject_ids


def _table(figures: dict[str, Any]) -> list[str]:
    rates = figures["verification"]["tar_at_far"]
    shown = (f"TAR@{far} {_percent(rates[far])}" for far in _SHOWN_FARS)
    lines = [f"1:1  {figures['verification']['num_genuine']} genuine pairs  {'  '.join(shown)}"]
    for name, result in (figures["identification"] or {}).items():
        ranks = [f"rank {k} {_percent(rate)}" for k, rate in result["rank_rates"].items()]
        open_set = [f"TPIR@{r:.0e} {_percent(v)}" for r, v in result["tpir_at_fpir"].items()]
        lines.append(f"1:N  gallery {name}  {'  '.join([*ranks, *open_set])}")
    return lines


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.2f} %"
