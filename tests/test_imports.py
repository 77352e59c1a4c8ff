"""What imports what: the layers of the package, and what a bare import loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hyperface_jax

PACKAGE = Path(hyperface_jax.__file__).parent
LAYERS = [
    {"typing", "errors"},
    {"sphere", "bounds", "sharding"},
    {"io"},
    {"pairwise"},
    {"codes"},
    {"packing"},
    {"gallery", "synthesis", "recognition", "evaluation", "toyfaces"},
    {"reports"},
    {"cli"},
]
CONFINED = {
    "torch": {"synthesis", "gallery", "io", "toyfaces"},
    "flax": {"recognition"},
    "grain": {"recognition"},
    "onnxruntime": {"gallery"},
    "matplotlib": {"reports"},
    "orbax": {"io", "recognition"},
    "tyro": {"cli"},
    "rich": {"cli"},
}


def _layer(name):
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "hyperface_jax":
                yield from (f"hyperface_jax.{alias.name}" for alias in node.names)
            else:
                yield node.module


MODULES = [p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_layer_imports_only_downwards(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in _imports(path):
        root, _, rest = name.partition(".")
        if root == "hyperface_jax" and rest:
            other = rest.partition(".")[0]
            assert other == own or _layer(other) < _layer(own), f"{path} imports {name}"
        if root in CONFINED:
            assert own in CONFINED[root], f"{path} imports {name}"


def _loaded(statement):
    code = f"{statement}; import sys; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_pulls_in_jax_and_optax_only():
    extra = _loaded("import hyperface_jax") - _loaded("import jax, optax")
    # An editable install adds a path finder of its own.
    extra = {m for m in extra if not m.startswith("__editable__")}
    # jaxtyping names shapes where it is installed, see hyperface_jax.typing.
    assert extra <= {"hyperface_jax", "jaxtyping"} | set(sys.stdlib_module_names)
