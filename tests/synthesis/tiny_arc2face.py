"""A random Arc2Face of 16 pixels, in the folders and files of the published one."""

import json

import diffusers
import numpy as np
import torch
import transformers

from hyperface_jax.synthesis.arc2face_prompt import write_reference

FACE_DIM, HIDDEN = 32, 64
WORDS = ("photo", "of", "a", "id", "person")
PNDM = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}


def write_tiny_arc2face(path, *, seed=0, hidden=HIDDEN, face_dim=FACE_DIM, image_size=16):
    """Write the model into one folder, with a reference.npz that tells its ``face_dim``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        write_tokenizer(path / "tokenizer")
        encoder = make_encoder(hidden)
        encoder.save_pretrained(path / "encoder")
        make_unet(hidden, image_size // 2).save_pretrained(path / "arc2face")
        make_vae(image_size).save_pretrained(path / "vae")
    (path / "scheduler").mkdir(exist_ok=True)
    (path / "scheduler" / "scheduler_config.json").write_text(json.dumps(PNDM))
    tokenizer = transformers.CLIPTokenizer.from_pretrained(str(path / "tokenizer"))
    face = np.eye(1, face_dim, dtype=np.float32)[0]
    write_reference(path / "reference.npz", tokenizer, encoder, face)
    return path


def write_tokenizer(path, words=WORDS):
    """Write a byte-pair tokenizer that has each of ``words`` as one token."""
    letters = [chr(code) for code in range(33, 127)]
    vocab, merges = [*letters, *(letter + "</w>" for letter in letters)], []
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts[:2] = [parts[0] + parts[1]]
            vocab.append(parts[0])
    vocab = [*dict.fromkeys(vocab), "<|startoftext|>", "<|endoftext|>"]
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    path.mkdir(parents=True, exist_ok=True)
    (path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocab)}))
    (path / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]) + "\n")
    (path / "tokenizer_config.json").write_text(json.dumps(settings))


def make_encoder(hidden=HIDDEN):
    settings = transformers.CLIPTextConfig(
        vocab_size=256,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=hidden,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
        initializer_factor=5.0,
    )
    return transformers.CLIPTextModel(settings).eval()


def make_unet(hidden=HIDDEN, size=8):
    unet = diffusers.UNet2DConditionModel(
        sample_size=size,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 32),
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=hidden,
        attention_head_dim=8,
    )
    # Random weights hardly heed the prompt.
    for name, tensor in unet.state_dict().items():
        if "attn2.to_out" in name or "attn2.to_v" in name:
            tensor.mul_(8)
    return unet


def make_vae(image_size=16):
    return diffusers.AutoencoderKL(
        block_out_channels=(16, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=image_size,
        scaling_factor=0.18215,
    )


def write_tiny_vae(path, *, seed=0):
    """Write an ``AutoencoderTiny`` that fits the model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = diffusers.AutoencoderTiny(
            encoder_block_out_channels=(16, 16),
            decoder_block_out_channels=(16, 16),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        )
        vae.save_pretrained(path)
    return path


INPUTS = 55


def write_tiny_adapter(path, kind="IP-Adapter", *, seed=0, width=INPUTS, num_layers=4):
    """Write an adapter for the model, as the authors of IP-Adapter save theirs.

    The projection of kind "IP-Adapter" is one layer, that of "FaceID" two.
    """
    make = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=make) / shape[-1] ** 0.5

    tokens = 4 * HIDDEN
    layers = {
        "IP-Adapter": {"proj": (tokens, width)},
        "FaceID": {"proj.0": (2 * width, width), "proj.2": (tokens, 2 * width)},
    }[kind]
    projection = {f"{name}.weight": 2 * random(*shape) for name, shape in layers.items()}
    projection |= {f"{name}.bias": random(shape[0]) for name, shape in layers.items()}
    projection |= {"norm.weight": torch.ones(HIDDEN), "norm.bias": torch.zeros(HIDDEN)}
    attention = {
        f"{2 * i + 1}.to_{word}_ip.weight": 8 * random(32, HIDDEN)
        for i in range(num_layers)
        for word in "kv"
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"image_proj": projection, "ip_adapter": attention}, path)
    return path


def diffusers_pipeline(folder, scheduler):
    """Return the pipeline of diffusers over the networks of a folder, which takes prompts as vectors."""
    pipeline = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL.from_pretrained(str(folder / "vae")),
        unet=diffusers.UNet2DConditionModel.from_pretrained(str(folder / "arc2face")),
        scheduler=scheduler,
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
