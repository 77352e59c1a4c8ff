"""The ``hyperface`` command itself: help, settings files, what it prints, exit codes."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from hyperface_jax import __version__, runs
from hyperface_jax.cli import _terminal
from hyperface_jax.cli._leaves import in_flags
from hyperface_jax.cli._verbs import EXAMPLES, VERBS
from hyperface_jax.cli.main import main, parse
from hyperface_jax.errors import InputError, PeerError, Stopped
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import command, option

PACK = ["pack", "--num-ids", "9", "--dim", "4", "--out", "run"]
EXISTING = [verb for verb in VERBS if verb.capitalize() in runs.__all__]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A part with settings of its own."""

    dtype: Literal["float32", "float16"] | None = None
    """Precision."""
    engine_steps: int = 25
    """Steps that it takes."""


@dataclass(frozen=True, kw_only=True)
class Seeded:
    """What several settings share."""

    seed: int = 0
    """Seed of everything
    random."""


@dataclass(frozen=True, kw_only=True)
class Report(Seeded):
    """Write about `folder`.

    A second paragraph.
    """

    folder: Path = option(is_positional=True, metavar="DIR")
    """Folder to write about."""
    color: Literal["rgb", "bgr"] | None = option(None, group="look", aliases=("colour",))
    """Order of channels."""
    shaded: bool = option(True, group="look", aliases=("gray_shades",))
    """Shade it."""
    benchmark: tuple[Path, ...] = option((), metavar="FILE")
    """Files to compare with."""
    title: str | None = None
    """Title of the page, without ``color=bgr``."""
    engine: Engine = option(Engine(engine_steps=7), group="drawing engine")
    """What draws."""


@pytest.fixture
def stage(monkeypatch):
    """Put settings and a function in place of a verb; the test sets what the function does."""

    class Stage:
        def act(self, settings, watch):
            return Result(settings.folder, {"seed": settings.seed}, "all is well")

    found = Stage()
    monkeypatch.setitem(vars(runs), "Report", Report)
    monkeypatch.setitem(vars(runs), "report", lambda config, *, watch: found.act(config, watch))
    return found


def _page(capsys, *words):
    with pytest.raises(SystemExit) as leaving:
        main(words)
    assert not leaving.value.code
    return capsys.readouterr().out


def _error(capsys, *words):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("hyperface: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


# Pages


def test_the_version(capsys):
    assert _page(capsys, "--version") == f"hyperface {__version__}\n"


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_help_lists_the_verbs_in_their_order(capsys, words):
    lines = _page(capsys, *words).splitlines()
    places = [next(i for i, line in enumerate(lines) if line.split()[:1] == [v]) for v in VERBS]
    assert places == sorted(places)
    assert list(VERBS) == list(EXAMPLES)


@pytest.mark.parametrize("verb", EXISTING)
def test_the_page_of_a_verb_ends_with_an_example_that_parses(capsys, verb):
    page = _page(capsys, verb, "--help")
    assert page.endswith(f"hyperface {verb} {EXAMPLES[verb]}\n")
    assert "None" not in page
    assert type(parse([verb, *EXAMPLES[verb].split()])).__name__.lower() == verb


def test_a_page_has_groups_docstrings_and_defaults(capsys, stage):
    page = " ".join(_page(capsys, "report", "--help").replace("│", " ").split())
    for part in (
        "Write about DIR. A second paragraph.",
        "DIR Folder to write about. (required)",
        "--seed INT Seed of everything random. (default: 0)",
        "--color {rgb,bgr} Order of channels. ",
        "--shaded, --no-shaded Shade it. (default: True)",
        "--benchmark FILE ... Files to compare with. ",
        "--title TEXT Title of the page, without --color bgr. ",
        "--engine-steps INT Steps that it takes. (default: 7)",
        "look options",
        "drawing engine options",
        "general options",
        "--quiet Show no progress and no remarks; warnings stay. --json",
    ):
        assert part in page
    assert page.index("--benchmark") < page.index("look options") < page.index("--color {")
    assert page.index("drawing engine options") < page.index("--engine-steps")
    for old in ("colour", "gray-shades", "silent", "None"):
        assert old not in page


def test_an_unknown_verb(capsys):
    assert "'pakc' is no command: did you mean pack?" in _error(capsys, "pakc")
    assert "hyperface --help" in _error(capsys, "--num-ids", "3")


def test_completion_knows_all_verbs(capsys, monkeypatch):
    for verb in set(VERBS) - set(EXISTING):
        monkeypatch.delitem(VERBS, verb)
    script = _page(capsys, "--print-completion", "bash")
    assert all(word in script for word in (*VERBS, "--keep-out-cosine", "stochastic"))
    assert "#compdef hyperface" in _page(capsys, "--print-completion", "zsh")
    assert "bash or zsh" in _error(capsys, "--print-completion", "csh")


# Words


def test_words_become_settings(stage):
    found = parse(["report", "here", "--benchmark", "a", "b", "--dtype", "float16", "--no-shaded"])
    engine = Engine(dtype="float16", engine_steps=7)
    files = (Path("a"), Path("b"))
    assert found == Report(folder=Path("here"), benchmark=files, shaded=False, engine=engine)
    assert parse(command(found).split()[1:]) == found
    assert parse(["report", "--benchmark", "--seed", "3", "here"]) == Report(
        folder=Path("here"), seed=3
    )


def test_old_flags_are_accepted(stage):
    new = parse(["report", "here", "--color", "bgr", "--no-shaded", "--quiet"])
    assert parse(["report", "here", "--colour", "bgr", "--no-gray-shades", "--silent"]) == new
    assert parse(["report", "here", "--colour=bgr", "--no-gray-shades"]) == new
    assert parse([*PACK, "--neighbours", "3"]).neighbors == 3


@pytest.mark.parametrize(
    "words", [["--num-ids", "x"], ["--nmu-ids", "3"], ["--iterate", "worst"], []], ids=str
)
def test_bad_words_are_refused(words, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["pack", *words])
    assert leaving.value.code == 2
    assert "hyperface pack --help" in capsys.readouterr().err


# Files of settings


def test_printed_settings_can_be_read_again(tmp_path, capsys, stage):
    words = ["report", "here", "--benchmark", "a", "--dtype", "float16", "--no-shaded"]
    assert main([*words, "--print-config"]) == 0
    path = tmp_path / "settings.yaml"
    path.write_text(capsys.readouterr().out)
    assert parse(["report", "--config", str(path)]) == parse(words)
    won = parse(["report", f"--config={path}", "there", "--seed", "5", "--shaded"])
    assert won == parse(["report", "there", *words[2:-1], "--seed", "5"])
    path.write_text(path.read_text() + "title: 'null'\n")
    assert parse(["report", "--config", str(path)]).title is None


def test_settings_as_people_write_them(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(
        '{\n\t"num-ids": 9, "neighbours": 2, "relax": false, "out": "run", "dim": null}'
    )
    found = parse(["pack", "--config", str(path)])
    assert (found.num_ids, found.neighbors, found.relax, found.dim) == (9, 2, False, None)
    path = tmp_path / "settings.yaml"
    path.write_text("num_ids: 9\nout: run\nlearning_rate: 1e-3\ndistributed: yes\npolish: yes\n")
    found = parse(["pack", "--config", str(path)])
    assert (found.learning_rate, found.distributed, found.polish) == (1e-3, "yes", True)


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("num_id: 3", "num_id is no setting: did you mean num_ids?"),
        ("num_ids: 1.5", "num_ids: must be INT, not '1.5'"),
        ("out: [a, b]", "out: must be PATH, not a list"),
        ("out:", "out: must be PATH, not ''"),
        ("iterate: worst", "iterate: must be {best,last}, not 'worst'"),
        ("relax: 3", "relax: must be BOOL"),
        ("config: other.yaml", "config is no setting"),
        ("- 1", "must hold names of settings"),
        ("a: b: c", "cannot be read as YAML"),
    ],
)
def test_bad_files_of_settings(tmp_path, capsys, text, culprit):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    error = _error(capsys, *PACK, "--config", str(path))
    assert f"{path}: {culprit}" in error


def test_bad_values_of_parts_and_lists(tmp_path, capsys, stage):
    path = tmp_path / "settings.yaml"
    path.write_text("engine: {engine_steps: many}")
    assert "engine.engine_steps: must be INT" in _error(capsys, "report", "--config", str(path))
    path.write_text("benchmark: a")
    assert "benchmark: must be PATH ..." in _error(capsys, "report", "--config", str(path))
    assert "nowhere.yaml" in _error(capsys, "report", "--config", "nowhere.yaml")


# What is printed


def test_the_result_in_words_and_as_json(capsys, stage):
    assert main(["report", "here", "--seed", "3"]) == 0
    assert capsys.readouterr().out == "all is well\n"
    assert main(["report", "here", "--seed", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"seed": 3}


def test_remarks_warnings_and_progress(capsys, stage, monkeypatch):
    def act(settings, watch):
        watch.say("going on with `seed`")
        watch.warn("`seed=3`: is low")
        with watch.progress("drawing", "faces", 4) as update:
            update(0, "compiling")
        return Result(None, {}, "drop `seed`")

    stage.act = act
    assert main(["report", "here"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "going on with --seed\ndrop --seed\n"
    assert captured.err == "hyperface: warning: --seed 3: is low\ndrawing: 0/4  compiling\n"
    assert main(["report", "here", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "drop --seed\n"
    assert captured.err == "hyperface: warning: --seed 3: is low\n"
    assert main(["report", "here", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "{}\n"
    assert "going on" in captured.err


def test_fields_in_backquotes_become_options():
    text = "`seed=1`, `folder`, `engine_steps=3`, `shaded=False`, `shaded`, `benchmark`, `np.dot`, `x=1`"
    shown = "--seed 1, DIR, --engine-steps 3, --no-shaded, --shaded, --benchmark, `np.dot`, `x=1`"
    assert in_flags(text, Report) == shown


# How it ends


@pytest.mark.parametrize(
    ("error", "code", "out", "err"),
    [
        (InputError("`seed=1`: too low"), 2, "", "hyperface: error: --seed 1: too low\n"),
        (PeerError("elsewhere"), 3, "", ""),
        (KeyboardInterrupt(), 130, "", "hyperface: interrupted\n"),
        (
            Stopped(Path("run")),
            130,
            "run: stopped and saved; run the same command to go on\n",
            "",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_codes(capsys, stage, error, code, out, err):
    def act(settings, watch):
        raise error

    stage.act = act
    assert main(["report", "here"]) == code
    assert capsys.readouterr() == (out, err)


def test_other_errors_are_not_hidden(stage):
    def act(settings, watch):
        raise BrokenPipeError("of a worker")

    stage.act = act
    with pytest.raises(BrokenPipeError):
        main(["report", "here"])


def test_a_missing_extra(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("hyperface_jax.cli._")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("hyperface_jax.cli._parser", raising=False)
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert main(PACK) == 2
    needed = "hyperface needs its extras: pip install '.[cli]' in a checkout\n"
    assert capsys.readouterr().err == needed


@pytest.mark.parametrize(
    ("words", "is_buffered"),
    [(["--help"], True), (["pack", "--help"], False), ([*PACK, "--print-config"], True)],
    ids=str,
)
def test_a_reader_that_leaves_early(words, is_buffered):
    environment = os.environ | ({} if is_buffered else {"PYTHONUNBUFFERED": "1"})
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "hyperface_jax.cli.main", *words],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


# Progress


class _Clock:
    """Time that a test sets."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(_terminal.time, "monotonic", lambda: self.now)


def _lines(capsys, clock, unit, total, start, updates):
    with _terminal.show_progress("drawing\nfaces", unit, total, start) as update:
        for second, done, figure in updates:
            clock.now = second
            update(done, figure)
    return capsys.readouterr().err.splitlines()


def test_steps_in_a_log(capsys, monkeypatch):
    updates = [(0, 10, "compiling"), (2, 14, "a"), (4, 18, "b"), (20, 50, "c"), (25, 60, "d")]
    assert _lines(capsys, _Clock(monkeypatch), "steps", 60, 10, updates) == [
        "drawing faces: 10/60  compiling",
        "step 14/60  2.0 steps/s  23 s left  a",
        "step 50/60  2.0 steps/s  5 s left  c",
        "step 60/60  2.0 steps/s  0 s left  d",
    ]


def test_counts_and_shares_in_a_log(capsys, monkeypatch):
    clock = _Clock(monkeypatch)
    updates = [(1, 0, ""), (2, 4, ""), (16, 32, ""), (17, 34, ""), (28, 400, "e")]
    assert _lines(capsys, clock, "images", 400, 0, updates) == [
        "drawing faces: 32/400  2 images/s  184 s left",
        "drawing faces: 400/400  14 images/s  0 s left  e",
    ]
    clock.now = 0
    assert _lines(capsys, clock, "", 1, 0, [(1, 0.1, ""), (20, 0.5, "")]) == [
        "drawing faces: 50%  20 s left"
    ]


@pytest.mark.parametrize("unit", ["steps", "images", ""])
def test_a_bar_on_a_terminal(capsys, monkeypatch, unit):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    with _terminal.show_progress("drawing [faces]", unit, 1 if not unit else 9) as update:
        update(1, "cosine [0.5]")
    shown = capsys.readouterr().err
    assert "drawing [faces]" in shown
    assert "cosine [0.5]" in shown
    assert ("1/9" in shown) == bool(unit)
