import argparse
import os
import pickle
import runpy
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from flax import nnx

from hyperface_jax.errors import InputError
from hyperface_jax.io.torch_files import read_state_dict, write_state_dict
from hyperface_jax.recognition.backbones import BACKBONES, DROPOUT, BackboneConfig, IResNet
from hyperface_jax.recognition.weights import (
    export_weights,
    import_weights,
    load_model,
    strip_prefixes,
)

published = types.SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "rivals" / "torch_iresnet.py"))
)

CONFIG = {"depths": (2, 1), "widths": (4, 8), "image_size": 12, "embedding_dim": 6}
STEM = {"insightface": "conv1.weight", "adaface": "input_layer.0.weight"}
LAST = {"insightface": "fc.weight", "adaface": "output_layer.3.weight"}
MEAN = {"insightface": "bn1.running_mean", "adaface": "input_layer.1.running_mean"}


@pytest.fixture(params=["insightface", "adaface"])
def variant(request):
    return request.param


@pytest.fixture
def network(variant):
    make = published.NETWORKS[variant]
    return published.randomize(make((2, 1), (4, 8), map_size=3, dim=6)).eval()


@pytest.fixture
def model(variant):
    return IResNet(BackboneConfig(**CONFIG, variant=variant), rngs=nnx.Rngs(0))


def _arrays(network):
    return {key: value.numpy() for key, value in network.state_dict().items()}


def _assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert found[key].dtype == array.dtype, key
        np.testing.assert_array_equal(found[key], array, err_msg=key)


def _save_pickle(path, data):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)


# The model and the names


def test_weights_come_out_as_they_went_in(network, model):
    report = import_weights(model, _arrays(network))
    _assert_same(export_weights(model), _arrays(network))
    assert report.missing == report.unexpected == ()
    assert set(report.used) == {key for key in _arrays(network) if "num_batches" not in key}


def test_an_import_of_an_export_is_bit_exact(variant, model):
    other = IResNet(BackboneConfig(**CONFIG, variant=variant), rngs=nnx.Rngs(1))
    import_weights(other, export_weights(model))
    _assert_same(export_weights(other), export_weights(model))


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_pytorch_loads_an_exported_file_strictly(network, model, tmp_path, suffix):
    path = tmp_path / f"backbone{suffix}"
    write_state_dict(path, export_weights(model))
    network.load_state_dict(torch.load(path, weights_only=True), strict=True)
    images = torch.rand(2, 3, 12, 12)
    model.eval()
    with torch.no_grad():
        expected = network(images).numpy()
    found = model(jnp.asarray(images.permute(0, 2, 3, 1).numpy()))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_tells_which_network_it_is(network, variant, tmp_path, suffix):
    path = tmp_path / f"backbone{suffix}"
    write_state_dict(path, _arrays(network))
    model, _ = load_model(path)
    config = model.config
    assert (config.variant, config.depths, config.widths) == (variant, (2, 1), (4, 8))
    assert (config.map_size, config.embedding_dim) == (3, 6)
    assert model.features.use_running_average is True
    _assert_same(export_weights(model), _arrays(network))


def test_the_published_depths_are_told_from_the_names(variant, tmp_path):
    path = tmp_path / "model.safetensors"
    depths = BACKBONES["iresnet100"].depths
    config = BackboneConfig(depths, (2, 3, 4, 5), variant, dropout=DROPOUT[variant])
    made = IResNet(config, rngs=nnx.Rngs(0))
    write_state_dict(path, export_weights(made))
    model, _ = load_model(path, dtype=jnp.bfloat16)
    assert model.config == made.config
    assert model.conv.dtype == jnp.bfloat16


def test_a_lightning_checkpoint_loads_without_lightning(network, tmp_path, monkeypatch):
    package = types.ModuleType("pytorch_lightning")
    settings = type("AttributeDict", (dict,), {"__module__": "pytorch_lightning"})
    callback = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning"})
    package.__dict__.update(AttributeDict=settings, ModelCheckpoint=callback)
    arrays = {f"model.{key}": value for key, value in network.state_dict().items()}
    head = {"head.kernel": torch.rand(6, 10), "head.batch_mean": torch.ones(1) * 20}
    checkpoint = {
        "epoch": 25,
        "state_dict": OrderedDict({**arrays, **head}),
        "callbacks": {callback: {"best_model_score": np.float64(0.97), "dirpath": tmp_path}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.rand(3)}}}],
        "hyper_parameters": settings(arch="ir_50", args=argparse.Namespace(lr=0.1)),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "shape": torch.Size([2]),
        "seen": {1, 2},
    }
    path = tmp_path / "adaface.ckpt"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pytorch_lightning", package)
        torch.save(checkpoint, path)
    model, report = load_model(path)
    assert "pytorch_lightning" not in sys.modules
    assert report.unexpected == ("head.batch_mean", "head.kernel")
    _assert_same(export_weights(model), _arrays(network))


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "backbone.",
        "module.model.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.model.",
        "net.",
        "model.net.",
        "_fsdp_wrapped_module.",
    ],
)
def test_prefixes_of_wrappers_are_stripped(prefix):
    found = strip_prefixes({f"{prefix}conv1.weight": np.ones(1), "head.kernel": np.ones(1)})
    assert list(found) == ["conv1.weight", "head.kernel"]


def test_names_of_parts_that_were_compiled_are_stripped():
    found = strip_prefixes({"model.layer1._orig_mod.0.conv1.weight": np.ones(1)})
    assert list(found) == ["layer1.0.conv1.weight"]


def _excitation(name, width=4):
    return {
        f"{name}.fc1.weight": np.ones((width // 4, width, 1, 1), np.float32),
        f"{name}.fc2.weight": np.ones((width, width // 4, 1, 1), np.float32),
    }


SE_NAMES = {
    "insightface": ["layer1.0.se", "layer1.1.se"],
    "adaface": ["body.0.res_layer.se_block", "body.1.res_layer.se_block"],
}


def test_weights_with_squeeze_and_excitation_are_refused(network, variant, tmp_path):
    arrays = _arrays(network)
    for name in SE_NAMES[variant]:
        arrays |= _excitation(name)
    write_state_dict(tmp_path / "se.safetensors", arrays)
    first = SE_NAMES[variant][0].replace(".", r"\.")
    message = rf"se\.safetensors: 4 of its weights .*{first}\.fc1.*squeeze-and-excitation"
    with pytest.raises(InputError, match=message):
        load_model(tmp_path / "se.safetensors")


FOREIGN = {
    "a norm": {"bn7.running_mean": np.ones(6, np.float32), "bn7.weight": np.ones(6, np.float32)},
    "a convolution": {"stn.conv.weight": np.ones((4, 3, 3, 3), np.float32)},
    "a matrix of another width": {"attention.weight": np.ones((4, 4), np.float32)},
}


@pytest.mark.parametrize("extra", FOREIGN)
def test_layers_that_the_network_lacks_are_refused(network, model, extra):
    before = export_weights(model)
    with pytest.raises(InputError, match=rf"{len(FOREIGN[extra])} of its weights have no place"):
        import_weights(model, _arrays(network) | FOREIGN[extra])
    _assert_same(export_weights(model), before)


def test_weights_of_a_deeper_network_are_refused(variant, model):
    deeper = BackboneConfig(**{**CONFIG, "depths": (2, 2)}, variant=variant)
    weights = export_weights(IResNet(deeper, rngs=nnx.Rngs(0)))
    with pytest.raises(InputError, match=r"have no place in .* with 3 blocks"):
        import_weights(model, weights)


@pytest.mark.parametrize("shape", [(10, 6), (6, 10)])
def test_a_classifier_beside_the_network_stays_and_is_reported(network, model, shape):
    head = {"head.weight": np.ones(shape), "head.bias": np.ones(10), "margin": np.ones(())}
    report = import_weights(model, _arrays(network) | head)
    assert report.unexpected == ("head.bias", "head.weight", "margin")


def test_a_name_under_two_prefixes_is_refused():
    with pytest.raises(InputError, match=r"a\.pt: holds 'fc\.bias' under two prefixes"):
        strip_prefixes({"model.fc.bias": np.ones(1), "fc.bias": np.ones(1)}, source="a.pt")


def test_half_precision_weights_become_float32(network, variant, model):
    half = {key: value.astype(np.float16) for key, value in _arrays(network).items()}
    import_weights(model, half)
    found = export_weights(model)[MEAN[variant]]
    np.testing.assert_array_equal(found, half[MEAN[variant]].astype(np.float32))


def test_absent_counters_are_reported_and_do_no_harm(network, model):
    arrays = {key: value for key, value in _arrays(network).items() if "num_batches" not in key}
    report = import_weights(model, arrays)
    assert set(report.missing) == _arrays(network).keys() - arrays.keys()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda arrays, v: arrays.pop(MEAN[v]), "lacks .*running_mean; give weights of the"),
        (lambda arrays, v: arrays.pop(STEM[v]), "has neither conv1.weight nor"),
        (lambda arrays, v: arrays.pop(LAST[v]), "lacks blocks or the last linear layer"),
        (lambda arrays, v: arrays[MEAN[v]].fill(np.nan), "running_mean' holds NaN"),
        (
            lambda arrays, v: arrays.update({STEM[v]: arrays[STEM[v]].astype(np.int8)}),
            "weight' is of type int8; give weights that are not quantised",
        ),
        (
            lambda arrays, v: arrays.update({MEAN[v]: np.ones(5, np.float32)}),
            r"running_mean' is of shape \(5,\), not \(4,\)",
        ),
    ],
    ids=["missing", "no stem", "no last layer", "nan", "quantised", "shape"],
)
def test_damaged_weights_are_refused_by_name(network, variant, tmp_path, damage, message):
    arrays = {key: value.copy() for key, value in _arrays(network).items()}
    damage(arrays, variant)
    path = tmp_path / "damaged.safetensors"
    write_state_dict(path, arrays)
    with pytest.raises(InputError, match=f"damaged.safetensors: .*{message}"):
        load_model(path)


def test_a_refused_import_leaves_the_model_as_it_is(network, variant, model):
    before = export_weights(model)
    arrays = _arrays(network)
    arrays[LAST[variant]] = np.full_like(arrays[LAST[variant]], np.inf)
    with pytest.raises(InputError, match="NaN or infinity"):
        import_weights(model, arrays)
    _assert_same(export_weights(model), before)


# Files


TENSORS = {
    "transposed": torch.arange(12.0).reshape(3, 4).T,
    "slice": torch.arange(20)[5:15:3],
    "scalar": torch.tensor(3.5, dtype=torch.float64),
    "empty": torch.zeros(0, 3),
    "half": torch.tensor([1.5, -2], dtype=torch.float16),
    "bool": torch.tensor([True, False]),
    "byte": torch.tensor([0, 255], dtype=torch.uint8),
    "parameter": torch.nn.Parameter(torch.rand(2, 2)),
    "expanded": torch.ones(1, 3).expand(4, 3),
}


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
def test_tensors_of_every_layout_are_read_as_pytorch_reads_them(tmp_path, wrapper):
    shared = torch.rand(6)
    tensors = {**TENSORS, "whole": shared, "part": shared[2:4]}
    torch.save({wrapper: tensors, "epoch": 1} if wrapper else tensors, tmp_path / "a.pt")
    found = read_state_dict(tmp_path / "a.pt")
    _assert_same(found, {key: value.detach().numpy() for key, value in tensors.items()})
    assert all(array.flags.c_contiguous and array.flags.writeable for array in found.values())


def test_a_checkpoint_of_insightface_gives_its_backbone(network, variant, tmp_path):
    compiled = {f"_orig_mod.{key}": value for key, value in network.state_dict().items()}
    checkpoint = {
        "epoch": 3,
        "global_step": 4000,
        "state_dict_backbone": compiled,
        "state_dict_softmax_fc": {"weight": torch.rand(10, 6)},
        "state_optimizer": {"state": {0: {"momentum_buffer": torch.rand(3)}}},
        "state_lr_scheduler": {"last_epoch": 4000, "base_lrs": [0.1]},
    }
    torch.save(checkpoint, tmp_path / "checkpoint_gpu_0.pt")
    model, report = load_model(tmp_path / "checkpoint_gpu_0.pt")
    assert model.config.variant == variant
    assert report.unexpected == ()
    _assert_same(export_weights(model), _arrays(network))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"epoch": 1, "student": {"x": torch.ones(1)}},
            "but epoch, student; save what is under 's",
        ),
        ({"epoch": 1, "state_dict": {}}, r"but epoch, state_dict; save model\.state_dict"),
    ],
)
def test_a_checkpoint_under_other_keys_says_what_it_holds(tmp_path, content, words):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=rf"a\.pt: holds no named tensors.*{words}"):
        read_state_dict(tmp_path / "a.pt")


def test_bfloat16_goes_through_both_formats(tmp_path):
    values = np.array([1.5, -3.25, 1e30], ml_dtypes.bfloat16)
    for suffix in (".pt", ".safetensors"):
        path = tmp_path / f"a{suffix}"
        write_state_dict(path, {"x": values})
        _assert_same(read_state_dict(path), {"x": values})
    loaded = torch.load(tmp_path / "a.pt", weights_only=True)["x"]
    assert loaded.dtype == torch.bfloat16
    np.testing.assert_array_equal(loaded.float().numpy(), values.astype(np.float32))


class _Payload:
    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def test_a_payload_in_a_checkpoint_is_refused_and_does_not_run(tmp_path):
    made = tmp_path / "made"
    path = tmp_path / "bad.ckpt"
    payload = _Payload(os.mkdir, str(made))
    torch.save({"state_dict": {"x": torch.ones(2)}, "callbacks": payload}, path)
    with pytest.raises(InputError, match=r"bad\.ckpt: refused, as it names posix\.mkdir"):
        read_state_dict(path)
    assert not made.exists()
    torch.load(path, weights_only=False)
    assert made.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os system",
        "builtins eval",
        "builtins getattr",
        "torch load",
        "torch.nn.modules.linear Linear",
        "numpy load",
        "lightning_evil run",
        "collections OrderedDict.fromkeys",
    ],
)
def test_names_that_do_not_describe_tensors_are_refused(tmp_path, name):
    module, _, attribute = name.partition(" ")
    _save_pickle(tmp_path / "a.pt", f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(InputError, match="could run code"):
        read_state_dict(tmp_path / "a.pt")


def test_names_of_training_packages_are_not_imported(tmp_path):
    made = tmp_path / "made"
    data = f"clightning.os\nmkdir\n(V{made}\ntR.".encode()
    _save_pickle(tmp_path / "a.pt", data)
    with pytest.raises(InputError, match="holds no named tensors"):
        read_state_dict(tmp_path / "a.pt")
    assert not made.exists()
    assert "lightning" not in sys.modules


def _rewritten(path, target, edit):
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, edit(name, old.read(name)))


@pytest.mark.parametrize(
    ("end", "old", "new", "message"),
    [
        ("data/0", None, b"\0" * 8, "reaches beyond its storage"),
        ("byteorder", None, b"big", "big-endian"),
        ("data.pkl", b"FloatStorage", b"QuadStorage_", "torch.QuadStorage_"),
    ],
)
def test_storages_that_do_not_fit_are_refused(tmp_path, end, old, new, message):
    torch.save({"x": torch.arange(100.0)}, tmp_path / "a.pt")

    def edit(name, data):
        if not name.endswith(end):
            return data
        return new if old is None else data.replace(old, new)

    _rewritten(tmp_path / "a.pt", tmp_path / "b.pt", edit)
    with pytest.raises(InputError, match=message):
        read_state_dict(tmp_path / "b.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_a_truncated_file_is_named(tmp_path, suffix, share):
    path = tmp_path / f"cut{suffix}"
    write_state_dict(path, {"x": np.arange(1000.0)})
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=rf"cut\{suffix}: "):
        read_state_dict(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "a.pt"
    write_state_dict(path, {"x": np.ones(1000, np.float32)})
    data = bytearray(path.read_bytes())
    data[data.index(np.ones(100, np.float32).tobytes()) + 50] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.pt: truncated or damaged \(Bad CRC"):
        read_state_dict(path)


def _save_legacy(path):
    torch.save({"x": torch.ones(1)}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    "write",
    [
        _save_legacy,
        lambda path: path.write_bytes(pickle.dumps({})),
        lambda path: path.write_text("hello, world"),
        lambda path: np.savez(path.open("wb"), x=np.ones(1)),
        lambda path: torch.save([torch.ones(1)], path),
    ],
    ids=["legacy", "pickle", "text", "npz", "list"],
)
def test_other_files_are_refused_with_the_mend(tmp_path, write):
    path = tmp_path / "a.pt"
    write(path)
    with pytest.raises(InputError, match=r"a\.pt: .*save model\.state_dict\(\)"):
        read_state_dict(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.pt: cannot read"):
        read_state_dict(tmp_path / "none.pt")


def test_writing_needs_a_known_extension_and_pytorch_for_its_own(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"name a file in \.safetensors"):
        write_state_dict(tmp_path / "a.onnx", {"x": np.ones(1)})
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="pip install torch"):
        write_state_dict(tmp_path / "a.pt", {"x": np.ones(1)})
    assert list(tmp_path.iterdir()) == []
