"""Who follows the tutorial in the toy world gets the numbers that its page prints."""

import os
import subprocess
from contextlib import chdir
from pathlib import Path

import jax
import numpy as np
import pytest

from hyperface_jax.cli.main import main

pytestmark = pytest.mark.in_order
ROOT = Path(__file__).parents[1]
STAGES = ("pack", "synthesize", "train", "evaluate", "leakage", "diversity")
# Bash reads a block as the page has it; what it would start is left for this process to run.
RECORDER = """#!/bin/sh
printf '%s\\0' "$@" >> "$COMMANDS"
printf '\\n' >> "$COMMANDS"
"""


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


class Follower:
    """Somebody who goes through the toy blocks of the page, in one process."""

    def __init__(self, folder):
        from benchmarks.tutorial import toy_blocks

        self.folder, self.blocks = folder / "follower", toy_blocks()
        self.programs, self.commands = folder / "programs", folder / "commands"
        for path in (self.folder, self.programs):
            path.mkdir()
        recorder = self.programs / "hyperface"
        recorder.write_text(RECORDER)
        recorder.chmod(0o755)

    def until(self, name):
        """Follow until the file of that name is there."""
        device = jax.devices()[:1]
        with chdir(self.folder), pytest.MonkeyPatch.context() as patch:
            # One device, as on the machine whose numbers are printed.
            patch.setattr(jax, "device_count", lambda: 1)
            for devices in ("devices", "local_devices"):
                patch.setattr(jax, devices, lambda: device)
            while not Path(name).exists():
                language, block = self.blocks.pop(0)
                if language == "python":
                    exec(block, {})
                else:
                    for words in self._commands(block):
                        assert main(words) == 0, words

    def _commands(self, block):
        from benchmarks.tutorial import environment

        self.commands.unlink(missing_ok=True)
        variables = environment(self.programs) | {"COMMANDS": os.fspath(self.commands)}
        subprocess.run(["bash", "-euc", block], env=variables, check=True)
        return [line.split("\0")[:-1] for line in self.commands.read_text().splitlines()]


@pytest.fixture(scope="module")
def follower(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return Follower(tmp_path_factory.mktemp("tutorial"))


def test_the_toy_commands_make_a_gallery(follower):
    follower.until("toy/gallery.npz")
    with np.load(follower.folder / "toy" / "gallery.npz") as gallery:
        assert gallery["embeddings"].shape == (512, 128)


@pytest.mark.parametrize("stage", STAGES)
def test_the_toy_commands_give_the_printed_numbers(stage, follower):
    from benchmarks.common import read_result
    from benchmarks.tutorial import FIGURES, read_figure

    printed = {row["name"]: row for row in read_result("tutorial")["toy"]}
    assert printed.keys() == FIGURES.keys()
    for name, figure in FIGURES.items():
        if figure.stage == stage:
            follower.until(figure.path)
            found, row = read_figure(follower.folder, figure), printed[name]
            assert found == pytest.approx(row["value"], abs=row["tolerance"]), row["what"]


def test_every_stage_is_followed():
    from benchmarks.tutorial import FIGURES

    assert {figure.stage for figure in FIGURES.values()} == set(STAGES)


def test_the_printed_estimates_are_those_of_the_script():
    from benchmarks.common import read_result
    from benchmarks.tutorial import FIGURES, costs

    result = read_result("tutorial")
    assert result["costs"] == costs()
    tolerances = {name: figure.tolerance for name, figure in FIGURES.items()}
    assert {row["name"]: row["tolerance"] for row in result["toy"]} == tolerances
