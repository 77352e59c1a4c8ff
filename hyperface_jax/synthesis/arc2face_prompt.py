"""Arc2Face's text encoder and its prompt "photo of a id person", with the word "id" replaced by a face.

The token embedding of "id" is replaced by the face, padded with zeros, and the causal text encoder
carries it to all later tokens. Some releases of transformers get this wrong without an error, so
:func:`check_encoder` tests both properties, and :func:`check_reference` compares with a stored result.
Some loaders silently fill in random numbers if a file lacks a tensor; :func:`load_network` does not.

References:
    Papantoniou et al., "Arc2Face: A Foundation Model for ID-Consistent Human Faces", ECCV 2024.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_save_npz, one_line, read_json
from hyperface_jax.io.torch_files import read_state_dict

if TYPE_CHECKING:
    import torch

    from hyperface_jax.io.files import StrPath

_PROMPT, _WORD = "photo of a id person", "id"
_NO_CHANGE = 1e-4
"""Share of the largest value below which a row of the prompt counts as unchanged."""
_TOLERANCE = 1e-3
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of layers in the published VAE, mapped to those in later releases of diffusers."""
_SHOWN = 3


class Reference(NamedTuple):
    """A face and its prompt embedding from an earlier run of the encoder.

    Attributes:
        face: unit embedding, float32 ``[d]``.
        prompt: prompt embedding of that face, float32 ``[77, hidden]``.
    """

    face: np.ndarray
    prompt: np.ndarray


def prompt_embeddings(tokenizer: Any, encoder: Any, faces: torch.Tensor) -> torch.Tensor:
    """Encode faces as prompts.

    Args:
        tokenizer: CLIP's tokenizer.
        encoder: a ``CLIPTextModel`` in float32.
        faces: embeddings ``[b, d]`` on the encoder's device, with d at most ``hidden``; they are
            normalized here.

    Returns:
        float32 ``[b, 77, hidden]``.

    Raises:
        InputError: d exceeds the encoder's hidden size, or "id" is not exactly one token of the prompt.
    """
    from torch.nn import functional

    hidden, dim = encoder.config.hidden_size, faces.shape[1]
    if dim > hidden:
        raise InputError(f"faces: {dim} dimensions; the text encoder takes at most {hidden}")
    tokens = _tokens(tokenizer, encoder, _PROMPT)
    place = _face_place(tokenizer, tokens)
    rows = functional.pad(functional.normalize(faces.float(), dim=1), (0, hidden - dim))

    def swap(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[:, place] = rows
        return output

    hook = encoder.get_input_embeddings().register_forward_hook(swap)
    try:
        return _encode(encoder, [tokens] * len(faces))
    finally:
        hook.remove()


def unconditional_embedding(tokenizer: Any, encoder: Any) -> torch.Tensor:
    """Encode the empty prompt, from which guidance steers away, as float32 ``[1, 77, hidden]``."""
    return _encode(encoder, [_tokens(tokenizer, encoder, "")])


def check_encoder(tokenizer: Any, encoder: Any, dim: int) -> None:
    """Check that a face affects the token "id" and all later tokens, but none before it.

    Args:
        tokenizer: CLIP's tokenizer.
        encoder: a ``CLIPTextModel`` in float32.
        dim: dimension of the faces.

    Raises:
        InputError: the check fails; the message names the release of transformers.
    """
    import torch
    import transformers

    faces = torch.randn(2, dim, generator=torch.Generator().manual_seed(0)).to(encoder.device)
    first, second = prompt_embeddings(tokenizer, encoder, faces)
    change = (first - second).abs().amax(dim=1) / first.abs().max()
    place = _face_place(tokenizer, _tokens(tokenizer, encoder, _PROMPT))
    version = f"transformers {transformers.__version__}"
    if not change[:place].max() <= _NO_CHANGE:
        raise InputError(
            f"{version}: its text encoder is not causal (words before the face see it); install "
            "another release"
        )
    if not change[place:].min() > _NO_CHANGE:
        raise InputError(
            f"{version}: the face does not reach the words after it; install another release, or "
            "download encoder/ again"
        )


def read_reference(path: StrPath) -> Reference | None:
    """Read a reference written by :func:`write_reference`; return None if there is no such file.

    Raises:
        InputError: the file is damaged or holds something else.
    """
    if not Path(path).exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = Reference(*(arrays[name].astype(np.float32) for name in Reference._fields))
    except Exception as error:  # damage makes NumPy raise nearly anything
        raise InputError(
            f"{one_line(path)}: not a reference, or damaged ({one_line(error)}); write it again or "
            "remove it"
        ) from error
    if found.face.ndim != 1 or found.prompt.ndim != 2:
        raise InputError(
            f"{one_line(path)}: face {found.face.shape} and prompt {found.prompt.shape}; [d] and "
            "[77, hidden] are needed"
        )
    return found


def check_reference(path: StrPath, tokenizer: Any, encoder: Any) -> None:
    """Compare the encoder with the reference at ``path``, if there is one.

    Raises:
        InputError: the file is damaged, or a value of the prompt differs by more than 1e-3.
    """
    import torch
    import transformers

    reference = read_reference(path)
    if reference is None:
        return
    face = torch.from_numpy(reference.face)[None].to(encoder.device)
    prompt = prompt_embeddings(tokenizer, encoder, face)[0].cpu().numpy()
    if prompt.shape != reference.prompt.shape:
        raise InputError(
            f"{one_line(path)}: prompt {reference.prompt.shape}; this encoder makes {prompt.shape}"
        )
    error = float(np.abs(prompt - reference.prompt).max())
    if not error <= _TOLERANCE:
        raise InputError(
            f"{one_line(path)}: the text encoder is off by {error:.2g} under transformers "
            f"{transformers.__version__}; install another release, or remove the file if encoder/ or "
            "tokenizer/ is new"
        )


def write_reference(path: StrPath, tokenizer: Any, encoder: Any, face: np.ndarray) -> None:
    """Store the prompt embedding of a face, for :func:`check_reference` on other machines.

    Args:
        path: ``reference.npz`` in the folder of Arc2Face.
        tokenizer: CLIP's tokenizer.
        encoder: a ``CLIPTextModel`` in float32 that is known to be correct.
        face: unit embedding, ``[d]``; a loaded model takes its condition dimension from here.

    Raises:
        InputError: the file cannot be written.
    """
    import torch

    face = np.asarray(face, np.float32)
    prompt = prompt_embeddings(tokenizer, encoder, torch.from_numpy(face)[None].to(encoder.device))
    atomic_save_npz(path, face=face, prompt=prompt[0].cpu().numpy())


def _tokens(tokenizer: Any, encoder: Any, text: str) -> list[int]:
    """Tokenize, and pad to the encoder's length."""
    length = encoder.config.max_position_embeddings
    return tokenizer(text, padding="max_length", max_length=length, truncation=True)["input_ids"]


def _face_place(tokenizer: Any, tokens: list[int]) -> int:
    word = tokenizer(_WORD, add_special_tokens=False)["input_ids"]
    if len(word) != 1 or tokens.count(word[0]) != 1:
        raise InputError(
            f"tokenizer: {_WORD!r} is {len(word)} tokens, but must be a single one that occurs once in "
            f"{_PROMPT!r}; use tokenizer/ of Stable Diffusion 1.5"
        )
    return tokens.index(word[0])


def _encode(encoder: Any, tokens: list[list[int]]) -> torch.Tensor:
    import torch

    with torch.no_grad():
        return encoder(input_ids=torch.tensor(tokens, device=encoder.device))[0]


def load_tokenizer(folder: Path) -> Any:
    """Load CLIP's tokenizer.

    Raises:
        InputError: the folder does not hold a CLIP tokenizer.
    """
    import transformers

    try:
        return transformers.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the Rust tokenizers raise their own types
        raise InputError(
            f"{one_line(folder)}: not a CLIP tokenizer ({one_line(error)}); download tokenizer/ of "
            "Stable Diffusion 1.5 again"
        ) from error


def load_network(library: str, kind: str, config: Path, weights: Path) -> Any:
    """Build a network from its configuration, and fill all its tensors from its weight file.

    Args:
        library: "diffusers" or "transformers".
        kind: name of the network's class in that library.
        config: the network's config.json.
        weights: a .safetensors or .bin file, which is read without running any code in it.

    Returns:
        The network in float32 on the CPU, for inference only.

    Raises:
        InputError: a file is damaged or of another kind, or the two files do not fit together.
    """
    settings = read_json(config)
    found = settings.get("_class_name") or settings.get("model_type")
    needed = "clip_text_model" if library == "transformers" else kind
    if found != needed:
        raise InputError(f"{one_line(config)}: is of {found}; {needed} is needed")
    network: Any = getattr(importlib.import_module(library), kind)
    try:
        if library == "transformers":
            model = network(network.config_class.from_dict(settings))
        else:
            model = network.from_config(settings)
    except Exception as error:  # a bad setting makes the layers raise nearly anything
        raise InputError(
            f"{one_line(config)}: cannot build {kind} ({one_line(error)}); download it again"
        ) from error
    _fill(model, weights)
    return model.float().eval().requires_grad_(False)


def _fill(model: Any, path: Path) -> None:
    """Fill all tensors of the model from the file, which may use the names of any release."""
    import torch

    named = {_usual_name(key): (key, tensor) for key, tensor in model.state_dict().items()}
    stored = {
        _usual_name(key): array
        for key, array in read_state_dict(path).items()
        if not key.endswith("position_ids")
    }
    common = named.keys() & stored.keys()
    faults = {
        "missing": named.keys() - common,
        "unknown": stored.keys() - common,
        "of another shape": {k for k in common if named[k][1].shape != stored[k].shape},
    }
    if any(faults.values()):
        lists = [f"{len(keys)} {word} ({_first(keys)})" for word, keys in faults.items() if keys]
        raise InputError(
            f"{one_line(path)}: tensors do not fit its config.json: {', '.join(lists)}; download both "
            "again"
        )
    floats = {
        named[key][0]: torch.from_numpy(np.require(stored[key], np.float32, "W")) for key in common
    }
    model.load_state_dict(floats)


def _usual_name(key: str) -> str:
    """Return the name of a tensor in transformers 5 and in diffusers 0.15 or later."""
    old = "|".join(_OLD_ATTENTION)
    pattern = rf"(attentions\.\d+)\.({old})\."
    key = re.sub(pattern, lambda match: f"{match[1]}.{_OLD_ATTENTION[match[2]]}.", key)
    return key.removeprefix("text_model.")


def _first(keys: Iterable[str]) -> str:
    shown = sorted(keys)
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")
