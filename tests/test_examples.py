"""Every example runs and shows what it says; so does every Python block of the README."""

import json
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture(autouse=True)
def as_users_run_it():
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", "raise")


def _figures(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs(path, capsys):
    runpy.run_path(str(path), run_name="__main__")
    assert _figures(capsys.readouterr().out), "an example prints a figure"


def test_five_lines_pack_well(capsys):
    runpy.run_path(str(ROOT / "examples" / "pack_in_five_lines.py"))
    cosine, bound = _figures(capsys.readouterr().out)
    assert bound < cosine < 0.23


def test_own_loop_lowers_the_objective(capsys):
    runpy.run_path(str(ROOT / "examples" / "own_optax_loop.py"))
    first, last = _figures(capsys.readouterr().out)
    assert last < first - 0.2


def test_dispersion_parts_the_prototypes(capsys):
    runpy.run_path(str(ROOT / "examples" / "class_prototypes.py"))
    _, without, _, with_dispersion = _figures(capsys.readouterr().out)
    assert with_dispersion < without - 0.02


def test_recognition_block_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "recognition.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(block, "docs/recognition.md", "exec"), {})
    assert "(2, 512)" in capsys.readouterr().out


def test_synthesis_block_runs():
    text = (ROOT / "docs" / "synthesis.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(compile(block, "docs/synthesis.md", "exec"), names)
    images = names["grey"](np.zeros((2, 512), np.float32), np.zeros((2, 4, 8, 8), np.float32))
    assert images.shape == (2, 64, 64, 3)


def _readme_blocks():
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("block", _readme_blocks())
def test_readme_block_runs(block):
    exec(compile(block, "README.md", "exec"), {})


def _scaling_block(language):
    text = (ROOT / "docs" / "scaling.md").read_text()
    return re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1]


def test_the_scaling_page_runs_from_jax():
    exec(compile(_scaling_block("python"), "scaling.md", "exec"), {})


def test_the_two_processes_of_the_scaling_page_run(tmp_path):
    commands = _scaling_block("bash").replace(
        "hyperface pack", f"{sys.executable} -m hyperface_jax.cli.main pack"
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        commands = commands.replace("12765", str(free.getsockname()[1]))
    subprocess.run(["bash", "-euc", commands], cwd=tmp_path, check=True, timeout=300)
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert (summary["num_processes"], summary["num_devices"]) == (2, 8)


def test_toy_world_block_runs():
    text = (ROOT / "docs" / "toy-world.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(compile(block, "docs/toy-world.md", "exec"), names)
    assert names["images"].shape == (4, 32, 32, 3)
