"""What imports what: the layers of the package, and what a bare import loads."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import hyperface_jax

PACKAGE = Path(hyperface_jax.__file__).parent
LAYERS = [
    {"typing", "errors", "optima"},
    {"lazy"},
    {"sphere", "bounds", "meshes", "processes"},
    {"io"},
    {"pairwise"},
    {"codes"},
    {"packing"},
    {"planning", "synthesis", "recognition", "evaluation", "response"},
    {"faces"},
    {"toyfaces"},
    {"reports"},
    {"runs"},
    {"cli"},
]
CONFINED = {
    "torch": {"synthesis", "faces", "io", "toyfaces"},
    "flax": {"recognition", "faces", "response", "toyfaces"},
    "grain": {"recognition"},
    "onnx": {"recognition"},
    "onnxruntime": {"faces"},
    "lmdb": {"io"},
    "msgpack": {"io"},
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


def _name(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    )


def _graph():
    """Which module names which, also where it does so late or for types only."""
    known = {_name(path): path for path in PACKAGE.rglob("*.py")}
    graph = {}
    for name, path in known.items():
        found = graph.setdefault(name, set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names} & known.keys()
            elif isinstance(node, ast.ImportFrom) and node.module in known:
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= parts & known.keys() or {node.module}
    return graph


def _circle(graph):
    """Return modules that name each other in turn; None if there are none."""
    done, trail = set(), []

    def visit(name):
        if name in trail:
            return trail[trail.index(name) :]
        if name in done:
            return None
        trail.append(name)
        for other in sorted(graph[name]):
            if found := visit(other):
                return found
        trail.pop()
        done.add(name)
        return None

    return next((found for name in sorted(graph) if (found := visit(name))), None)


def test_no_imports_run_in_a_circle():
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert _circle(_graph()) is None


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda p: p.parent.name)
def test_no_module_is_hidden_by_a_name_that_its_folder_exports(path):
    package = importlib.import_module(_name(path))
    modules = {module.name for module in pkgutil.iter_modules([str(path.parent)])}
    exported = set(getattr(package, "__all__", ()))
    hidden = {n for n in modules & exported if not isinstance(getattr(package, n), ModuleType)}
    assert not hidden


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
