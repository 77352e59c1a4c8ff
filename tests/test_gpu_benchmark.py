"""The one command for a GPU, with all of its parts in small, on the CPU."""

import dataclasses
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
NEEDS = {"training": ("torch", "flax"), "drawing": ("torch", "diffusers")}
FIGURES = {
    "parity": {"force_error", "max_cosine_error"},
    "rate": {"tflops", "share_of_product_rate"},
    "target": {"seconds_to_target", "max_cosine"},
    "mid": {"seconds", "max_cosine"},
    "training": {"jax_images_per_second", "torch_images_per_second"},
    "drawing": {"images_per_second"},
    "large": {"coarse_seconds", "fine_seconds", "steps", "max_cosine"},
}


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    jax.config.update("jax_numpy_rank_promotion", "allow")
    from benchmarks import gpu

    yield gpu
    jax.config.update("jax_numpy_rank_promotion", "raise")


SLOW = {"training": pytest.mark.slow}


@pytest.mark.parametrize("part", [pytest.param(p, marks=SLOW.get(p, ())) for p in FIGURES])
def test_a_part_runs_in_small(gpu, part, tmp_path):
    if not all(map(find_spec, NEEDS.get(part, ()))):
        pytest.skip("needs an extra")
    sizes = gpu.TOY if part == "rate" else dataclasses.replace(gpu.TOY, parity=((70, 5),))
    found = gpu.measure(tmp_path / "gpu.json", sizes, [part], 600)["parts"][part]
    assert "error" not in found
    refused = [row for row in found["rows"] if row.get("implementation") == "pallas"]
    assert all("kernel for GPUs" in row["error"] for row in refused)
    assert bool(refused) == (part in ("parity", "rate"))
    for row in found["rows"]:
        assert row in refused or row.keys() >= FIGURES[part]
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["about"]["commit"]
    assert list(written["parts"]) == [part]


def test_the_same_command_goes_on(gpu, monkeypatch, tmp_path):
    ran = []

    def part(name, fails):
        def run(sizes, most_seconds):
            ran.append(name)
            if fails.pop(0):
                raise RuntimeError("out of memory")
            return [{"n": 1}]

        return run

    fails = {"parity": [False], "rate": [True, False], "target": [False]}
    for name, each in fails.items():
        monkeypatch.setitem(gpu.PARTS, name, part(name, each))
    path, parts = tmp_path / "gpu.json", ["parity", "rate"]
    first = gpu.measure(path, gpu.TOY, parts, 600)
    assert first["parts"]["rate"]["error"] == "RuntimeError: out of memory"
    second = gpu.measure(path, gpu.TOY, [*parts, "target"], 600)
    assert ran == ["parity", "rate", "rate", "target"]
    assert set(second["parts"]) == {"parity", "rate", "target"}
    gpu.measure(path, gpu.TOY, parts, 600)
    assert len(ran) == 4
    fails["parity"].append(False)
    gpu.measure(path, dataclasses.replace(gpu.TOY, dim=17), ["parity"], 600)
    assert ran[4:] == ["parity"], "other sizes are measured again"


def test_without_time_nothing_runs(gpu, tmp_path, capsys):
    assert gpu.measure(tmp_path / "gpu.json", gpu.TOY, ["parity"], 0.0)["parts"] == {}
    assert "the same command goes on" not in capsys.readouterr().err
    assert not (tmp_path / "gpu.json").exists()


def test_it_does_not_pretend_on_a_cpu(gpu, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit, match="no GPU here"):
        gpu.main()
