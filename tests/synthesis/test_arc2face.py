import json
import pickle
import runpy
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.synthesis import Negatives
from hyperface_jax.synthesis.arc2face import Arc2Face, Arc2FaceConfig
from hyperface_jax.synthesis.arc2face_prompt import (
    check_encoder,
    prompt_embeddings,
    unconditional_embedding,
    write_reference,
)

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

tiny = types.SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tiny_arc2face.py"))))

UNET = "arc2face/diffusion_pytorch_model.safetensors"
ENCODER = "encoder/model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_tiny_arc2face(tmp_path_factory.mktemp("arc2face"))


@pytest.fixture
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def config(folder, **settings):
    return Arc2FaceConfig(**{"arc2face": folder, "steps": 3, "device": "cpu", **settings})


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def draws(num, seed=0):
    rng = np.random.default_rng(seed)
    conditions = unit(rng.normal(size=(num, tiny.FACE_DIM))).astype(np.float32)
    return conditions, rng.normal(size=(num, 4, 8, 8)).astype(np.float32)


def off_by(first, second):
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def edit(path, change):
    tensors = safetensors.load_file(path)
    change(tensors)
    safetensors.save_file(tensors, path, metadata={"format": "pt"})


def refusal(folder, **settings):
    with pytest.raises(InputError) as caught:
        Arc2Face(config(folder, **settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tokens_by_hand(folder, words=tiny.WORDS):
    vocab = json.loads((folder / "tokenizer" / "vocab.json").read_text())
    tokens = [vocab[word] for word in ["<|startoftext|>", *(f"{word}</w>" for word in words)]]
    return tokens + [vocab["<|endoftext|>"]] * (77 - len(tokens))


def prompts_by_hand(encoder, tokens, faces, num_heads=4):
    """Repeat the published procedure in float64; ``faces`` None leaves the words alone."""
    functional = torch.nn.functional
    weights = {k.removeprefix("text_model."): v.double() for k, v in encoder.state_dict().items()}

    def linear(x, name):
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x, name):
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return functional.layer_norm(x, weight.shape, weight, bias, encoder.config.layer_norm_eps)

    def heads(x):
        return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)

    words = weights["embeddings.token_embedding.weight"][torch.tensor(tokens)]
    x = words.repeat(1 if faces is None else len(faces), 1, 1)
    if faces is not None:
        x[:, 4] = 0
        x[:, 4, : faces.shape[1]] = torch.from_numpy(faces).double()
    x = x + weights["embeddings.position_embedding.weight"]
    mask = torch.full((77, 77), -torch.inf, dtype=torch.float64).triu(1)
    for layer in (f"encoder.layers.{i}" for i in range(encoder.config.num_hidden_layers)):
        y = norm(x, f"{layer}.layer_norm1")
        query, key, value = (heads(linear(y, f"{layer}.self_attn.{k}_proj")) for k in "qkv")
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + mask
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        x = x + linear(mixed, f"{layer}.self_attn.out_proj")
        y = linear(norm(x, f"{layer}.layer_norm2"), f"{layer}.mlp.fc1")
        x = x + linear(y * torch.sigmoid(1.702 * y), f"{layer}.mlp.fc2")
    return norm(x, "final_layer_norm")


@pytest.fixture(params=["eager", "sdpa"])
def text_parts(request, folder):
    tokenizer = transformers.CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
    encoder = transformers.CLIPTextModel.from_pretrained(
        str(folder / "encoder"), attn_implementation=request.param
    )
    return tokenizer, encoder.eval()


@pytest.mark.parametrize("num", [1, 4])
def test_prompts_are_those_of_the_published_procedure(folder, text_parts, num):
    faces = draws(num)[0]
    prompts = prompt_embeddings(*text_parts, torch.from_numpy(faces))
    expected = prompts_by_hand(text_parts[1], tokens_by_hand(folder), faces)
    assert prompts.shape == (num, 77, tiny.HIDDEN)
    assert prompts.dtype == torch.float32
    np.testing.assert_allclose(prompts.numpy(), expected.numpy(), atol=1e-5)


def test_faces_are_made_unit_and_leave_no_hook_behind(text_parts):
    faces = torch.from_numpy(draws(2)[0])
    prompts = prompt_embeddings(*text_parts, faces)
    torch.testing.assert_close(prompt_embeddings(*text_parts, 7 * faces), prompts)
    assert not text_parts[1].get_input_embeddings()._forward_hooks


def test_faces_above_the_hidden_size_are_refused(text_parts):
    with pytest.raises(InputError, match="65 dimensions"):
        prompt_embeddings(*text_parts, torch.ones(1, 65))


@pytest.mark.parametrize(
    "words", [("photo", "of", "a", "person"), ("photo", "of", "a", "i", "person")]
)
def test_a_tokenizer_without_the_word_id_is_refused(copy, words):
    tiny.write_tokenizer(copy / "tokenizer", words)
    assert "tokenizer: 'id' is 2 tokens" in refusal(copy)


def test_the_unconditional_prompt_is_that_of_the_empty_text(folder, text_parts):
    expected = prompts_by_hand(text_parts[1], tokens_by_hand(folder, ()), None)
    prompt = unconditional_embedding(*text_parts)
    np.testing.assert_allclose(prompt.numpy(), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(("guidance", "num_empty"), [(3.0, 1), (1.0, 0)])
def test_the_unconditional_prompt_is_encoded_once_and_only_for_guidance(
    folder, monkeypatch, guidance, num_empty
):
    seen = []
    forward = transformers.CLIPTextModel.forward

    def spy(self, *args, **kwargs):
        seen.extend(kwargs["input_ids"][:, 1].tolist())
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(transformers.CLIPTextModel, "forward", spy)
    model = Arc2Face(config(folder, guidance=guidance))
    model(*draws(2))
    model(*draws(3))
    end = json.loads((folder / "tokenizer" / "vocab.json").read_text())["<|endoftext|>"]
    assert seen.count(end) == num_empty


@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize(
    ("scheduler", "kind"), [("dpm", "DPMSolverMultistepScheduler"), ("ddim", "DDIMScheduler")]
)
def test_images_are_those_of_the_pipeline_of_diffusers(folder, scheduler, kind, guidance):
    conditions, noise = draws(3)
    model = Arc2Face(config(folder, scheduler=scheduler, guidance=guidance, steps=6))
    prompts = prompts_by_hand(model.encoder, tokens_by_hand(folder), conditions).float()
    empty = prompts_by_hand(model.encoder, tokens_by_hand(folder, ()), None).float()
    published = diffusers.PNDMScheduler.from_pretrained(str(folder), subfolder="scheduler")
    pipeline = tiny.diffusers_pipeline(
        folder, getattr(diffusers, kind).from_config(published.config)
    )
    images = pipeline(
        prompt_embeds=prompts,
        negative_prompt_embeds=empty.expand_as(prompts),
        latents=torch.from_numpy(noise),
        num_inference_steps=6,
        guidance_scale=guidance,
        height=16,
        width=16,
        output_type="np",
    ).images
    assert off_by(model(conditions, noise), np.rint(images * 255)) <= 1


def unet_batches(monkeypatch):
    """Return a list that receives the batch size of each call of a UNet."""
    seen = []
    forward = diffusers.UNet2DConditionModel.forward

    def spy(self, x, *args, **kwargs):
        seen.append(len(x))
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(diffusers.UNet2DConditionModel, "forward", spy)
    return seen


def denoised_by_hand(model, folder, conditions, noise, away):
    """Denoise with DDIM and guidance away from prompts, a UNet call for each, in three steps."""
    published = diffusers.PNDMScheduler.from_pretrained(str(folder), subfolder="scheduler")
    scheduler = diffusers.DDIMScheduler.from_config(published.config)
    scheduler.set_timesteps(3)
    unet = diffusers.UNet2DConditionModel.from_pretrained(str(folder / "arc2face"))
    vae = diffusers.AutoencoderKL.from_pretrained(str(folder / "vae"))
    prompts = prompts_by_hand(model.encoder, tokens_by_hand(folder), conditions).float()
    x = torch.from_numpy(noise)
    with torch.inference_mode():
        for step in scheduler.timesteps:
            wanted, unwanted = (unet(x, step, rows).sample for rows in (prompts, away))
            x = scheduler.step(unwanted + 3 * (wanted - unwanted), step, x).prev_sample
        pixels = vae.decode(x / vae.config.scaling_factor).sample
    return np.rint((pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255)


def test_negatives_of_no_weight_change_no_bit(folder):
    model = Arc2Face(config(folder, scheduler="ddim"))
    conditions, noise = draws(3)
    plain = model(conditions, noise)
    empty = prompts_by_hand(model.encoder, tokens_by_hand(folder, ()), None).float()
    by_hand = denoised_by_hand(model, folder, conditions, noise, empty.repeat(3, 1, 1))
    assert off_by(plain, by_hand) <= 1
    away = Negatives(conditions=conditions[::-1], weight=0)
    np.testing.assert_array_equal(model(conditions, noise, negatives=away), plain)


def test_negatives_of_full_weight_stand_where_nobody_stood(folder):
    model = Arc2Face(config(folder, scheduler="ddim"))
    assert model.takes_negatives
    conditions, noise = draws(3)
    away = Negatives(conditions=conditions[[1, 2, 0]], weight=1)
    images = model(conditions, noise, negatives=away)
    others = prompts_by_hand(model.encoder, tokens_by_hand(folder), away.conditions).float()
    assert off_by(images, denoised_by_hand(model, folder, conditions, noise, others)) <= 1
    assert off_by(images, model(conditions, noise)) > 3
    for row in range(3):
        own = np.array([row])
        alone = model(conditions[own], noise[own], negatives=away.of(own))
        assert off_by(alone, images[own]) <= 1


def test_negatives_of_half_weight_are_mixed_with_nobody(folder, monkeypatch):
    model = Arc2Face(config(folder, scheduler="ddim", steps=1))
    # With one step and no decoder, the latents are linear in the weight.
    monkeypatch.setattr(model, "_decode", lambda latents: latents.numpy())
    conditions, noise = draws(3)
    none, half, full = (
        model(
            conditions, noise, negatives=Negatives(conditions=conditions[[1, 2, 0]], weight=weight)
        )
        for weight in (0, 0.5, 1)
    )
    np.testing.assert_allclose(half, (none + full) / 2, atol=1e-4)
    assert np.abs(none - full).max() > 1e-2


@pytest.mark.parametrize(("weight", "num"), [(0.0, 2), (0.5, 3), (1.0, 2)])
def test_a_branch_without_weight_is_not_evaluated(folder, monkeypatch, weight, num):
    seen = unet_batches(monkeypatch)
    conditions, noise = draws(2)
    away = Negatives(conditions=conditions[::-1], weight=weight)
    Arc2Face(config(folder))(conditions, noise, negatives=away)
    assert seen == [2 * num] * 3


def test_negatives_without_guidance_or_of_another_shape_are_not_taken(folder):
    assert not Arc2Face(config(folder, guidance=1.0)).takes_negatives
    conditions, noise = draws(2)
    away = Negatives(conditions=conditions[:1], weight=0.5)
    with pytest.raises(InputError, match=r"negatives \(1, 32\): this Arc2Face needs \(2, 32\)"):
        Arc2Face(config(folder))(conditions, noise, negatives=away)


@pytest.mark.parametrize(
    "settings", [{}, {"scheduler": "ddim"}, {"scheduler": "lcm", "guidance": 1.0}]
)
def test_an_image_depends_on_its_own_rows_alone(folder, settings):
    model = Arc2Face(config(folder, **settings))
    conditions, noise = draws(7)
    images = model(conditions, noise)
    assert images.shape == (7, 16, 16, 3)
    assert images.dtype == np.uint8
    assert images.std() > 20
    order = np.array([4, 0, 6, 5, 1, 3, 2])
    parts = [model(conditions[rows], noise[rows]) for rows in np.split(order, [1, 3])]
    assert off_by(np.concatenate(parts), images[order]) <= 1
    np.testing.assert_array_equal(model(conditions, noise), images)


@pytest.mark.parametrize("scheduler", ["dpm", "lcm"])
def test_images_follow_both_condition_and_noise(folder, scheduler):
    model = Arc2Face(config(folder, scheduler=scheduler))
    conditions, noise = draws(4)
    images = model(conditions, noise)
    assert off_by(model(conditions[::-1], noise), images) > 3
    assert off_by(model(conditions, noise[::-1]), images) > 20


def test_lcm_draws_noise_that_no_global_seed_moves(folder):
    model = Arc2Face(config(folder, scheduler="lcm", guidance=1.0))
    torch.manual_seed(1)
    first = model(*draws(2))
    torch.manual_seed(2)
    np.testing.assert_array_equal(model(*draws(2)), first)


def test_noise_within_the_sampling_differs_from_image_to_image(folder, monkeypatch):
    seeds = []
    step = diffusers.LCMScheduler.step

    def spy(*args, generator, **settings):
        seeds.append([one.initial_seed() for one in generator])
        return step(*args, generator=generator, **settings)

    monkeypatch.setattr(diffusers.LCMScheduler, "step", spy)
    conditions, noise = draws(3)
    Arc2Face(config(folder, scheduler="lcm"))(conditions, noise[[0, 1, 0]])
    first, second, third = seeds[0]
    assert first == third != second


def test_a_model_tells_its_shapes_and_name(folder):
    model = Arc2Face(config(folder))
    assert model.noise_shape == (4, 8, 8)
    assert (model.image_size, model.condition_dim) == (16, tiny.FACE_DIM)
    assert model.name == "Arc2Face (dpm, 3 steps, guidance 3)"


def test_arrays_of_other_shapes_are_refused(folder):
    model = Arc2Face(config(folder))
    conditions, noise = draws(2)
    for rows in [(conditions[:, 1:], noise), (conditions, noise[:1]), (conditions, noise[:, :3])]:
        with pytest.raises(InputError, match=r"this Arc2Face needs \(\d, 32\) and \(\d, 4, 8, 8\)"):
            model(*rows)


def test_the_base_may_lie_in_another_folder(folder, copy, tmp_path):
    expected = Arc2Face(config(folder))
    base = tmp_path / "base"
    base.mkdir()
    for part in ("vae", "scheduler", "tokenizer"):
        (copy / part).rename(base / part)
    model = Arc2Face(config(copy, base=base))
    assert model.digest == expected.digest
    np.testing.assert_array_equal(model(*draws(2)), expected(*draws(2)))


def test_every_missing_part_is_named_at_once(copy, monkeypatch):
    shutil.rmtree(copy / "encoder")
    (copy / "tokenizer" / "merges.txt").unlink()
    monkeypatch.setattr(transformers.CLIPTokenizer, "from_pretrained", None)
    message = refusal(copy)
    for part in ("encoder/config.json", "encoder/model.safetensors", "tokenizer/merges.txt"):
        assert str(copy / part) in message
    assert "vae" not in message.split(";")[0]


def test_a_folder_of_another_kind_is_refused(tmp_path, copy):
    assert "arc2face/config.json" in refusal(tmp_path)
    shutil.rmtree(copy / "arc2face")
    (copy / "vae").rename(copy / "arc2face")
    tiny.make_vae().save_pretrained(copy / "vae")
    assert "arc2face/config.json: is of AutoencoderKL" in refusal(copy)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        (UNET, "conv_out.weight"),
        (ENCODER, "encoder.layers.1.mlp.fc1.weight"),
        (VAE, "decoder.conv_in.bias"),
    ],
)
def test_an_incomplete_file_is_refused_with_the_key(copy, file, key):
    edit(copy / file, lambda tensors: tensors.pop(stored_key(tensors, key)))
    message = refusal(copy)
    assert f"{file}: tensors do not fit" in message
    assert f"1 missing ({key})" in message


def stored_key(tensors, key):
    return next(name for name in tensors if name.removeprefix("text_model.") == key)


def test_unknown_and_misshapen_tensors_are_counted(copy):
    def change(tensors):
        tensors.update({f"extra.{i}": torch.zeros(1) for i in range(5)})
        tensors["conv_in.bias"] = torch.zeros(3)

    edit(copy / UNET, change)
    message = refusal(copy)
    assert "5 unknown (extra.0, extra.1, extra.2, ...)" in message
    assert "1 of another shape (conv_in.bias)" in message


def test_an_encoder_saved_by_old_releases_is_the_same(folder, copy):
    tensors = safetensors.load_file(copy / ENCODER)
    old = {f"text_model.{key.removeprefix('text_model.')}": t for key, t in tensors.items()}
    old["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    torch.save(old, copy / "encoder" / "pytorch_model.bin")
    (copy / ENCODER).unlink()
    np.testing.assert_array_equal(
        Arc2Face(config(copy))(*draws(2)), Arc2Face(config(folder))(*draws(2))
    )


def test_a_decoder_saved_by_old_releases_is_the_same(folder, copy):
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def change(tensors):
        for key in [key for key in tensors if ".attentions." in key]:
            old = key
            for new, name in names.items():
                old = old.replace(f".{new}.", f".{name}.")
            tensors[old] = tensors.pop(key)

    edit(copy / VAE, change)
    assert any(".proj_attn." in key for key in safetensors.load_file(copy / VAE))
    np.testing.assert_array_equal(
        Arc2Face(config(copy))(*draws(2)), Arc2Face(config(folder))(*draws(2))
    )


class _Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", ["zip", "bare"])
@pytest.mark.parametrize(
    ("safe", "pickled"),
    [(UNET, "arc2face/diffusion_pytorch_model.bin"), (ENCODER, "encoder/pytorch_model.bin")],
)
def test_a_malicious_pickle_is_refused_and_not_run(copy, tmp_path, safe, pickled, protocol):
    (copy / safe).unlink()
    content, mark = {"weight": _Payload(tmp_path / "mark")}, tmp_path / "mark"
    if protocol == "zip":
        torch.save(content, copy / pickled)
    else:
        (copy / pickled).write_bytes(pickle.dumps(content))
    assert pickled in refusal(copy)
    assert not mark.exists()


def test_a_truncated_file_is_refused(copy):
    data = (copy / UNET).read_bytes()
    (copy / UNET).write_bytes(data[: len(data) // 2])
    assert f"{UNET}: truncated or damaged" in refusal(copy)


def test_parts_that_do_not_fit_together_are_refused(copy):
    tiny.make_unet(hidden=32).save_pretrained(copy / "arc2face")
    assert "cross_attention_dim 32; the decoder and encoder need 64" in refusal(copy)


def test_a_face_above_the_hidden_size_is_refused_at_loading(copy):
    (copy / "reference.npz").unlink()
    assert "hidden_size 64 is below the 512 of a face" in refusal(copy)


def test_without_a_reference_faces_have_512_dimensions(tmp_path):
    folder = tiny.write_tiny_arc2face(tmp_path, hidden=512, face_dim=512)
    (folder / "reference.npz").unlink()
    assert Arc2Face(config(folder)).condition_dim == 512


def _leaky(forward):
    def leak(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        output.last_hidden_state += output.last_hidden_state.mean(dim=1, keepdim=True)
        return output

    return leak


def test_an_encoder_that_is_not_causal_is_refused(folder, monkeypatch):
    forward = transformers.CLIPTextModel.forward
    monkeypatch.setattr(transformers.CLIPTextModel, "forward", _leaky(forward))
    message = refusal(folder)
    assert f"transformers {transformers.__version__}" in message
    assert "not causal" in message


def test_an_encoder_that_does_not_hear_the_face_is_refused(folder, monkeypatch):
    other = torch.nn.Embedding(2, 2)
    monkeypatch.setattr(transformers.CLIPTextModel, "get_input_embeddings", lambda self: other)
    assert "the face does not reach the words" in refusal(folder)


def test_an_encoder_that_hears_the_face_at_its_own_place_alone_is_refused(text_parts):
    tokenizer, encoder = text_parts
    with torch.no_grad():
        for name, tensor in encoder.state_dict().items():
            if "out_proj" in name:
                tensor.zero_()
    with pytest.raises(InputError, match="the face does not reach the words"):
        check_encoder(tokenizer, encoder, tiny.FACE_DIM)


def test_a_reference_of_another_encoder_is_refused(folder, copy, tmp_path):
    other = tiny.write_tiny_arc2face(tmp_path / "other", seed=1)
    shutil.copy(other / "reference.npz", copy / "reference.npz")
    assert "reference.npz: the text encoder is off by" in refusal(copy)
    model = Arc2Face(config(folder))
    write_reference(copy / "reference.npz", model.tokenizer, model.encoder, np.eye(24)[1])
    assert Arc2Face(config(copy)).condition_dim == 24


@pytest.mark.parametrize(
    "content",
    [b"text", {"face": np.ones(3)}, {"face": np.ones((1, 3)), "prompt": np.ones((77, 64))}],
    ids=["text", "no prompt", "shape"],
)
def test_a_bad_reference_is_refused(copy, content):
    path = copy / "reference.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    assert "reference.npz: " in refusal(copy)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_draws_nearly_the_same(folder, dtype):
    full = Arc2Face(config(folder))(*draws(2))
    half = Arc2Face(config(folder, dtype=dtype))(*draws(2))
    assert 0 < np.abs(half.astype(int) - full.astype(int)).mean() < 2


def test_an_image_that_is_not_a_number_is_refused(copy):
    edit(copy / VAE, lambda tensors: tensors["decoder.conv_out.bias"].fill_(float("nan")))
    model = Arc2Face(config(copy))
    with pytest.raises(InputError, match="dtype=float32: an image is not a number"):
        model(*draws(1))


def test_a_tiny_vae_decodes_instead_of_the_vae(folder, copy, tmp_path):
    path = tiny.write_tiny_vae(tmp_path / "taesd")
    shutil.rmtree(copy / "vae")
    model = Arc2Face(config(copy, tiny_vae=path))
    images = model(*draws(3))
    assert images.shape == (3, 16, 16, 3)
    assert model.name.endswith("tiny_vae)")
    conditions, noise = draws(3)
    assert (
        off_by(
            np.concatenate([model(conditions[i : i + 1], noise[i : i + 1]) for i in range(3)]),
            images,
        )
        <= 1
    )
    assert off_by(images, Arc2Face(config(folder))(conditions, noise)) > 10
    assert "AutoencoderTiny is needed" in refusal(folder, tiny_vae=folder / "vae")


def test_compiling_and_channels_last_change_no_image(folder, monkeypatch):
    compiled = []

    def record(network, **settings):
        compiled.append(settings)
        return network

    monkeypatch.setattr(torch, "compile", record)
    plain, fast = (
        Arc2Face(config(folder, compile=flag, channels_last=flag)) for flag in (False, True)
    )
    assert compiled == [{"fullgraph": True}]
    assert off_by(plain(*draws(2)), fast(*draws(2))) <= 1
    assert fast.digest == plain.digest
    assert fast._unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_digest_follows_all_that_changes_images(folder, copy, tmp_path):
    taesd = tiny.write_tiny_vae(tmp_path / "taesd")
    changes = [
        {},
        {"steps": 4},
        {"guidance": 2.0},
        {"scheduler": "ddim"},
        {"dtype": "bfloat16"},
        {"tiny_vae": taesd},
    ]
    digests = [Arc2Face(config(folder, **change)).digest for change in changes]
    edit(copy / UNET, lambda tensors: tensors["conv_in.bias"].add_(1))
    digests.append(Arc2Face(config(copy)).digest)
    assert len(set(digests)) == len(digests)
    assert Arc2Face(config(folder)).digest == digests[0]
    assert all(len(digest) == 64 for digest in digests)


def lora_tensors(seed=0, rank=2):
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, tiny.HIDDEN, generator=generator)
    return down, torch.randn(32, rank, generator=generator)


def write_kohya(path, alpha=4.0, layer=ATTENTION):
    down, up = lora_tensors()
    name = f"lora_unet_{layer.replace('.', '_')}"
    tensors = {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(alpha)}
    path.mkdir(parents=True, exist_ok=True)
    tensors = {f"{name}.{key}": tensor for key, tensor in tensors.items()}
    safetensors.save_file(tensors, path / "pytorch_lora_weights.safetensors")
    return path


def write_peft(path, alpha=4):
    peft = pytest.importorskip("peft")
    unet = tiny.make_unet()
    settings = peft.LoraConfig(r=2, lora_alpha=alpha, target_modules=[ATTENTION])
    unet.add_adapter(settings)
    layer = unet.get_submodule(ATTENTION)
    with torch.no_grad():
        for part, tensor in zip((layer.lora_A, layer.lora_B), lora_tensors(), strict=True):
            part["default"].weight.copy_(tensor)
    unet.save_lora_adapter(path, weight_name="pytorch_lora_weights.safetensors")
    file = path / "pytorch_lora_weights.safetensors"
    with safetensors.safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = {f"unet.{key}": tensor for key, tensor in safetensors.load_file(file).items()}
    settings = json.loads(metadata["lora_adapter_metadata"])
    metadata["lora_adapter_metadata"] = json.dumps({f"unet.{k}": v for k, v in settings.items()})
    safetensors.save_file(tensors, file, metadata=metadata)
    return path


@pytest.mark.parametrize("write", [write_kohya, write_peft])
def test_a_lora_adds_its_product_to_the_weights(folder, copy, tmp_path, write):
    pytest.importorskip("peft")
    path = write(tmp_path / "lora")
    settings = {"scheduler": "lcm", "guidance": 1.0}
    model = Arc2Face(config(folder, lcm_lora=path, **settings))
    plain = Arc2Face(config(folder, **settings))
    down, up = lora_tensors()
    edit(copy / UNET, lambda tensors: tensors[f"{ATTENTION}.weight"].add_(up @ down * 2))
    merged = Arc2Face(config(copy, **settings))
    assert off_by(model(*draws(2)), merged(*draws(2))) <= 1
    assert off_by(model(*draws(2)), plain(*draws(2))) > 1
    assert model.digest not in (plain.digest, merged.digest)


@pytest.mark.parametrize("layer", [ATTENTION.replace("_0", "_7").replace(".0.", ".7."), ""])
def test_a_lora_that_does_not_fit_is_refused(folder, tmp_path, layer):
    pytest.importorskip("peft")
    path = write_kohya(tmp_path / "lora", layer=layer)
    assert "pytorch_lora_weights.safetensors: " in refusal(folder, lcm_lora=path)


@pytest.mark.parametrize(
    "name",
    [
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
        "lora_unet_mid_block_attentions_0_transformer_blocks_3_attn2_to_v",
    ],
)
def test_a_lora_that_fits_in_part_is_refused(folder, tmp_path, name):
    pytest.importorskip("peft")
    path = write_kohya(tmp_path / "lora") / "pytorch_lora_weights.safetensors"
    down, up = lora_tensors()
    extra = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    edit(path, lambda tensors: tensors.update({**extra, f"{name}.alpha": torch.tensor(2.0)}))
    assert "1 of its 2 updates fit" in refusal(folder, lcm_lora=path)


def test_a_lora_in_a_pickle_is_refused(folder, tmp_path):
    pytest.importorskip("peft")
    path = tmp_path / "lora.bin"
    torch.save({"a": torch.zeros(1)}, path)
    assert "lora.bin: not a .safetensors file" in refusal(folder, lcm_lora=path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("guidance", -1.0),
        ("guidance", float("nan")),
        ("scheduler", "euler"),
        ("dtype", "int8"),
    ],
)
def test_settings_out_of_range_are_named(tmp_path, field, value):
    with pytest.raises(InputError, match=f"{field}="):
        Arc2FaceConfig(**{"arc2face": tmp_path, field: value})


def test_an_absent_device_is_named(folder):
    assert "device='nowhere'" in refusal(folder, device="nowhere")


def test_more_steps_than_the_scheduler_has_are_refused(folder):
    assert "lcm in 51 steps" in refusal(folder, scheduler="lcm", steps=51)


def test_a_scheduler_that_draws_noise_is_refused(copy):
    path = copy / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**tiny.PNDM, "algorithm_type": "sde-dpmsolver++"}))
    assert "sde-dpmsolver++ draws noise" in refusal(copy)


@pytest.mark.parametrize("library", ["torch", "diffusers", "transformers"])
def test_without_a_library_the_extra_is_named(folder, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    message = refusal(folder)
    assert f"needs {library}; pip install '.[synthesis]' in a checkout" in message


def test_the_tiny_model_is_the_same_for_the_same_seed(folder, tmp_path):
    again = tiny.write_tiny_arc2face(tmp_path / "again")
    other = tiny.write_tiny_arc2face(tmp_path / "other", seed=1)
    for file in (UNET, ENCODER, VAE):
        assert (again / file).read_bytes() == (folder / file).read_bytes()
        assert (other / file).read_bytes() != (folder / file).read_bytes()
