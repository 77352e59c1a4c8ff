"""The card of a data set, a README.md with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hyperface_jax.io.files import atomic_write_text, one_line

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath
    from hyperface_jax.synthesis.shards import Format

CARD = "README.md"
ARC2FACE_LICENSES: Mapping[str, str] = MappingProxyType(
    {"Arc2Face": "MIT", "Stable Diffusion 1.5": "CreativeML OpenRAIL-M"}
)
"""Licenses of Arc2Face and of the model that it is based on."""

_TAGS = ("face-recognition", "synthetic", "hyperface")
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")
_USES = """\
Intended uses: training and studying face recognition without photographs of people.

Unintended uses: making decisions about people, identifying people in production without tests on the
population concerned, or presenting the images as photographs of real people. The faces reflect the
training data of the generator and the recognizer, including its biases. A face may resemble a real
person, especially one in the training data: measure the leakage, as described below, before calling the
data anonymous."""

_LEAKAGE = """\
When this card was written, it had not been measured how close the faces come to those in the training
data. To measure it, embed the photographs that the generator was trained on, TRAINING, {faces}, and
search for the most similar pairs:

    hyperface embed TRAINING --recognizer RECOGNIZER --out training.npz
{embed}    hyperface leakage --embeddings {embeddings} --against training.npz --out leakage
"""

_SHARDS = """\
    hyperface train --data PATH/shards

or, in Python,

    import webdataset
    data = webdataset.WebDataset("PATH/shards/{pattern}")
    data = data.decode("pil").to_tuple("png;jpg;webp", "cls")
"""

_FOLDERS = """\
    hyperface train --data PATH/images

or use any reader of a folder for each identity, such as `torchvision.datasets.ImageFolder`.
"""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """The facts that a card states.

    Args:
        title: name of the data set.
        license: license of the data set in the Hub's spelling, such as "cc-by-nc-4.0".
        format: format of the images, as in :class:`~hyperface_jax.synthesis.shards.DataSet`.
        num_shards: number of .tar files; ignored for folders.
        command: command that made the data set.
        settings: settings that the data set was made with, including digests.
        versions: versions of the software by name.
        licenses: licenses of the parts by name, such as ``ARC2FACE_LICENSES`` and the recognizer's.
        summary: the result of :func:`~hyperface_jax.synthesis.manifest.summarize`.
        has_embeddings: whether the data set holds the embeddings of its faces.
    """

    title: str
    license: str
    format: Format
    num_shards: int
    command: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    licenses: Mapping[str, str]
    summary: Mapping[str, Any]
    has_embeddings: bool = False


def write_card(folder: StrPath, facts: CardFacts) -> Path:
    """Write the card atomically.

    Args:
        folder: folder of the data set.
        facts: the facts that the card states.

    Returns:
        The path of the card.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(folder) / CARD
    atomic_write_text(path, card_text(facts))
    return path


def card_text(facts: CardFacts) -> str:
    """Return the card as Markdown."""
    title = one_line(facts.title)
    sections = {
        "How it was made": _origin(facts),
        "Licenses": _licenses(facts),
        "Uses": _USES,
        "Leakage": _leakage(facts),
        "How to load it": _loading(facts),
    }
    body = "\n\n".join(f"## {name}\n\n{text.rstrip()}" for name, text in sections.items())
    return f"{_front_matter(facts)}\n# {title}\n\n{_overview(facts.summary)}\n\n{body}\n"


def size_category(num_images: int) -> str:
    """Return the size category in the Hub's notation.

    Examples:
        >>> size_category(999), size_category(1000), size_category(640_000)
        ('n<1K', '1K<n<10K', '100K<n<1M')
    """
    place = max(0, len(str(num_images)) - 3)
    if place == 0:
        return "n<1K"
    if place >= len(_SIZES):
        return "n>1B"
    return f"{_SIZES[place - 1]}<n<{_SIZES[place]}"


def _front_matter(facts: CardFacts) -> str:
    """Return YAML, in which strings and lists may be JSON as long as it has no surrogate pairs."""
    is_tar = facts.format == "webdataset"
    # Without the data files, the Hub would read the manifest as images.
    data = {"split": "train", "path": "shards/*.tar" if is_tar else "images/*/*"}
    fields = {
        "license": facts.license,
        "pretty_name": one_line(facts.title),
        "tags": [*_TAGS, "webdataset" if is_tar else "imagefolder"],
        "size_categories": [size_category(facts.summary["num_images"])],
        "configs": [{"config_name": "default", "data_files": [data]}],
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    return "\n".join(["---", *lines, "---", ""])


def _overview(summary: Mapping[str, Any]) -> str:
    text = (
        f"{summary['num_images']:,} synthetic face images of {summary['num_identities']:,} identities. "
        "Each identity is a point on the sphere of face embeddings, placed far from the others "
        "(HyperFace); a generator drew its images from embeddings close to that point.\n\n"
        f"{summary['num_rejected']:,} images were dropped, because they had a single color "
        f"({summary['num_flat']:,}), no face was found, or the face was too far from its point. "
        f"{summary['num_short_identities']:,} identities have fewer images than planned."
    )
    return "\n\n".join([text, *filter(None, [_cosines(summary)])])


def _cosines(summary: Mapping[str, Any]) -> str:
    """Return a table of the available quantiles, or an empty string if there are none."""
    names = {
        "condition_cosine": "condition to point",
        "target_cosine": "face, as embedded by the recognizer, to point",
    }
    found = {text: summary[name] for name, text in names.items() if summary[name]}
    if not found:
        return ""
    levels = list(next(iter(found.values())))
    rows = [["Cosine, quantiles", *levels], ["---", *["---:"] * len(levels)]]
    rows += [[text, *(f"{row[level]:.3f}" for level in levels)] for text, row in found.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _origin(facts: CardFacts) -> str:
    settings = json.dumps(facts.settings, indent=2, sort_keys=True, ensure_ascii=False)
    parts = [
        _indented(one_line(facts.command)),
        "Settings and digests, which are also in `dataset.json` and in the metadata of "
        "`manifest.parquet`, a table with one row for each image:",
        _indented(settings),
        "Versions:",
        _bullets(facts.versions),
    ]
    return "\n\n".join(parts)


def _licenses(facts: CardFacts) -> str:
    return (
        f"License of this data set: {one_line(facts.license)}. It was made with:\n\n"
        f"{_bullets(facts.licenses)}\n\n"
        "The terms of the data that the generator and the recognizer were trained on may also restrict "
        "its use."
    )


def _leakage(facts: CardFacts) -> str:
    """Say how to measure the leakage, with the paths of this data set."""
    if facts.has_embeddings:
        faces = "with the recognizer of this data set"
        return _LEAKAGE.format(faces=faces, embed="", embeddings="PATH")
    images, lines = "PATH/images", []
    if facts.format == "webdataset":
        images = "faces"
        unpack = 'for shard in PATH/shards/*.tar; do tar -xf "$shard" -C faces; done'
        lines = ["mkdir faces", unpack]
    lines.append(f"hyperface embed {images} --recognizer RECOGNIZER --out faces.npz")
    faces = "and the faces with one recognizer"
    embed = "".join(f"    {line}\n" for line in lines)
    return _LEAKAGE.format(faces=faces, embed=embed, embeddings="faces.npz")


def _loading(facts: CardFacts) -> str:
    if facts.format == "folder":
        return _FOLDERS
    return _SHARDS.format(pattern=f"shard-{{000000..{facts.num_shards - 1:06d}}}.tar")


def _bullets(items: Mapping[str, Any]) -> str:
    return "\n".join(f"- {one_line(name)}: {one_line(text)}" for name, text in items.items())


def _indented(text: str) -> str:
    """Return an indented code block, which nothing in ``text`` can end early."""
    return "\n".join(f"    {line}" for line in text.splitlines())
