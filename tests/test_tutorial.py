"""Who follows the tutorial in the toy world gets the numbers that its page prints."""

from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax.cli.main import main

pytestmark = pytest.mark.in_order
ROOT = Path(__file__).parents[1]
STAGES = ("pack", "synthesize", "train", "evaluate", "leakage", "diversity")


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


class Follower:
    """Somebody who goes through the toy blocks of the page, in one process."""

    def __init__(self, folder, commands_of, on_one_device):
        from benchmarks.tutorial import toy_blocks

        self.folder, self.blocks, self.commands_of = folder, toy_blocks(), commands_of
        self.on_one_device = on_one_device

    def until(self, name):
        """Follow until the file of that name is there."""
        # One device, as on the machine whose numbers are printed.
        with chdir(self.folder), self.on_one_device():
            while not Path(name).exists():
                language, block = self.blocks.pop(0)
                if language == "python":
                    exec(block, {})
                else:
                    for words in self.commands_of(block):
                        assert main(words) == 0, words


@pytest.fixture(scope="module")
def follower(tmp_path_factory, commands_of, on_one_device):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return Follower(tmp_path_factory.mktemp("tutorial"), commands_of, on_one_device)


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
