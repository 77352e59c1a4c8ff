"""Adapters in the layout of IP-Adapter, against the pipeline of diffusers."""

import json
import runpy
import types
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax.cli.main import main
from hyperface_jax.errors import InputError
from hyperface_jax.synthesis import Negatives
from hyperface_jax.synthesis.arc2face import Arc2Face, Arc2FaceConfig
from hyperface_jax.synthesis.arc2face_adapter import chosen_rows
from hyperface_jax.synthesis.arc2face_prompt import prompt_embeddings, unconditional_embedding

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

tiny = types.SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tiny_arc2face.py"))))
NUM, STEPS = 2, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tiny.write_tiny_arc2face(tmp_path_factory.mktemp("arc2face"))
    tiny.write_tiny_adapter(folder / "exp_adapter" / "exp_adapter.bin")
    rows = np.random.default_rng(5).normal(size=(6, tiny.INPUTS)).astype(np.float32)
    rows[0] = 0
    np.save(folder / "expressions.npy", rows)
    return folder


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(NUM, tiny.FACE_DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, rng.normal(size=(NUM, 4, 8, 8)).astype(np.float32)


def model(folder, **settings):
    chosen = {
        "adapter": folder / "exp_adapter",
        "adapter_inputs": folder / "expressions.npy",
        "steps": STEPS,
        "device": "cpu",
    }
    return Arc2Face(Arc2FaceConfig(arc2face=folder, **(chosen | settings)))


def off_by(first, second):
    return int(np.abs(first.astype(int) - second.astype(int)).max())


@pytest.mark.parametrize("kind", ["IP-Adapter", "FaceID"])
def test_images_are_those_of_the_pipeline_of_diffusers(folder, draws, tmp_path, kind):
    conditions, noise = draws
    path = tiny.write_tiny_adapter(tmp_path / "exp_adapter.bin", kind)
    ours = model(folder, adapter=path, adapter_scale=0.7)
    scheduler = diffusers.DPMSolverMultistepScheduler.from_pretrained(
        str(folder), subfolder="scheduler"
    )
    pipeline = tiny.diffusers_pipeline(folder, scheduler)
    pipeline.load_ip_adapter(
        str(tmp_path), subfolder="", weight_name="exp_adapter.bin", image_encoder_folder=None
    )
    pipeline.set_ip_adapter_scale(0.7)
    rows = np.load(folder / "expressions.npy")[chosen_rows(noise, 6)]
    told = torch.from_numpy(rows)[:, None]
    with torch.no_grad():
        wanted = prompt_embeddings(ours.tokenizer, ours.encoder, torch.from_numpy(conditions))
        nobody = unconditional_embedding(ours.tokenizer, ours.encoder)
    images = ours(conditions, noise)
    # One at a time: for several prompts, the pipeline repeats the vectors as often as there are prompts.
    for i in range(NUM):
        one = slice(i, i + 1)
        image = pipeline(
            prompt_embeds=wanted[one],
            negative_prompt_embeds=nobody,
            ip_adapter_image_embeds=[torch.cat([torch.zeros_like(told[one]), told[one]])],
            latents=torch.from_numpy(noise[one]),
            num_inference_steps=STEPS,
            guidance_scale=3.0,
            height=16,
            width=16,
            output_type="np",
        ).images
        assert off_by(images[one], np.rint(image * 255)) <= 1
    assert off_by(images, model(folder, adapter=path)(conditions, noise)) > 3


def test_an_image_heeds_its_row_and_depends_on_no_other_image(folder, draws, tmp_path):
    conditions, noise = draws
    drawn = model(folder)
    images = drawn(conditions, noise)
    assert off_by(images[:1], drawn(conditions[:1], noise[:1])) <= 1
    assert len(set(chosen_rows(noise, 6).tolist())) > 1
    rows = np.load(folder / "expressions.npy")
    np.save(tmp_path / "others.npy", rows[::-1].copy())
    others = model(folder, adapter_inputs=tmp_path / "others.npy")
    assert off_by(images, others(conditions, noise)) > 3
    assert others.digest != drawn.digest
    plain = {"adapter": None, "adapter_inputs": None}
    assert (
        off_by(
            model(folder, **plain)(conditions, noise),
            model(folder, adapter_scale=0.0)(conditions, noise),
        )
        <= 1
    )
    assert drawn.name == "Arc2Face (dpm, 3 steps, guidance 3, adapter)"


@pytest.mark.parametrize("settings", [{"guidance": 1.0}, {"dtype": "bfloat16"}])
def test_an_adapter_goes_with_other_settings(folder, draws, settings):
    images = model(folder, **settings)(*draws)
    assert images.shape == (NUM, 16, 16, 3)
    assert images.std() > 1


def test_negatives_are_told_zeros_as_nobody_is(folder, draws, monkeypatch):
    conditions, noise = draws
    drawn = model(folder)
    negatives = Negatives(conditions=conditions[::-1].copy(), weight=0.5)
    plain = drawn(conditions, noise)
    told, run = [], drawn._run_unet
    monkeypatch.setattr(drawn, "_run_unet", lambda *given: told.append(given[-1]) or run(*given))
    assert off_by(plain, drawn(conditions, noise, negatives=negatives)) > 3
    rows = np.load(folder / "expressions.npy")[chosen_rows(noise, 6)]
    assert rows.any()
    nobody = np.zeros((2 * NUM, rows.shape[1]), rows.dtype)
    np.testing.assert_array_equal(told[0], np.concatenate([nobody, rows]))


def test_safetensors_hold_the_same_adapter(folder, draws, tmp_path):
    saved = torch.load(folder / "exp_adapter" / "exp_adapter.bin")
    flat = {f"{part}.{key}": value for part in saved for key, value in saved[part].items()}
    safetensors.save_file(flat, tmp_path / "adapter.safetensors")
    same = model(folder, adapter=tmp_path / "adapter.safetensors")
    assert off_by(model(folder)(*draws), same(*draws)) == 0


def test_the_rows_of_many_images_are_spread_evenly():
    noise = np.random.default_rng(1).normal(size=(4000, 4)).astype(np.float32)
    rows = chosen_rows(noise, 8)
    np.testing.assert_array_equal(rows, np.concatenate([chosen_rows(noise[:9], 8), rows[9:]]))
    counts = np.bincount(rows, minlength=8)
    assert np.all(np.abs(counts - 500) < 5 * np.sqrt(500 * 7 / 8))


def test_the_command_draws_with_an_adapter(folder, draws, tmp_path, capsys):
    np.save(tmp_path / "run.npy", draws[0])
    words = ["synthesize", "--embeddings", tmp_path / "run.npy", "--generator", folder]
    words += ["--images-per-id", 1, "--steps", 1, "--device", "cpu", "--crop", "none"]
    words += ["--adapter", folder / "exp_adapter", "--out", tmp_path / "data"]
    assert main([str(word) for word in words]) == 2
    assert "--adapter and --adapter-inputs go together" in capsys.readouterr().err
    words += ["--adapter-inputs", folder / "expressions.npy"]
    assert main([str(word) for word in words]) == 0
    stored = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert "guidance 3, adapter)" in json.dumps(stored)


def _refusal(folder, **settings):
    with pytest.raises(InputError) as caught:
        model(folder, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_refused_in_one_line(folder, tmp_path):
    assert "go together" in _refusal(folder, adapter_inputs=None)
    assert "adapter_scale=-1" in _refusal(folder, adapter_scale=-1)
    assert "lacks" in _refusal(folder, adapter=tmp_path)
    few = tiny.write_tiny_adapter(tmp_path / "few.bin", num_layers=3)
    assert "keys for 3 attentions, and this UNet has 4" in _refusal(folder, adapter=few)
    other = folder / "arc2face" / "diffusion_pytorch_model.safetensors"
    assert "has 0 tensors image_proj" in _refusal(folder, adapter=other)
    saved = torch.load(folder / "exp_adapter" / "exp_adapter.bin")
    del saved["image_proj"]["proj.bias"]
    torch.save(saved, tmp_path / "torn.bin")
    assert "torn.bin: not an adapter of this UNet" in _refusal(
        folder, adapter=tmp_path / "torn.bin"
    )
    np.save(tmp_path / "short.npy", np.zeros((2, 54), np.float32))
    assert "short.npy: rows of 54 numbers" in _refusal(
        folder, adapter_inputs=tmp_path / "short.npy"
    )
    np.save(tmp_path / "nan.npy", np.full((2, tiny.INPUTS), np.nan, np.float32))
    assert "nan.npy: a number is not finite" in _refusal(
        folder, adapter_inputs=tmp_path / "nan.npy"
    )
