"""Settings of a synthesis, and checks of which settings go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hyperface_jax.errors import InputError, require
from hyperface_jax.runs.support.settings import changed, option

RENAMED = {"recognizer_colour": "recognizer_color"}
"""Names of settings in data sets of earlier versions, and their current names."""
RESPELLED = {"crop": {"centre": "center"}}
"""For each setting, spellings of values in earlier versions, and their current spellings."""


@dataclass(frozen=True, kw_only=True)
class Arc2FaceOptions:
    """Options of Arc2Face, for a generator that is the folder of a model."""

    base: Path | None = option(None, metavar="FOLDER")
    """Folder of Stable Diffusion 1.5, if it is not in the folder of Arc2Face."""
    steps: int | None = None
    """Number of denoising steps. Default: 25, or 4 with lcm-lora."""
    guidance: float | None = None
    """Scale of classifier-free guidance. Default: 3, or 1 with lcm-lora."""
    scheduler: Literal["dpm", "ddim", "lcm"] | None = None
    """Sampler. Default: dpm, or lcm with lcm-lora."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Precision of the computation. Default: float16 on a GPU, float32 elsewhere."""
    device: str | None = None
    """PyTorch device. Default: the GPU of this worker, if there is one."""
    lcm_lora: Path | None = option(None, metavar="FILE|FOLDER")
    """LCM-LoRA weights, which make 2 to 4 denoising steps enough."""
    tiny_vae: Path | None = option(None, metavar="FOLDER")
    """Folder of a tiny decoder (TAESD) to use instead of the VAE."""
    adapter: Path | None = option(None, metavar="FILE|FOLDER")
    """Adapter of pose, expression or another attribute in the layout of IP-Adapter, such as the
    exp_adapter of Arc2Face. Needs adapter-inputs."""
    adapter_inputs: Path | None = option(None, metavar="FILE")
    """FILE with the vectors that the adapter is told, one per row, such as the 55 expression parameters
    that SMIRK measures. The noise of an image chooses its row."""
    adapter_scale: float | None = None
    """Weight of the adapter. Default: 1."""
    compile: bool = False
    """Compile the denoiser with torch.compile."""
    channels_last: bool = False
    """Keep channels last in memory, which is faster on GPUs."""


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """Draw face images of packed embeddings with a generator, as a data set to train on.

    Run the same command again to resume. To share the work, run it on several machines or GPUs at once
    with the same out folder: each worker takes shards that no other worker has taken. Jobs of torchrun
    and Slurm arrays are recognized.
    """

    embeddings: Path
    """File of embeddings, or run directory of a packing."""
    generator: str = option(metavar="FOLDER|MODULE:NAME")
    """Folder of an Arc2Face model, or a Python generator, given as module:name."""
    out: Path
    """Folder for the data set: shards/ or images/, manifest.parquet, README.md, contact_sheet.png."""
    seed: int = 0
    """Random seed for all noise."""
    batch_size: int = 16
    """Number of images to draw at once."""
    images_per_id: int = option(64, group="images")
    """Number of images for each identity."""
    num_ids: int | None = option(None, group="images")
    """Number of identities to use, counted from the first. Default: all."""
    beta: float = option(0.01, group="images")
    """Standard deviation of the Gaussian noise that is added to an embedding before normalization."""
    min_cosine: float | None = option(None, group="images")
    """Instead of adding noise, draw conditions uniformly among those that have at least this cosine to
    the embedding."""
    cap_share: float | None = option(None, group="images")
    """Share of the images that use min-cosine to draw their conditions; the other images use beta.
    Default: 1 if min-cosine is given."""
    negatives: float = option(0.0, group="images", metavar="WEIGHT")
    """How much guidance leads away from the nearest other identity, from 0 to 1. 0: only from faces of
    nobody in particular, as usual. 1: only from that identity. Needs a generator with guidance."""
    crop: str = option("center", group="face", metavar="none|center|FILE")
    """How to cut out the face. none: keep the whole image. center: cut out the largest square. FILE: the
    .onnx file of an SCRFD detector, whose landmarks align the face."""
    face_size: int = option(112, group="face")
    """Height and width of the face that is cut out, in pixels. With crop none, images keep their
    size."""
    max_attempts: int = option(3, group="face")
    """Number of attempts to draw an image. An image is drawn again if no face is found in it, if it is a
    single color, or if it is too far from its target."""
    recognizer: Path | None = option(None, group="recognizer", metavar="FILE|FOLDER")
    """The recognizer that embedded the gallery, in any form that embed takes. It measures how close each
    face comes to its target."""
    color: Literal["rgb", "bgr"] | None = option(None, group="recognizer", aliases=("colour",))
    """Channel order that the recognizer was trained with. Default: that of its variant, or what an
    .onnx file states, else rgb."""
    min_target_cosine: float | None = option(None, group="recognizer")
    """Smallest cosine to the target that a face must reach. Faces below it are dropped."""
    format: Literal["webdataset", "folder"] = option("webdataset", group="files")
    """Layout of the data set. webdataset: .tar shards. folder: one folder for each identity."""
    shard_size: int = option(1000, group="files")
    """Number of images in a shard. A worker that is killed loses at most this many images."""
    image_format: Literal["png", "jpg", "webp"] = option("png", group="files")
    """File format of the images."""
    quality: int = option(95, group="files")
    """Quality of jpg and webp images, from 1 to 100."""
    originals: bool = option(False, group="files")
    """Also keep the images as the generator draws them, in originals/."""
    license: str = option("other", group="files")
    """License of the data set, to be named in its card."""
    arc2face: Arc2FaceOptions = option(Arc2FaceOptions(), group="Arc2Face")
    """Options of Arc2Face."""

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
        ("negatives", 0 <= config.negatives <= 1, "between 0 and 1"),
        ("quality", 1 <= config.quality <= 100, "between 1 and 100"),
        ("seed", -(2**63) <= config.seed < 2**63, "between -2^63 and 2^63 - 1"),
    ]
    require(config, checks)


def _refuse_ignored(config: Synthesize) -> None:
    """Refuse settings that would have no effect."""
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
