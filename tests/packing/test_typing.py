"""Types as users meet them: hints that resolve, shapes that are checked, no Unknown in an editor."""

import inspect
import json
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import hyperface_jax as hf

ROOT = Path(__file__).parents[2]
FUNCTIONS = [name for name in hf.__all__ if callable(getattr(hf, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hints_resolve_at_run_time(name):
    public = getattr(hf, name)
    if not inspect.isclass(public):
        assert typing.get_type_hints(public)
        return
    typing.get_type_hints(public)
    for name, method in inspect.getmembers(public, inspect.isfunction):
        if name != "__init__" and method.__module__.startswith("hyperface_jax"):
            typing.get_type_hints(method)


def test_aliases_are_there_at_run_time_without_jaxtyping():
    """jaxtyping is a dependency of developers: without it the names stand for arrays."""
    code = (
        "import sys; sys.modules['jaxtyping'] = None\n"
        "import typing, jax, hyperface_jax as hf\n"
        "from hyperface_jax.typing import Points, PRNGKey\n"
        "print(typing.get_type_hints(hf.sphere.sample_uniform)['return'] is jax.Array)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


CHECKED = """
import jax, jaxtyping
with jaxtyping.install_import_hook(
    ["hyperface_jax.packing", "hyperface_jax.pairwise", "hyperface_jax.sphere"], "checker.checked"
):
    import hyperface_jax as hf
x = hf.sphere.sample_uniform(jax.random.key(0), 20, 4)
gallery = hf.sphere.sample_uniform(jax.random.key(1), 30, 4)
problem = hf.PackingProblem(
    num_points=20, dim=4, gallery=gallery, frozen=x[:3], keep_out=x[5:7], keep_out_cosine=0.9
)
key = jax.random.key(0)
for method in (hf.Annealed(), hf.Paper(), hf.MiniBatch(batch_size=10)):
    jax.make_jaxpr(lambda p, k: hf.run(p, k, method=method, num_steps=2))(problem, key)
hf.solve(hf.PackingProblem(num_points=20, dim=4), key, num_steps=2)
jax.make_jaxpr(jax.grad(hf.as_objective(hf.SoftMax(9.0), problem)))(x)
hf.max_cosine(x, gallery)
try:
    hf.sphere.sample_uniform(jax.random.key(0), "20", 4)
except Exception as error:
    print(type(error).__name__)
"""


def test_shapes_are_those_of_the_signatures(tmp_path):
    """Every annotated function of the core, called with its shapes checked."""
    (tmp_path / "checker.py").write_text(
        "from beartype import BeartypeConf, beartype\n"
        "checked = beartype(conf=BeartypeConf(is_pep484_tower=True))\n"
    )
    (tmp_path / "checked.py").write_text(CHECKED)
    command = [sys.executable, tmp_path / "checked.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["TypeCheckError"], "the hook checks nothing"


USER = """
import jax
import jax.numpy as jnp
import hyperface_jax as hf

problem = hf.PackingProblem(num_points=20, dim=4)
packing = hf.solve(problem, jax.random.key(0), method=hf.Annealed(num_steps=3))
pure = hf.run(problem, jax.random.key(0), start="uniform")
energy = hf.pair_energy(lambda cosine: jnp.exp(cosine))
custom = hf.Custom(energy, hf.riemannian_adam(0.1))
value = hf.as_objective(hf.SoftMax(9.0), problem)(packing.x)
names = (
%s
)
"""


def test_an_editor_knows_every_public_name(tmp_path):
    listed = "\n".join(f"    hf.{name}," for name in hf.__all__ if name != "__version__")
    (tmp_path / "user.py").write_text(USER % listed)
    config = {
        "include": ["user.py"],
        "extraPaths": [str(ROOT)],
        "venvPath": str(ROOT),
        "venv": ".venv",
        "typeCheckingMode": "basic",
        "reportUnknownVariableType": "error",
        "reportUnknownMemberType": "error",
        "reportUnknownArgumentType": "error",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "pyright", "--outputjson", "-p", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    found = [
        f"{d['range']['start']['line'] + 1}: {d['message']}"
        for d in json.loads(done.stdout)["generalDiagnostics"]
        if d["severity"] == "error" and "jax" not in d["message"].partition("hyperface")[0]
    ]
    assert not found, "\n".join(found)
