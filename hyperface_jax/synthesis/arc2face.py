"""Arc2Face, a diffusion model that draws the face of an ArcFace embedding.

It is Stable Diffusion 1.5 with a UNet and a text encoder that were fine-tuned on faces. The denoising
loop is implemented here, so the images do not depend on the pipelines of a diffusers release.

References:
    Papantoniou et al., "Arc2Face: A Foundation Model for ID-Consistent Human Faces", ECCV 2024.
    Luo et al., "LCM-LoRA: A Universal Stable-Diffusion Acceleration Module", 2023.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.files import one_line, read_json
from hyperface_jax.io.torch_files import read_state_dict
from hyperface_jax.synthesis.arc2face_adapter import WEIGHTS as ADAPTER
from hyperface_jax.synthesis.arc2face_adapter import (
    chosen_rows,
    load_adapter,
    read_adapter_inputs,
)
from hyperface_jax.synthesis.arc2face_prompt import (
    check_encoder,
    check_reference,
    load_network,
    load_tokenizer,
    prompt_embeddings,
    read_reference,
    unconditional_embedding,
)
from hyperface_jax.synthesis.negatives import branches, guide

if TYPE_CHECKING:
    import torch

    from hyperface_jax.synthesis.negatives import Negatives

Scheduler = Literal["dpm", "ddim", "lcm"]
Dtype = Literal["float32", "float16", "bfloat16"]

_SCHEDULERS = {
    "dpm": "DPMSolverMultistepScheduler",
    "ddim": "DDIMScheduler",
    "lcm": "LCMScheduler",
}
_LORA_KEY = re.compile(r"lora[._](A|down)\.")
_DTYPES = ("float32", "float16", "bfloat16")
_DIFFUSERS_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_TRANSFORMERS_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, kw_only=True)
class Arc2FaceConfig:
    """Locations of the parts of Arc2Face, and settings for drawing.

    Args:
        arc2face: folder with ``arc2face/`` (UNet) and ``encoder/`` (text encoder), as published.
        base: folder of Stable Diffusion 1.5 with ``vae/``, ``scheduler/`` and ``tokenizer/``; None if
            these are in the folder ``arc2face``.
        steps: number of denoising steps.
        guidance: scale of classifier-free guidance; 1 or less turns it off and is twice as fast.
        scheduler: "dpm" for DPM-Solver++ (2M), "ddim" for DDIM, or "lcm" for latent consistency models.
        dtype: type of the UNet and the decoder; None uses float16 on a GPU and float32 elsewhere.
            Prompts and scheduler steps are always float32.
        device: PyTorch's name of the device; None uses a GPU if there is one.
        lcm_lora: LCM-LoRA, as a .safetensors file or its folder, for 2 to 4 steps of "lcm" with
            guidance 1.
        tiny_vae: folder of an ``AutoencoderTiny`` (TAESD) to use as the decoder.
        adapter: weights of an adapter in the layout of IP-Adapter, such as the expression adapter of
            Arc2Face, or the folder of its ``exp_adapter.bin``.
        adapter_inputs: file with the vectors that the adapter is told, ``[k, p]``; each image gets the
            one that its noise chooses.
        adapter_scale: weight of the adapter.
        compile: whether to compile the UNet.
        channels_last: whether to use the channels-last memory layout.

    Raises:
        InputError: a value is out of range.
    """

    arc2face: Path
    base: Path | None = None
    steps: int = 25
    guidance: float = 3.0
    scheduler: Scheduler = "dpm"
    dtype: Dtype | None = None
    device: str | None = None
    lcm_lora: Path | None = None
    tiny_vae: Path | None = None
    adapter: Path | None = None
    adapter_inputs: Path | None = None
    adapter_scale: float = 1.0
    compile: bool = False
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"steps={self.steps}: must be 1 or more")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise InputError(f"guidance={self.guidance}: must be 0 or more")
        if self.scheduler not in _SCHEDULERS:
            raise InputError(f"scheduler={self.scheduler!r}: must be dpm, ddim or lcm")
        if self.dtype not in (None, *_DTYPES):
            raise InputError(f"dtype={self.dtype!r}: must be {', '.join(_DTYPES)}")
        if (self.adapter is None) != (self.adapter_inputs is None):
            raise InputError("`adapter` and `adapter_inputs` go together: give both or neither")
        if self.adapter is None and self.adapter_scale != 1:
            raise InputError("`adapter_scale` is for `adapter`: give that too, or drop it")
        if not (math.isfinite(self.adapter_scale) and self.adapter_scale >= 0):
            raise InputError(f"`adapter_scale={self.adapter_scale}`: must be 0 or more")


class _Unwanted(NamedTuple):
    """The prompts that guidance leads away from, and the weight of the negatives among them."""

    prompts: list[torch.Tensor]
    weight: float


class _Wanted(NamedTuple):
    """The prompts of the faces, and what the adapter is told of each; None without an adapter."""

    prompts: torch.Tensor
    inputs: torch.Tensor | None


class Arc2Face:
    """A :class:`~hyperface_jax.synthesis.generators.GuidedGenerator` that draws with Arc2Face.

    Args:
        config: locations of its parts, and settings for drawing.

    Attributes:
        condition_dim: dimension of the condition: that of the face in the folder's ``reference.npz``,
            or 512 if there is no such file.
        tokenizer: CLIP's tokenizer.
        encoder: the text encoder, in float32.

    Raises:
        InputError: a library or a part is missing, a file is incomplete or damaged, the parts do not
            fit together, or the text encoder lacks a property that Arc2Face relies on.
    """

    condition_dim: int = 512

    def __init__(self, config: Arc2FaceConfig) -> None:
        _require_libraries(config)
        files = _find_files(config)
        self._config = config
        self._device, self._dtype = _device_and_dtype(config)
        self._scheduler = _make_scheduler(config, files["scheduler"])
        self._load_encoder(files)
        self._vae = _load(
            "AutoencoderTiny" if config.tiny_vae else "AutoencoderKL", files, "decoder"
        )
        self._unet = _load("UNet2DConditionModel", files, "unet")
        self.noise_shape = _noise_shape(self._unet, self._vae, self.encoder, files)
        self.image_size = self.noise_shape[1] * 2 ** (len(self._vae.config.block_out_channels) - 1)
        if config.lcm_lora:
            _merge_lora(self._unet, self._vae, files["lora"])
        self._adapter_inputs = None
        if config.adapter:
            load_adapter(self._unet, files["adapter"], config.adapter_scale)
            self._adapter_inputs = read_adapter_inputs(files["adapter inputs"], self._unet)
        self._nobody = None
        if config.guidance > 1:
            self._nobody = unconditional_embedding(self.tokenizer, self.encoder)
        self.digest = _digest(files, self._settings())
        self._place()

    @property
    def name(self) -> str:
        """Name in the manifest and on the card."""
        config = self._config
        extras = [word for word in ("lcm_lora", "tiny_vae", "adapter") if getattr(config, word)]
        drawn = f"{config.scheduler}, {config.steps} steps, guidance {config.guidance:g}"
        return f"Arc2Face ({', '.join([drawn, *extras])})"

    @property
    def takes_negatives(self) -> bool:
        """Whether guidance is on."""
        return self._config.guidance > 1

    def __call__(
        self, conditions: np.ndarray, noise: np.ndarray, /, negatives: Negatives | None = None
    ) -> np.ndarray:
        """Draw images.

        Args:
            conditions: unit embeddings, float32 ``[b, condition_dim]``.
            noise: standard normal latents, float32 ``[b, *noise_shape]``.
            negatives: what guidance leads away from. A weight between 0 and 1 takes half as much time
                again, as the UNet runs three times for an image and step instead of twice.

        Returns:
            uint8 RGB, ``[b, image_size, image_size, 3]``.

        Raises:
            InputError: an array has the wrong shape, or an image is not finite.
        """
        import torch

        expected = ((len(noise), self.condition_dim), (len(noise), *self.noise_shape))
        if (conditions.shape, noise.shape) != expected:
            raise InputError(
                f"conditions {conditions.shape} and noise {noise.shape}: this Arc2Face needs "
                f"{expected[0]} and {expected[1]}"
            )
        if negatives is not None and negatives.conditions.shape != expected[0]:
            raise InputError(
                f"negatives {negatives.conditions.shape}: this Arc2Face needs {expected[0]}"
            )
        rows = np.ascontiguousarray(noise, np.float32)
        # Compiled modules may not save tensors that were made in inference mode.
        with torch.no_grad() if self._config.compile else torch.inference_mode():
            faces = self._tensor(conditions)
            prompts = prompt_embeddings(self.tokenizer, self.encoder, faces)
            unwanted = self._unwanted(prompts, negatives)
            wanted = _Wanted(prompts, self._inputs(rows))
            generators = [_own_generator(r) for r in rows]
            latents = self._denoise(wanted, unwanted, self._tensor(rows), generators)
            return self._decode(latents)

    def _load_encoder(self, files: dict[str, Path]) -> None:
        """Load the text encoder, first because it is small and may fail its checks before the UNet."""
        reference_path = self._config.arc2face / "reference.npz"
        if reference := read_reference(reference_path):
            self.condition_dim = len(reference.face)
        self.tokenizer = load_tokenizer(files["tokenizer vocabulary"].parent)
        self.encoder = _load("CLIPTextModel", files, "encoder").to(self._device)
        if self.condition_dim > self.encoder.config.hidden_size:
            raise InputError(
                f"{one_line(files['encoder config'])}: hidden_size {self.encoder.config.hidden_size} "
                f"is below the {self.condition_dim} of a face; use Arc2Face's encoder"
            )
        check_encoder(self.tokenizer, self.encoder, self.condition_dim)
        check_reference(reference_path, self.tokenizer, self.encoder)

    def _place(self) -> None:
        """Move the networks to their device and type, and compile the UNet if requested."""
        import torch

        config = self._config
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        # The networks' own `to` warns about parts to keep in float32, although they have none.
        move: Any = torch.nn.Module.to
        for network in (self._unet, self._vae):
            move(network, self._device, self._dtype, memory_format=layout)
        if config.compile:
            self._unet = torch.compile(self._unet, fullgraph=True)

    def _settings(self) -> dict[str, Any]:
        config = self._config
        adapter = {"adapter_scale": float(config.adapter_scale)} if config.adapter else {}
        return {
            "steps": config.steps,
            "guidance": float(config.guidance),
            "scheduler": config.scheduler,
            "dtype": str(self._dtype),
            **adapter,
        }

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.array(array, np.float32)).to(self._device)

    def _inputs(self, noise: np.ndarray) -> torch.Tensor | None:
        """Return what the adapter is told of each image, ``[b, p]``."""
        if self._adapter_inputs is None:
            return None
        rows = chosen_rows(noise, len(self._adapter_inputs))
        return self._tensor(self._adapter_inputs[rows])

    def _unwanted(self, prompts: torch.Tensor, negatives: Negatives | None) -> _Unwanted:
        """Return the prompts that guidance leads away from; none if it is off."""
        if self._nobody is None:
            return _Unwanted([], 0.0)
        nobody = self._nobody.expand_as(prompts)
        if negatives is None or negatives.weight == 0:
            return _Unwanted([nobody], 0.0)
        faces = self._tensor(negatives.conditions)
        others = prompt_embeddings(self.tokenizer, self.encoder, faces)
        return _Unwanted(branches(nobody, others, negatives.weight), negatives.weight)

    def _denoise(
        self,
        wanted: _Wanted,
        unwanted: _Unwanted,
        latents: torch.Tensor,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        scheduler = self._scheduler
        scheduler.set_timesteps(self._config.steps, device=self._device)
        latents = latents * scheduler.init_noise_sigma
        for step in scheduler.timesteps:
            scaled = scheduler.scale_model_input(latents, step)
            noise = self._predict(scaled, step, wanted, unwanted)
            latents, *_ = scheduler.step(
                noise, step, latents, generator=generators, return_dict=False
            )
        return latents

    def _predict(
        self,
        latents: torch.Tensor,
        step: torch.Tensor,
        wanted: _Wanted,
        unwanted: _Unwanted,
    ) -> torch.Tensor:
        """Predict the noise in the latents, with guidance if it is on."""
        import torch

        if not unwanted.prompts:
            return self._run_unet(latents, step, *wanted)
        every, inputs = [*unwanted.prompts, wanted.prompts], wanted.inputs
        num = len(every)
        if inputs is not None:
            inputs = torch.cat([torch.zeros_like(inputs)] * (num - 1) + [inputs])
        noises = self._run_unet(torch.cat([latents] * num), step, torch.cat(every), inputs)
        noises = noises.chunk(num)
        return guide(noises, guidance=self._config.guidance, weight=unwanted.weight)

    def _run_unet(self, latents: Any, step: Any, prompts: Any, inputs: Any) -> torch.Tensor:
        latents, prompts = latents.to(self._dtype), prompts.to(self._dtype)
        more: dict[str, Any] = {}
        if inputs is not None:
            more["added_cond_kwargs"] = {"image_embeds": [inputs[:, None].to(self._dtype)]}
        return self._unet(latents, step, prompts, return_dict=False, **more)[0].float()

    def _decode(self, latents: torch.Tensor) -> np.ndarray:
        import torch

        latents = (latents / self._vae.config.scaling_factor).to(self._dtype)
        pixels = self._vae.decode(latents, return_dict=False)[0].float()
        if not torch.isfinite(pixels).all():
            raise InputError(
                f"dtype={str(self._dtype).removeprefix('torch.')}: an image is not a number; use "
                "bfloat16 or float32"
            )
        levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _own_generator(noise: np.ndarray) -> torch.Generator:
    """Seed a generator by the noise of one image, so that its draws depend on no other image."""
    import torch

    seed = hashlib.sha256(noise.tobytes()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(seed, "little") >> 1)


def _require_libraries(config: Arc2FaceConfig) -> None:
    for name in ("torch", "diffusers", "transformers", *(["peft"] if config.lcm_lora else [])):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(
                f"Arc2Face needs {error.name or name}; pip install '.[synthesis]' in a checkout"
            ) from error


_GIVEN = {"lora": "lcm_lora", "adapter": "adapter", "adapter inputs": "adapter_inputs"}
"""Settings that name the files of a role themselves."""


def _find_files(config: Arc2FaceConfig) -> dict[str, Path]:
    """Find the file for each role, such as "unet weights".

    The names of the roles go into the digest, but the paths do not.
    """
    top, base = config.arc2face, config.base or config.arc2face
    wanted = {
        **_network("unet", top / "arc2face", _DIFFUSERS_WEIGHTS),
        **_network("encoder", top / "encoder", _TRANSFORMERS_WEIGHTS),
        **_network("decoder", config.tiny_vae or base / "vae", _DIFFUSERS_WEIGHTS),
        "scheduler": [base / "scheduler" / "scheduler_config.json"],
        "tokenizer vocabulary": [base / "tokenizer" / "vocab.json"],
        "tokenizer merges": [base / "tokenizer" / "merges.txt"],
    }
    if lora := config.lcm_lora:
        wanted["lora"] = [lora / "pytorch_lora_weights.safetensors" if lora.is_dir() else lora]
    if (adapter := config.adapter) and (inputs := config.adapter_inputs):
        wanted["adapter"] = [adapter / ADAPTER if adapter.is_dir() else adapter]
        wanted["adapter inputs"] = [inputs]
    found = {role: next(filter(Path.is_file, paths), None) for role, paths in wanted.items()}
    for role, name in _GIVEN.items():
        if role in wanted and found[role] is None:
            given = one_line(getattr(config, name))
            raise InputError(f"`{name}={given}`: lacks {one_line(wanted[role][0])}")
    if missing := [one_line(wanted[role][0]) for role, path in found.items() if path is None]:
        raise InputError(
            f"{one_line(top)}: incomplete Arc2Face, lacks {', '.join(missing)}; download arc2face/ and "
            "encoder/ of Arc2Face there, and vae/, scheduler/ and tokenizer/ of Stable Diffusion 1.5 "
            "next to them or into base"
        )
    files = {role: path for role, path in found.items() if path is not None}
    if lora and files["lora"].suffix != ".safetensors":
        raise InputError(f"{one_line(files['lora'])}: not a .safetensors file; convert it to one")
    return files


def _network(role: str, folder: Path, weights: tuple[str, ...]) -> dict[str, list[Path]]:
    files = [folder / name for name in weights]
    return {f"{role} config": [folder / "config.json"], f"{role} weights": files}


def _device_and_dtype(config: Arc2FaceConfig) -> tuple[torch.device, torch.dtype]:
    import torch

    device = config.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={device!r}: {one_line(error)}; use cpu or cuda") from error
    on_cpu = torch.device(device).type == "cpu"
    return torch.device(device), getattr(
        torch, config.dtype or ("float32" if on_cpu else "float16")
    )


def _make_scheduler(config: Arc2FaceConfig, path: Path) -> Any:
    import diffusers

    kind = getattr(diffusers, _SCHEDULERS[config.scheduler])
    settings = read_json(path)
    algorithm = settings.get("algorithm_type", "")
    if "sde" in algorithm:
        raise InputError(
            f"{one_line(path)}: {algorithm} draws noise at every step; use scheduler/ of Stable "
            "Diffusion 1.5"
        )
    try:
        scheduler = kind.from_config(settings)
        scheduler.set_timesteps(config.steps)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"{one_line(path)}: {config.scheduler} in {config.steps} steps: {one_line(error)}; use "
            "another number of steps, or scheduler/ of Stable Diffusion 1.5"
        ) from error
    return scheduler


def _load(kind: str, files: dict[str, Path], role: str) -> Any:
    library = "transformers" if role == "encoder" else "diffusers"
    return load_network(library, kind, files[f"{role} config"], files[f"{role} weights"])


def _merge_lora(unet: Any, vae: Any, path: Path) -> None:
    """Add the low-rank updates to the weights of the UNet."""
    diffusers: Any = importlib.import_module("diffusers")
    num_updates = sum(bool(_LORA_KEY.search(key)) for key in read_state_dict(path))
    none = ("text_encoder", "tokenizer", "scheduler", "safety_checker", "feature_extractor")
    try:
        pipeline = diffusers.StableDiffusionPipeline(
            vae=vae, unet=unet, requires_safety_checker=False, **dict.fromkeys(none)
        )
        # The pipeline has no text encoder and would warn about that.
        pipeline.load_lora_into_text_encoder = lambda *args, **settings: None
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
        num_changed = sum(hasattr(layer, "lora_A") for layer in unet.modules())
        unet.fuse_lora(safe_fusing=True)
        unet.unload_lora()
    except Exception as error:  # diffusers, peft and safetensors raise nearly anything
        raise InputError(
            f"{one_line(path)}: not a LoRA for this UNet ({one_line(error)}); use lcm-lora-sdv1-5"
        ) from error
    if num_changed != num_updates or not num_updates:
        raise InputError(
            f"{one_line(path)}: only {num_changed} of its {num_updates} updates fit this UNet; use "
            "lcm-lora-sdv1-5"
        )


def _noise_shape(unet: Any, vae: Any, encoder: Any, files: dict[str, Path]) -> tuple[int, ...]:
    """Return the shape of the latents, after checking that the networks fit together."""
    latent, width = vae.config.latent_channels, encoder.config.hidden_size
    wanted = {"in_channels": latent, "out_channels": latent, "cross_attention_dim": width}
    for field, value in wanted.items():
        if unet.config[field] != value:
            raise InputError(
                f"{one_line(files['unet config'])}: {field} {unet.config[field]}; the decoder and "
                f"encoder need {value}"
            )
    size = unet.config.sample_size
    if not isinstance(size, int):
        raise InputError(f"{one_line(files['unet config'])}: sample_size {size}; give one number")
    return latent, size, size


def _digest(files: dict[str, Path], settings: dict[str, Any]) -> str:
    content = {role: file_sha256(path) for role, path in files.items()}
    return hashlib.sha256(json.dumps([content, settings], sort_keys=True).encode()).hexdigest()
