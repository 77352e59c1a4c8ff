"""``hyperface synthesize``: settings and their checks. The work itself is in :mod:`.synthesize_run`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from hyperface_jax.errors import InputError

if TYPE_CHECKING:
    from hyperface_jax.synthesis import Variation


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """Draw face images of packed embeddings with a generator, as a data set for hyperface train.

    Run the same command again to resume, or on several machines or GPUs at once with one --out: each
    takes shards that no other has. torchrun and Slurm arrays are recognized.
    """

    embeddings: Path
    """File of embeddings, or run directory of hyperface pack."""
    generator: str
    """Folder of an Arc2Face model, or module:name of a generator in Python."""
    out: Path
    """Folder of the data set: shards/ or images/, manifest.parquet, README.md, contact_sheet.png."""
    images_per_id: int = 64
    """Images an identity."""
    num_ids: int | None = None
    """Use the first so many identities. Default: all."""
    beta: float = 0.01
    """Standard deviation of the Gaussian that moves the embedding before it is normalized."""
    min_cosine: float | None = None
    """Draw conditions uniformly among those at least so close to the embedding, instead."""
    cap_share: float | None = None
    """Share of the images drawn by --min-cosine, the others by --beta. Default: all, if it is given."""
    seed: int = 0
    """Seed of all noise."""
    batch_size: int = 16
    """Images the generator draws at once."""
    shard_size: int = 1000
    """Images a shard: what is lost at most when a worker is killed."""
    format: Literal["webdataset", "folder"] = "webdataset"
    """.tar shards, or one folder an identity."""
    image_format: Literal["png", "jpg", "webp"] = "png"
    """Of the images."""
    quality: int = 95
    """Of jpg and webp, 1 to 100."""
    crop: str = "center"
    """none, center (the largest square), or an SCRFD .onnx whose landmarks align the face."""
    face_size: int = 112
    """Height and width of a cut out face, pixels; --crop none leaves the generator's."""
    originals: bool = False
    """Keep the generator's images too, in originals/."""
    recognizer: Path | None = None
    """Recognizer of the gallery, as for embed: measure how close each face comes to its target."""
    color: Literal["rgb", "bgr"] | None = None
    """Channel order of the recognizer's training. Default: that of its variant; rgb for .onnx."""
    min_target_cosine: float | None = None
    """Drop a face further from its target than this."""
    max_attempts: int = 3
    """Tries at a face that is not found or too far from its target."""
    license: str = "other"
    """License that the card names for the data set."""
    base: Path | None = None
    """Arc2Face: Stable Diffusion 1.5, if it is not in the same folder."""
    steps: int | None = None
    """Arc2Face: denoising steps. Default: 25, or 4 with --lcm-lora."""
    guidance: float | None = None
    """Arc2Face: guidance scale. Default: 3, or 1 with --lcm-lora."""
    scheduler: Literal["dpm", "ddim", "lcm"] | None = None
    """Arc2Face: sampler. Default: dpm, or lcm with --lcm-lora."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Arc2Face: precision. Default: float16 on a GPU, float32 elsewhere."""
    device: str | None = None
    """Arc2Face: torch device. Default: the GPU of this worker, if there is one."""
    lcm_lora: Path | None = None
    """Arc2Face: LCM-LoRA weights, for 2 to 4 steps."""
    tiny_vae: Path | None = None
    """Arc2Face: a tiny decoder (TAESD) instead of the VAE."""
    compile: bool = False
    """Arc2Face: torch.compile the denoiser."""
    channels_last: bool = False
    """Arc2Face: channels-last memory, faster on GPUs."""
    silent: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show no progress."""

    def run(self) -> int:
        """Check the settings, then draw."""
        self.check()
        try:
            from hyperface_jax.cli.synthesize_run import synthesize

            return synthesize(self)
        except ImportError as error:
            needed = "pip install 'hyperface_jax[synthesis]'"
            raise InputError(f"synthesis needs {error.name}: {needed}") from error

    def check(self) -> None:
        """Refuse settings that cannot work."""
        for name in ("images_per_id", "batch_size", "shard_size", "face_size", "max_attempts"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"--{name.replace('_', '-')} {getattr(self, name)}: must be 1 or more"
                )
        if self.num_ids is not None and self.num_ids < 1:
            raise InputError(f"--num-ids {self.num_ids}: must be 1 or more")
        if not 1 <= self.quality <= 100:
            raise InputError(f"--quality {self.quality}: must be between 1 and 100")
        if self.min_target_cosine is not None and self.recognizer is None:
            raise InputError("--min-target-cosine needs --recognizer, which measures the cosine")
        if self.color is not None and self.recognizer is None:
            raise InputError(f"--color {self.color}: is that of --recognizer; give that too")
        if self.cap_share is not None and self.min_cosine is None:
            raise InputError("--cap-share needs --min-cosine, which says how wide the cap is")
        self.variation()

    def variation(self) -> Variation:
        """Return how conditions differ from the embeddings."""
        from hyperface_jax.synthesis import Variation

        if self.min_cosine is None:
            return Variation(beta=self.beta)
        share = 1.0 if self.cap_share is None else self.cap_share
        return Variation(beta=self.beta, min_cosine=self.min_cosine, cap_share=share)
