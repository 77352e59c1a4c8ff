"""Every example runs and shows what it says."""

import contextlib
import functools
import io
import re
import runpy
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


@pytest.fixture(autouse=True)
def as_users_run_it():
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", "raise")


@functools.cache
def _lines(name):
    """Run an example once, and return what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    return printed.getvalue().splitlines()


def _figures(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_prints_a_figure(name):
    assert _figures("\n".join(_lines(name)))


def test_five_lines_pack_well():
    cosine, bound = _figures(_lines("pack_in_five_lines")[0])
    assert bound < cosine < 0.23


def test_own_loop_lowers_the_objective():
    first, last = _figures(_lines("own_optax_loop")[0])
    assert last < first - 0.2


def test_own_loop_with_a_gallery_lowers_the_objective():
    first, last = _figures(_lines("own_loop_with_gallery")[0])
    assert last < first - 0.2


def test_many_at_once_trades_separation_for_nearness():
    lines = _lines("many_at_once")
    cosines = [_figures(line)[1] for line in lines if line.startswith("alpha")]
    assert len(cosines) == 3
    assert cosines == sorted(cosines)
    assert _figures(lines[0])[0] < 0.56


def test_the_command_line_in_python():
    lines = _lines("pack_like_the_command")
    assert len(lines) == 10
    polished = _figures(next(line for line in lines if line.startswith("--polish")))[0]
    assert _figures(lines[-1])[0] == pytest.approx(polished, abs=1e-5)


@pytest.mark.parametrize(
    "name", ["class_prototypes", "prototypes_in_flax", "prototypes_in_pytorch"]
)
def test_dispersion_parts_the_prototypes(name):
    (_, without), (_, with_dispersion) = map(_figures, _lines(name))
    assert with_dispersion < without - 0.02


def test_keep_out_keeps_all_out():
    without, kept = _lines("keep_out")
    assert "out: 0 of" not in without
    assert "out: 0 of" in kept


def test_the_frontier_trades_separation_for_nearness():
    rows = [_figures(line) for line in _lines("alpha_frontier")[1:]]
    for column in zip(*rows, strict=True):
        assert list(column) == sorted(column)


def test_no_packing_and_no_code_is_below_its_bound():
    for line in _lines("best_known_codes")[1:]:
        bound, code, packed = _figures(line)
        assert bound <= min(code, packed) + 1e-4


def test_several_processes_work_together():
    assert "2 processes, 4 devices" in _lines("several_processes")[0]


def test_the_copies_are_found():
    for line in _lines("leakage_search")[1:]:
        identity, person = re.findall(r"\w+ (\d+)[:,]", line)
        assert identity == person
