"""The words that the glossary retires are gone from public names."""

import ast
import re
from pathlib import Path

import hyperface_jax

ROOT = Path(__file__).parents[1]
PACKAGE = Path(hyperface_jax.__file__).parent
BRITISH = re.compile(r"colour|neighbour|centre|(normal|recogn|optim|summar|initial)is(e|ing|er)")


def _retired():
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in (ROOT / "docs" / "glossary.md").read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| ---")
    ]
    words = (word.strip() for row in rows if row[0] != "Word" for word in row[2].split(","))
    return {word.replace(" ", "_") for word in words if word}


def _public_names(tree):
    """Yield public names of functions, classes, attributes and parameters."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
            yield from (
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            )
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name
            arguments = node.args
            yield from (a.arg for a in (*arguments.args, *arguments.kwonlyargs))


def _is_retired(name, retired):
    return name.lower() in retired or bool(BRITISH.search(name.lower()))


def test_the_check_finds_what_is_retired():
    retired = _retired()
    assert {"num_iterations", "solver"} <= retired
    names = ["num_iterations", "colour_order", "Solver", "num_steps", "color"]
    assert [_is_retired(name, retired) for name in names] == [True, True, True, False, False]
    tree = ast.parse("class A:\n    x: int = 0\n    def f(self, *, colour): ...\nclass _B: ...")
    assert {"A", "x", "f", "colour"} <= set(_public_names(tree))
    assert "_B" not in set(_public_names(tree))


def test_retired_words_are_gone_from_public_names():
    retired = _retired()
    found = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in PACKAGE.rglob("*.py")
        for name in _public_names(ast.parse(path.read_text()))
        if _is_retired(name, retired)
    }
    assert not found
