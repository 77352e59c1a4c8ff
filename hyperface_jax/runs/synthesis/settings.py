"""Settings of a synthesis, and what they exclude."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hyperface_jax.errors import InputError
from hyperface_jax.runs.support.settings import changed, option, require

RENAMED = {"recognizer_colour": "recognizer_color"}
"""Settings as data sets of earlier versions call them, and what they are called now."""
RESPELLED = {"crop": {"centre": "center"}}
"""Values as earlier versions spelled them, by the setting, and how they are spelled now."""


@dataclass(frozen=True, kw_only=True)
class Arc2FaceOptions:
    """How Arc2Face draws, where the generator is the folder of a model."""

    base: Path | None = option(None, metavar="FOLDER")
    """Stable Diffusion 1.5, if it is not in the folder of Arc2Face."""
    steps: int | None = None
    """Denoising steps. Default: 25, or 4 with lcm-lora."""
    guidance: float | None = None
    """Guidance scale. Default: 3, or 1 with lcm-lora."""
    scheduler: Literal["dpm", "ddim", "lcm"] | None = None
    """Sampler. Default: dpm, or lcm with lcm-lora."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Precision. Default: float16 on a GPU, float32 elsewhere."""
    device: str | None = None
    """Device of torch. Default: the GPU of this worker, if there is one."""
    lcm_lora: Path | None = option(None, metavar="FILE|FOLDER")
    """LCM-LoRA weights, for 2 to 4 steps."""
    tiny_vae: Path | None = option(None, metavar="FOLDER")
    """A tiny decoder (TAESD) that replaces the VAE."""
    compile: bool = False
    """Compile the denoiser with torch.compile."""
    channels_last: bool = False
    """Keep channels last in memory, which is faster on GPUs."""


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """Draw face images of packed embeddings with a generator, as a data set to train on.

    Run the same command again to resume, or on several machines or GPUs at once with one out: each takes
    shards that no other has. torchrun and Slurm arrays are recognized.
    """

    embeddings: Path
    """File of embeddings, or run directory of a packing."""
    generator: str = option(metavar="FOLDER|MODULE:NAME")
    """Folder of an Arc2Face model, or module:name of a generator in Python."""
    out: Path
    """Folder of the data set: shards/ or images/, manifest.parquet, README.md, contact_sheet.png."""
    seed: int = 0
    """Seed of all noise."""
    batch_size: int = 16
    """Images that the generator draws at once."""
    images_per_id: int = option(64, group="images")
    """Images of each identity."""
    num_ids: int | None = option(None, group="images")
    """Use only the first so many identities. Default: all."""
    beta: float = option(0.01, group="images")
    """Standard deviation of the Gaussian noise that is added to an embedding before it is normalized."""
    min_cosine: float | None = option(None, group="images")
    """Draw conditions uniformly among those whose cosine to the embedding is at least this, instead."""
    cap_share: float | None = option(None, group="images")
    """Share of the images that are drawn by min-cosine; the others are drawn by beta. Default: all, if
    min-cosine is given."""
    crop: str = option("center", group="face", metavar="none|center|FILE")
    """none, center (the largest square), or an SCRFD .onnx whose landmarks align the face."""
    face_size: int = option(112, group="face")
    """Height and width of a face that is cut out, in pixels; with crop none, images keep their size."""
    max_attempts: int = option(3, group="face")
    """Tries at a face that is not found, is of one color, or is too far from its target."""
    recognizer: Path | None = option(None, group="recognizer", metavar="FILE|FOLDER")
    """Recognizer of the gallery, as for embed: it measures how close each face comes to its target."""
    color: Literal["rgb", "bgr"] | None = option(None, group="recognizer", aliases=("colour",))
    """Channel order of the recognizer's training. Default: that of its variant; rgb for .onnx."""
    min_target_cosine: float | None = option(None, group="recognizer")
    """Drop a face whose cosine to its target is below this."""
    format: Literal["webdataset", "folder"] = option("webdataset", group="files")
    """.tar shards, or one folder for each identity."""
    shard_size: int = option(1000, group="files")
    """Images in a shard, which are lost at most when a worker is killed."""
    image_format: Literal["png", "jpg", "webp"] = option("png", group="files")
    """Format of the images."""
    quality: int = option(95, group="files")
    """Quality of jpg and webp, 1 to 100."""
    originals: bool = option(False, group="files")
    """Keep the generator's images too, in originals/."""
    license: str = option("other", group="files")
    """License that the card names for the data set."""
    arc2face: Arc2FaceOptions = option(Arc2FaceOptions(), group="Arc2Face")
    """How Arc2Face draws."""

    def __post_init__(self) -> None:
        crop = RESPELLED["crop"].get(self.crop, self.crop)
        object.__setattr__(self, "crop", crop)


def check_settings(config: Synthesize) -> None:
    """Refuse settings that cannot work, before any file is read."""
    _check_numbers(config)
    if config.min_target_cosine is not None and config.recognizer is None:
        raise InputError("`min_target_cosine` needs `recognizer`, which measures the cosine")
    if config.color is not None and config.recognizer is None:
        raise InputError(f"`color={config.color}`: is that of `recognizer`; give that too")
    if config.cap_share is not None and config.min_cosine is None:
        raise InputError("`cap_share` needs `min_cosine`, which says how wide the cap is")
    _refuse_ignored(config)


def _check_numbers(config: Synthesize) -> None:
    counts = ("images_per_id", "batch_size", "shard_size", "face_size", "max_attempts")
    checks = [(name, getattr(config, name) >= 1, "1 or more") for name in counts]
    checks += [
        ("num_ids", config.num_ids is None or config.num_ids >= 1, "1 or more"),
        ("quality", 1 <= config.quality <= 100, "between 1 and 100"),
        ("seed", -(2**63) <= config.seed < 2**63, "between -2^63 and 2^63 - 1"),
    ]
    require(config, checks)


def _refuse_ignored(config: Synthesize) -> None:
    """Refuse what would change nothing."""
    given = changed(config)
    if "quality" in given and config.image_format == "png":
        raise InputError("`quality` changes nothing with `image_format=png`: drop it, or use jpg")
    if "face_size" in given and config.crop == "none":
        raise InputError("`face_size` changes nothing with `crop=none`: drop one of them")
    if config.cap_share == 0:
        raise InputError("`min_cosine` changes nothing with `cap_share=0`: drop both")
    is_cap_alone = config.min_cosine is not None and config.cap_share in (None, 1)
    if "beta" in given and is_cap_alone:
        raise InputError(
            "`beta` changes nothing where `min_cosine` draws all images: drop it, or give a "
            "`cap_share` below 1"
        )
