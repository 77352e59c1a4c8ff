"""The documents: the site builds without a warning, links lead somewhere, blocks and commands run."""

import importlib
import json
import re
import shlex
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jax
import numpy as np
import pytest

from hyperface_jax.cli.main import main
from hyperface_jax.io.images import normalize

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PUBLIC = (
    "runs",
    "packing",
    "pairwise",
    "codes",
    "planning",
    "faces",
    "synthesis",
    "recognition",
    "response",
    "evaluation",
)


def _name(page):
    return str(page.relative_to(ROOT))


def _blocks(page, language):
    """Return the blocks of a language that stand in the page itself and need no other test."""
    found = FENCE.findall(page.read_text())
    return [
        code
        for tongue, title, code in found
        if tongue == language and "toy world" not in title and "--8<--" not in code
    ]


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", out]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return out


class _Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        self.links |= {values[name] for name in ("href", "src") if values.get(name)}


def test_links_and_anchors_of_the_site_resolve(site):
    # The page of missing pages is served from anywhere, so its links start at the root.
    pages = {p: _Page(p.read_text()) for p in site.rglob("*.html") if p.name != "404.html"}
    assert len(pages) > 20
    broken, checked = [], 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            is_there = target.exists() and (
                not anchor or target not in pages or anchor in pages[target].anchors
            )
            broken += [] if is_there else [f"{path.relative_to(site)}: {link}"]
            checked += 1
    assert not broken
    assert checked > 500


def test_the_site_needs_no_network_for_its_own_parts(site):
    for path in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', path.read_text()
        )
        assert not loaded, path


def test_search_formulas_and_sources_are_there_without_a_network(site):
    """Pages that are opened from disk find an index in a script, and draw what is in them."""
    page = (site / "packing.html").read_text()
    assert 'src="javascripts/iframe-worker.js"' in page
    assert (site / "javascripts" / "iframe-worker.js").exists()
    index = (site / "search" / "search_index.js").read_text()
    assert index.startswith("var __index = {")
    assert "packing.html#the-soft-maximum" in index
    assert page.count("<math ") == DOCS.joinpath("packing.md").read_text().count("```math") > 1
    assert "hyperface_jax/bounds.py" in (site / "api" / "bounds.html").read_text()
    commands = _Page((site / "commands.html").read_text()).links
    assert {f"api/runs.html#hyperface_jax.runs.{name}" for name in ("pack", "Pack")} <= commands


def test_the_api_is_in_the_order_of_use_without_internals(site):
    stages = ("Faces", "faces", "Embed", "Pack", "pack", "Synthesize", "Train", "Evaluate", "Demo")
    pages = {name: (site / "api" / f"{name}.html").read_text() for name in ("runs", "packing")}
    places = [pages["runs"].index(f'id="hyperface_jax.runs.{name}"') for name in stages]
    assert places == sorted(places)
    entries = {anchor for anchor in _Page(pages["packing"]).anchors if "packing." in anchor}
    assert "hyperface_jax.packing.Method.make_optimizer" in entries
    assert "hyperface_jax.packing.Packing.gap" in entries
    assert not [name for name in entries if "Annealed.make" in name or "tree_flatten" in name]
    # Rules for those who work on the package stay in the source.
    assert "may import" not in pages["packing"].split("<h2")[0]


def test_every_public_name_has_an_entry(site):
    missing = []
    for package in PUBLIC:
        module = importlib.import_module(f"hyperface_jax.{package}")
        anchors = _Page((site / "api" / f"{package}.html").read_text()).anchors
        entries = {anchor.rsplit(".", 1)[-1] for anchor in anchors}
        documented = [name for name in module.__all__ if callable(getattr(module, name))]
        missing += [f"{package}.{name}" for name in documented if name not in entries]
    # A function whose module has its name hides behind it: give it an entry of its own.
    assert not [name for name in missing if name not in _ALIASES]


_ALIASES = ("packing.Start", "pairwise.Implementation", "pairwise.Precision")
"""Names of types."""


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"], ids=_name
)
def test_relative_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text()))
    for link in links:
        if not re.match(r"\w+:", link):
            path, _, anchor = link.partition("#")
            target = ROOT / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in _headings(target), link


def _headings(page):
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


# The README

README = ROOT / "README.md"
TABLE = re.compile(r"^\|.*\n\| ---.*\n(?:\|.*\n)*", re.MULTILINE)
NEWCOMERS = ("gallery", "code", "lower bounds", "sweep", "polish", "certified", "keep-out", "0.391")
"""What the glossary explains, as the README would write it."""


def _prose(page):
    text = re.sub(r"<!--.*?-->", "", FENCE.sub("", page.read_text()))
    return re.sub(r"\]\([^)]*\)", "]", TABLE.sub("", text))


def test_the_readme_is_one_screen():
    assert 300 < len(_prose(README).split()) <= 700
    assert len(TABLE.findall(README.read_text())) == 2


@pytest.mark.parametrize("word", NEWCOMERS)
def test_the_readme_explains_a_word_where_it_is_first_used(word):
    text = re.sub(r"`[^`\n]+`", "", FENCE.sub("", TABLE.sub("", README.read_text())))
    first = re.search(rf"(?<![\w-]){word}(?![\w-])", text)
    if first:
        assert text[first.end() :].startswith("](docs/glossary.md#"), text[first.start() - 60 :][
            :99
        ]


def test_the_commands_of_the_readme_run_in_an_empty_folder(
    as_users_run_it, commands_of, on_one_device
):
    (block,) = (block for block in _blocks(README, "bash") if "hyperface faces" in block)
    with on_one_device():
        for words in commands_of(block):
            assert main(words) == 0, words
    assert np.load("identities/embeddings.npy").shape == (20, 128)
    assert json.loads(Path("data/summary.json").read_text())["num_images"] == 40
    assert Path("data/contact_sheet.png").exists()


def test_the_command_line_page_is_that_of_the_parser(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import command_line

    monkeypatch.setattr(sys, "argv", ["command_line", "--check"])
    assert command_line.main() == 0, capsys.readouterr().out


# Python


@pytest.fixture
def as_users_run_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield tmp_path
    jax.config.update("jax_numpy_rank_promotion", "raise")


def _check_recognition(names, printed):
    assert "(2, 512)" in printed
    # What PyTorch reads is what was written, and its input is the one that the JAX network takes.
    state, weights = names["state"], names["weights"]
    assert state.keys() == weights.keys()
    assert all(np.array_equal(state[name].numpy(), weights[name]) for name in weights)
    taken = normalize(names["faces"], "bgr").transpose(0, 3, 1, 2)
    np.testing.assert_allclose(names["x"].numpy(), taken, atol=1e-6)


def _check_synthesis(names, printed):
    images = names["gray"](np.zeros((2, 512), np.float32), np.zeros((2, 4, 8, 8), np.float32))
    assert images.shape == (2, 64, 64, 3)


def _check_toy_world(names, printed):
    assert names["images"].shape == (4, 32, 32, 3)


def _check_optax(names, printed):
    assert names["values"][-1] < names["values"][0] - 0.2
    assert names["apart"] < names["together"] - 0.02
    assert names["final"].nearest.max() <= float(names["records"].max_cosine.min()) + 1e-6
    assert names["many"].x.shape == (3, 24, 4)
    assert names["gradient"](names["near_x"], names["near"]).shape == (300, 32)


def _check_numbers(names, printed):
    assert "-0.0101 simplex" in printed
    assert names["bound"].value < names["code"].max_cosine < 0.05


CHECKS = {
    "docs/recognition.md": _check_recognition,
    "docs/synthesis.md": _check_synthesis,
    "docs/toy-world.md": _check_toy_world,
    "docs/tutorials/optax.md": _check_optax,
    "docs/numbers.md": _check_numbers,
}
PYTHON_PAGES = [page for page in PAGES if _blocks(page, "python")]


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=_name)
def test_python_blocks_run_as_one_program(page, as_users_run_it, capsys):
    names = {}
    for block in _blocks(page, "python"):
        exec(compile(block, page, "exec"), names)
    if check := CHECKS.get(_name(page)):
        check(names, capsys.readouterr().out)


def test_all_pages_with_checks_are_there():
    assert set(CHECKS) <= {_name(page) for page in PYTHON_PAGES}


def _loaded(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _write_a_face_and_its_networks(folder):
    from PIL import Image

    detectors = _loaded(ROOT / "tests/faces/test_detectors.py")
    recognizers = _loaded(ROOT / "tests/faces/tiny_onnx.py")
    for name in ("models/arc2face", "faces"):
        (folder / name).mkdir(parents=True)
    detectors.write(folder / "models" / "det_10g.onnx")
    recognizers.write(folder / "models" / "arc2face" / "arcface.onnx")
    image = np.zeros((640, 640, 3), np.uint8)
    Image.fromarray(image).save(folder / "faces" / "none.png")
    image[320:328, 320:328] = detectors.RED
    Image.fromarray(image).save(folder / "faces" / "0.png")


def test_the_commands_for_photographs_run(as_users_run_it, commands_of, on_one_device):
    _write_a_face_and_its_networks(as_users_run_it)
    blocks = _blocks(DOCS / "tutorials" / "faces.md", "bash")
    chosen = [block for block in blocks if "embed faces --d" in block or "align faces" in block]
    assert len(chosen) == 2
    rows = []
    for words in (words for block in chosen for words in commands_of(block)):
        with on_one_device():
            assert main(words) == 0, words
        if words[0] == "embed":
            with np.load("gallery.npz") as gallery:
                assert gallery["names"].tolist() == ["0.png"]
                rows.append(gallery["embeddings"])
    np.testing.assert_array_equal(*rows)
    assert Path("aligned.skipped.txt").read_text() == "none.png\tno face was found\n"
    assert Path("landmarks.csv").read_text().startswith("0.png,")


# The command line


def _commands(page):
    """Return the words of every hyperface command in the bash blocks of a page."""
    for block in _blocks(page, "bash") + _toy_blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            yield from _within(shlex.split(line, comments=True))


def _toy_blocks(page):
    found = FENCE.findall(page.read_text())
    return [code for tongue, title, code in found if tongue == "bash" and "toy world" in title]


def _within(words):
    for word in words:
        if word.startswith("hyperface "):
            yield from _within(shlex.split(word))
    if "hyperface" in words:
        rest = words[words.index("hyperface") + 1 :]
        ends = [i for i, word in enumerate(rest) if word in ("&", "&&", ";", "|")]
        yield rest[: ends[0]] if ends else rest


COMMANDS = [(page, words) for page in PAGES for words in _commands(page)]


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{_name(p)}-{' '.join(w[:2])}" for p, w in COMMANDS]
)
def test_command_of_a_page_parses(page, words, capsys):
    from hyperface_jax.cli.main import parse

    try:
        parse(words)
    except SystemExit:
        pytest.fail(f"{_name(page)}: hyperface {shlex.join(words)}\n{capsys.readouterr()}")


def test_commands_are_found():
    verbs = {words[0] for _, words in COMMANDS}
    assert len(COMMANDS) > 40
    assert verbs >= {"pack", "faces", "embed", "synthesize", "train", "evaluate", "plan", "demo"}


OTHERS = {"--parts", "--no-python", "--nproc-per-node", "--work", "--check"}
OTHERS |= {"--help", "--version", "--print-completion"}
"""Options of other programs, and of the command line without a verb."""


def test_options_in_the_text_exist():
    from hyperface_jax import runs
    from hyperface_jax.cli._leaves import leaves
    from hyperface_jax.cli._parser import General
    from hyperface_jax.cli._verbs import VERBS

    settings = [General, *(getattr(runs, verb.capitalize()) for verb in VERBS)]
    options = {f"--{leaf.flag}" for kind in settings for leaf in leaves(kind)}
    options |= {option.replace("--", "--no-", 1) for option in options} | OTHERS
    for page in PAGES:
        spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))
        shown = {
            word for span in spans for word in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", span)
        }
        assert shown <= options, f"{_name(page)}: {sorted(shown - options)}"


@pytest.mark.every_core
def test_the_two_processes_of_the_scaling_page_run(tmp_path):
    commands = _blocks(DOCS / "scaling.md", "bash")[0].replace(
        "hyperface pack", f"{sys.executable} -m hyperface_jax.cli.main pack"
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        commands = commands.replace("12765", str(free.getsockname()[1]))
    subprocess.run(["bash", "-euc", commands], cwd=tmp_path, check=True, timeout=300)
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert (summary["num_processes"], summary["num_devices"]) == (2, 8)
