import json
import pickle
import sys
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hyperface_jax.errors import InputError
from hyperface_jax.faces.drawing import generator_seeds, random_faces, write_faces
from hyperface_jax.faces.image_sets import open_images
from hyperface_jax.io.images import decode

SIZE = 16
CALLS = []
WEIGHTS = "diffusion_pytorch_model.safetensors"


def squares(seed, indices):
    """Draw a square in a color of the seed and the index; note the call."""
    CALLS.append(indices.tolist())
    images = np.zeros((len(indices), 8, 10, 3), np.uint8)
    images[:, 2:6, 2:6, 0] = indices[:, None, None]
    images[:, 2:6, 2:6, 1] = seed
    images[:, 2:6, 2:6, 2] = 200
    return images


def gray(seed, indices):
    return np.full((len(indices), 8, 8), seed, np.uint8)


def floats(seed, indices):
    return np.zeros((len(indices), 8, 8, 3))


def one_too_few(seed, indices):
    return squares(seed, indices)[1:]


def broken_disc(seed, indices):
    raise FileNotFoundError(2, "No such file or directory")


not_a_function = 3


@pytest.fixture(autouse=True)
def module(monkeypatch):
    monkeypatch.setitem(sys.modules, "drawing", sys.modules[__name__])
    CALLS.clear()


def unet(size, **settings):
    usual = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 8,
    }
    return diffusers.UNet2DModel(sample_size=size, **{**usual, **settings})


def vqvae():
    return diffusers.VQModel(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        num_vq_embeddings=32,
    )


def save_ldm(path, scheduler=None):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        scheduler = scheduler or diffusers.DDIMScheduler(clip_sample=False)
        pipeline = diffusers.LDMPipeline(vqvae(), unet(SIZE // 2), scheduler)
        pipeline.save_pretrained(path)
    return path


def save_unet_pipeline(path, kind, scheduler, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(diffusers, kind)(unet(8, **settings), scheduler).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_ldm(tmp_path_factory.mktemp("ldm") / "faces-16")


@pytest.fixture
def ldm(saved, tmp_path):
    """Copy the pipeline, so that a test may spoil it."""
    target = tmp_path / "faces-16"
    for path in saved.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(saved)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return target


def edit_index(folder, **values):
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


def draw(source, num=5, **settings):
    return np.concatenate(list(random_faces(source, num, **settings)))


def difference(left, right):
    return np.abs(left.astype(int) - right.astype(int)).max()


def error_of(function, *args, **settings):
    with pytest.raises(InputError) as caught:
        function(*args, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_latent_diffusion_pipeline_draws_distinct_rgb_faces(saved):
    batches = list(random_faces(saved, 5, seed=1, batch_size=2))
    assert [batch.shape for batch in batches] == [(n, SIZE, SIZE, 3) for n in (2, 2, 1)]
    assert {batch.dtype for batch in batches} == {np.dtype(np.uint8)}
    faces = np.concatenate(batches)
    pairs = [difference(faces[i], faces[j]) for i in range(5) for j in range(i)]
    assert min(pairs) > 5


def test_a_face_depends_on_its_index_and_the_seed_but_not_on_the_batch(saved):
    faces = draw(saved, seed=3, batch_size=5)
    assert difference(draw(saved, seed=3, batch_size=1), faces) <= 1
    assert difference(draw(saved, seed=3, batch_size=3), faces) <= 1
    assert difference(draw(saved, 2, seed=3, batch_size=16), faces[:2]) <= 1
    assert difference(draw(saved, seed=4, batch_size=5), faces) > 5


def test_drawing_ignores_the_global_generator(saved):
    torch.manual_seed(0)
    first = draw(saved, 2)
    torch.manual_seed(1)
    np.testing.assert_array_equal(draw(saved, 2), first)


def test_faces_are_those_that_the_pipeline_itself_draws(saved):
    pipeline = diffusers.LDMPipeline.from_pretrained(saved)
    seeds = generator_seeds(7, np.arange(2))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    images = pipeline(batch_size=2, generator=generators).images
    expected = np.stack([np.asarray(image) for image in images])
    assert difference(draw(saved, 2, seed=7), expected) <= 1


@pytest.mark.parametrize("kind", ["DDIMPipeline", "ConsistencyModelPipeline"])
def test_other_unconditional_pipelines_do_as_well(tmp_path, kind):
    # With the usual betas, the first steps of an untrained network enlarge its rounding errors.
    schedulers = {
        "DDIMPipeline": diffusers.DDIMScheduler(beta_end=0.002),
        "ConsistencyModelPipeline": diffusers.CMStochasticIterativeScheduler(),
    }
    source = save_unet_pipeline(tmp_path / "pipeline", kind, schedulers[kind])
    faces = draw(source, 3, batch_size=3)
    assert faces.shape == (3, 8, 8, 3)
    assert difference(draw(source, 3, batch_size=1), faces) <= 1


def test_a_scheduler_that_adds_noise_of_its_own_takes_it_from_the_generator_of_the_face(tmp_path):
    # The pipeline takes 1,000 steps, so the network is one convolution or two.
    settings = {
        "block_out_channels": (4,),
        "down_block_types": ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",),
        "norm_num_groups": 2,
        "add_attention": False,
    }
    scheduler = diffusers.DDPMScheduler(beta_end=0.002)
    source = save_unet_pipeline(tmp_path / "p", "DDPMPipeline", scheduler, **settings)
    faces = draw(source, 2, batch_size=2)
    assert difference(draw(source, 1), faces[:1]) <= 1
    assert difference(faces[0], faces[1]) > 20


def test_a_pipeline_whose_noise_would_depend_on_the_batch_is_refused(tmp_path):
    source = save_ldm(tmp_path / "ldm", scheduler=diffusers.DDPMScheduler())
    assert "another scheduler" in error_of(draw, source, 1)


def test_weights_with_the_old_names_of_attention_are_complete(ldm, saved):
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for part in ("vqvae", "unet"):
        path = ldm / part / WEIGHTS
        tensors = load_file(path)
        for new, old in names.items():
            tensors = {key.replace(f".{new}.", f".{old}."): t for key, t in tensors.items()}
        torch.save(tensors, path.with_suffix(".bin"))
        path.unlink()
    np.testing.assert_array_equal(draw(ldm, 1), draw(saved, 1))


def test_half_precision_weights_are_widened(ldm, saved):
    for part in ("vqvae", "unet"):
        path = ldm / part / WEIGHTS
        save_file({key: t.half() for key, t in load_file(path).items()}, path, {"format": "pt"})
    assert difference(draw(ldm, 1), draw(saved, 1)) < 10


def test_a_lost_tensor_is_noticed(ldm):
    path = ldm / "unet" / WEIGHTS
    tensors = load_file(path)
    del tensors["conv_in.weight"]
    save_file(tensors, path, {"format": "pt"})
    message = error_of(random_faces, ldm, 1)
    assert "faces-16/unet" in message
    assert "conv_in.weight" in message


class Marker:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("is_archive", [False, True])
def test_pickles_in_weights_are_not_run(ldm, tmp_path, is_archive):
    marker = {"conv_in.weight": Marker(tmp_path / "ran")}
    path = ldm / "unet" / WEIGHTS
    path.unlink()
    if is_archive:
        torch.save(marker, path.with_suffix(".bin"))
    else:
        path.with_suffix(".bin").write_bytes(pickle.dumps(marker, protocol=2))
    assert "incomplete or damaged" in error_of(random_faces, ldm, 1)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "index",
    [
        {"_class_name": ["own", "OwnPipeline"]},
        {"_class_name": "OwnPipeline"},
        {"_class_name": "UNet2DModel"},
        {"_class_name": None},
        {"unet": ["own", "OwnModel"]},
        {"unet": ["own", "UNet2DModel"]},
        {"unet": ["diffusers", "OwnModel"]},
        {"unet": ["diffusers", "AutoModel"]},
        {"unet": ["diffusers"]},
        {"extra": ["diffusers", "UNet2DModel"]},
    ],
)
def test_code_from_elsewhere_is_refused_and_not_run(ldm, tmp_path, index):
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
    for name in ("own.py", "unet/own.py", "None.py"):
        (ldm / name).write_text(code)
    assert "code from elsewhere is not run" in error_of(random_faces, edit_index(ldm, **index), 1)
    assert not (tmp_path / "ran").exists()


def test_python_files_beside_a_whole_pipeline_are_not_run(ldm, saved, tmp_path):
    # diffusers looks for "None.py" where no custom pipeline is asked for.
    (ldm / "None.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    np.testing.assert_array_equal(draw(ldm, 1), draw(saved, 1))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["StableDiffusionPipeline", "DiTPipeline"])
def test_a_pipeline_that_needs_a_condition_is_refused(ldm, kind):
    message = error_of(random_faces, edit_index(ldm, _class_name=kind), 1)
    assert "without a condition" in message


@pytest.mark.parametrize("part", ["unet", "vqvae", "scheduler"])
def test_a_pipeline_without_a_part_is_refused(ldm, part):
    for path in (ldm / part).iterdir():
        path.unlink()
    assert "incomplete or damaged" in error_of(random_faces, ldm, 1)


def test_an_index_without_a_part_is_refused(ldm):
    assert "incomplete or damaged" in error_of(random_faces, edit_index(ldm, unet=None), 1)


def test_truncated_weights_are_refused(ldm):
    path = ldm / "unet" / WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])
    assert "incomplete or damaged" in error_of(random_faces, ldm, 1)


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path):
    assert "model_index.json: cannot read" in error_of(random_faces, tmp_path, 1)
    (tmp_path / "model_index.json").write_text("{")
    assert "not JSON" in error_of(random_faces, tmp_path, 1)


def test_parts_that_do_not_fit_together_are_named_when_drawing_fails(tmp_path):
    few = diffusers.DDPMScheduler(num_train_timesteps=10)
    source = save_unet_pipeline(tmp_path / "p", "DDPMPipeline", few)
    assert "fails to draw 2 faces" in error_of(draw, source, 2)


def test_a_pipeline_of_gray_images_is_refused(tmp_path):
    settings = {"in_channels": 1, "out_channels": 1}
    scheduler = diffusers.DDIMScheduler()
    source = save_unet_pipeline(tmp_path / "p", "DDIMPipeline", scheduler, **settings)
    assert "(1, 8, 8, 1) for 1 faces; uint8 RGB" in error_of(draw, source, 1)


def test_weights_that_are_not_finite_are_refused(ldm):
    path = ldm / "unet" / WEIGHTS
    tensors = load_file(path)
    tensors["conv_in.weight"][0] = torch.nan
    save_file(tensors, path, {"format": "pt"})
    assert "not finite" in error_of(draw, ldm, 1)


def test_a_function_gets_the_seed_and_the_indices():
    batches = list(random_faces("drawing:squares", 5, seed=9, batch_size=2))
    assert [batch.shape for batch in batches] == [(n, 8, 10, 3) for n in (2, 2, 1)]
    np.testing.assert_array_equal(np.concatenate(batches)[:, 3, 3, 0], range(5))
    assert set(np.concatenate(batches)[:, 3, 3, 1]) == {9}
    assert CALLS == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_module_here:f", "no folder, and cannot be imported"),
        ("drawing:no_such_function", "cannot be imported"),
        ("drawing", "cannot be imported"),
        (":squares", "cannot be imported"),
        (".drawing:squares", "cannot be imported"),
        ("/no/such/folder", "cannot be imported"),
        ("drawing:not_a_function", "no function"),
    ],
)
def test_a_source_that_is_neither_folder_nor_function_is_refused_at_once(spec, message):
    assert message in error_of(random_faces, spec, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gray", r"uint8 of shape (2, 8, 8) for 2 faces"),
        ("floats", "float64 of shape"),
        ("one_too_few", r"(1, 8, 10, 3) for 2 faces"),
        ("broken_disc", "cannot draw faces: No such file"),
    ],
)
def test_what_is_not_a_batch_of_images_is_refused(name, message):
    assert message in error_of(draw, f"drawing:{name}", 2)


@pytest.mark.parametrize(("name", "value"), [("num", 0), ("seed", -1), ("batch_size", 0)])
def test_numbers_out_of_range_are_refused(tmp_path, name, value):
    settings = {"num": 1, "seed": 0, "batch_size": 1, name: value}
    num = settings.pop("num")
    assert name in error_of(random_faces, "drawing:squares", num, **settings)
    message = error_of(write_faces, "drawing:squares", tmp_path / "f", num, **settings)
    assert f"{name}={value}" in message


def test_no_two_of_many_indices_share_a_seed_of_32_bits():
    # PyTorch takes no more bits than these.
    noise = [torch.randn(2, generator=torch.Generator().manual_seed(1 + k)) for k in (0, 2**32)]
    assert torch.equal(*noise)
    seeds = generator_seeds(5, np.arange(200_000))
    assert len(set(seeds)) == len(seeds)
    assert 0 <= min(seeds) < max(seeds) < 2**32
    assert not set(seeds[:1000]) & set(generator_seeds(6, np.arange(1000)))


def read_folder(path):
    images = open_images(path)
    return {name: decode(images.read(i), name=name) for i, name in enumerate(images.names)}


def test_a_folder_holds_the_faces_under_their_numbers(tmp_path):
    path = tmp_path / "new" / "faces"
    write_faces("drawing:squares", path, 5, seed=9, batch_size=2)
    faces = read_folder(path)
    assert list(faces) == [f"{i:06d}.png" for i in range(5)]
    np.testing.assert_array_equal(list(faces.values()), draw("drawing:squares", seed=9))
    assert sorted(entry.name for entry in path.iterdir()) == [*faces, "faces.json"]


def test_a_tar_holds_the_same_faces_and_the_same_bytes_every_time(tmp_path):
    path, again = tmp_path / "faces.tar", tmp_path / "again.tar"
    for target in (path, again):
        write_faces("drawing:squares", target, 5, seed=9, batch_size=2)
    assert path.read_bytes() == again.read_bytes()
    assert {entry.name for entry in tmp_path.iterdir()} == {"faces.tar", "again.tar"}
    faces = read_folder(path)
    assert list(faces) == [f"{i:06d}.png" for i in range(5)]
    np.testing.assert_array_equal(list(faces.values()), draw("drawing:squares", seed=9))


def test_a_pipeline_is_written_as_it_draws(saved, tmp_path):
    write_faces(saved, tmp_path / "faces", 3, batch_size=2)
    faces = np.stack(list(read_folder(tmp_path / "faces").values()))
    assert difference(faces, draw(saved, 3, batch_size=2)) == 0


@pytest.mark.parametrize("name", ["faces", "faces.tar"])
def test_progress_counts_faces_up_to_all(tmp_path, name):
    counts = []
    write_faces("drawing:squares", tmp_path / name, 5, batch_size=2, progress=counts.append)
    assert counts[-3:] == [2, 4, 5]


def stopping_at(num):
    def progress(done):
        if done >= num:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_folder_is_finished_with_what_is_missing(tmp_path):
    path = tmp_path / "faces"
    with pytest.raises(KeyboardInterrupt):
        write_faces("drawing:squares", path, 7, batch_size=2, progress=stopping_at(4))
    kept = {entry: entry.stat().st_mtime_ns for entry in path.glob("*.png")}
    assert len(kept) == 4
    CALLS.clear()
    counts = []
    write_faces("drawing:squares", path, 7, batch_size=2, progress=counts.append)
    assert CALLS == [[4, 5], [6]]
    assert counts == [4, 6, 7]
    np.testing.assert_array_equal(list(read_folder(path).values()), draw("drawing:squares", 7))
    assert all(entry.stat().st_mtime_ns == kept[entry] for entry in kept)


@pytest.mark.parametrize("content", [b"", b"torn", None])
def test_a_torn_file_in_the_middle_is_drawn_again(tmp_path, content):
    path = tmp_path / "faces"
    write_faces("drawing:squares", path, 5)
    torn = path / "000002.png"
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-1] if content is None else content)
    CALLS.clear()
    write_faces("drawing:squares", path, 5)
    assert CALLS == [[2]]
    assert torn.read_bytes() == whole


def test_a_finished_folder_is_extended_or_left(tmp_path):
    path = tmp_path / "faces"
    counts = []
    for num in (3, 5, 4):
        write_faces("drawing:squares", path, num, progress=counts.append)
    assert CALLS == [[0, 1, 2], [3, 4]]
    assert counts == [0, 3, 3, 5, 4]
    assert len(read_folder(path)) == 5


def test_faces_of_another_seed_or_source_are_not_mixed_in(tmp_path):
    path = tmp_path / "faces"
    write_faces("drawing:squares", path, 3, seed=1)
    before = read_folder(path)
    assert "seed (1 there, 2 now)" in error_of(write_faces, "drawing:squares", path, 5, seed=2)
    assert "drawing:squares" in error_of(write_faces, "drawing:floats", path, 5, seed=1)
    np.testing.assert_equal(read_folder(path), before)


def test_a_pipeline_that_was_moved_goes_on(ldm, tmp_path):
    write_faces(ldm, tmp_path / "faces", 1)
    (tmp_path / "elsewhere").mkdir()
    moved = ldm.rename(tmp_path / "elsewhere" / ldm.name)
    write_faces(moved, tmp_path / "faces", 2)
    assert len(read_folder(tmp_path / "faces")) == 2


def test_a_folder_of_other_things_is_refused_and_hidden_files_are_not_minded(tmp_path):
    (tmp_path / ".hidden").touch()
    write_faces("drawing:squares", tmp_path, 1)
    other = tmp_path / "other"
    other.mkdir()
    (other / "000000.png").write_bytes((tmp_path / "000000.png").read_bytes())
    assert "holds files of something else" in error_of(write_faces, "drawing:squares", other, 1)


@pytest.mark.parametrize("name", ["faces", "faces.tar"])
def test_a_bad_source_leaves_nothing_behind(tmp_path, name):
    error_of(write_faces, "drawing:nothing", tmp_path / name, 1)
    error_of(write_faces, tmp_path, tmp_path / name, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file", "is a file"),
        ("file/faces", "Not a directory"),
        ("folder.tar", "is a folder"),
        ("none/faces.tar", "create its folder first"),
        ("file/faces.tar", "create its folder first"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(tmp_path, name, message):
    (tmp_path / "file").touch()
    (tmp_path / "folder.tar").mkdir()
    assert message in error_of(write_faces, "drawing:squares", tmp_path / name, 1)
    assert CALLS == []


def test_an_interrupted_tar_leaves_the_old_one_and_no_part(tmp_path):
    path = tmp_path / "faces.tar"
    write_faces("drawing:squares", path, 2)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_faces("drawing:squares", path, 7, batch_size=2, progress=stopping_at(4))
    assert path.read_bytes() == before
    error_of(write_faces, "drawing:gray", path, 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["faces.tar"]
    write_faces("drawing:squares", path, 7)
    assert len(read_folder(path)) == 7


def half_black(seed, indices):
    return squares(seed, indices) * (indices % 2)[:, None, None, None].astype(np.uint8)


def black(seed, indices):
    return 0 * squares(seed, indices)


@pytest.mark.parametrize("name", ["faces", "faces.tar"])
def test_images_of_one_color_are_left_out_or_an_error(tmp_path, name):
    path = tmp_path / name
    assert write_faces("drawing:half_black", path, 4, seed=9) == ["000000.png", "000002.png"]
    assert open_images(path).names == ["000001.png", "000003.png"]
    for num in (3, 50):
        with pytest.raises(InputError, match="came out of one color"):
            write_faces("drawing:black", tmp_path / f"{num}{name}", num, seed=9)
