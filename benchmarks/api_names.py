"""How many names of this package a user must know for each of ten tasks, before and after ``hf.run``.

    python -m benchmarks.api_names

A name is an attribute, an imported name or a keyword that belongs to this package, counted once a task.
The snippets "after" run in the tests; those "before" were written for commit 8ec3f37.
"""

from __future__ import annotations

import ast
from typing import Any, NamedTuple

from benchmarks.common import write_result

FOREIGN = {"jax", "jnp", "np", "optax"}
SETUP = """
import jax
import jax.numpy as jnp
import optax
import hyperface_jax as hf

key = jax.random.key(0)
keys = jax.random.split(key, 3)
gallery = hf.sphere.sample_uniform(keys[0], 60, 8)
people = hf.sphere.sample_uniform(keys[1], 9, 8)
old = hf.sphere.sample_uniform(keys[2], 5, 8)
x0 = hf.sphere.sample_uniform(key, 20, 8)
"""


class Task(NamedTuple):
    """One task in both interfaces."""

    name: str
    before: str
    after: str


TASKS = [
    Task(
        "a packing",
        """
problem = hf.PackingProblem(num_points=20, dim=8)
packing = hf.solve(problem, key, num_steps=9)
print(packing.max_cosine)
""",
        """
problem = hf.PackingProblem(num_points=20, dim=8)
packing = hf.solve(problem, key, num_steps=9)
print(packing.max_cosine)
""",
    ),
    Task(
        "an energy of one's own",
        """
class Gaussian(hf.packing.PairEnergy):
    def pair(self, scores, *, step, shift):
        kernel = jnp.exp(4 * (scores - 1))
        return kernel, 4 * kernel

problem = hf.PackingProblem(num_points=20, dim=8, energy=Gaussian())
packing = hf.solve(problem, key, num_steps=9)
""",
        """
energy = hf.pair_energy(lambda cosine: jnp.exp(4 * (cosine - 1)))
problem = hf.PackingProblem(num_points=20, dim=8)
packing = hf.solve(problem, key, method=hf.Custom(energy), num_steps=9)
""",
    ),
    Task(
        "a loop of one's own",
        """
objective = hf.as_objective(hf.SoftMax(50.0))
optimizer = hf.riemannian_adam(0.05)
state = optimizer.init(x0)
updates, state = optimizer.update(jax.grad(objective)(x0), state, x0)
x = optax.apply_updates(x0, updates)
""",
        """
objective = hf.as_objective(hf.SoftMax(50.0))
optimizer = hf.riemannian_adam(0.05)
state = optimizer.init(x0)
updates, state = optimizer.update(jax.grad(objective)(x0), state, x0)
x = optax.apply_updates(x0, updates)
""",
    ),
    Task(
        "a loop of one's own near a gallery",
        """
problem = hf.PackingProblem(num_points=20, dim=8, energy=hf.SoftMax(50.0), gallery=gallery)
optimizer = hf.riemannian_adam(0.05)
state = optimizer.init(x0)
force = problem.evaluate(x0).force
updates, state = optimizer.update(force, state, x0)
x = optax.apply_updates(x0, updates)
""",
        """
problem = hf.PackingProblem(num_points=20, dim=8, gallery=gallery)
objective = hf.as_objective(hf.SoftMax(50.0), problem)
optimizer = hf.riemannian_adam(0.05)
state = optimizer.init(x0)
updates, state = optimizer.update(jax.grad(objective)(x0), state, x0)
x = optax.apply_updates(x0, updates)
""",
    ),
    Task(
        "under jit",
        """
from hyperface_jax.packing import annealed

problem, solver = annealed(hf.PackingProblem(num_points=20, dim=8), num_steps=9)

@jax.jit
def pack(problem, key):
    state = solver.init_state(problem, key)
    step = lambda state, _: solver.step(problem, state)
    state, _ = jax.lax.scan(step, state, length=9)
    return state.best_x, state.best_max_cosine

x, cosine = pack(problem, key)
""",
        """
problem = hf.PackingProblem(num_points=20, dim=8)
packing = jax.jit(lambda key: hf.run(problem, key, num_steps=9))(key)
x, cosine = packing.x, packing.max_cosine
""",
    ),
    Task(
        "vmap over keys",
        """
from hyperface_jax.packing import annealed

problem, solver = annealed(hf.PackingProblem(num_points=20, dim=8), num_steps=9)

def pack(key):
    state = solver.init_state(problem, key)
    step = lambda state, _: solver.step(problem, state)
    state, _ = jax.lax.scan(step, state, length=9)
    return state.best_x, state.best_max_cosine

x, cosine = jax.vmap(pack)(keys)
""",
        """
problem = hf.PackingProblem(num_points=20, dim=8)
packing = jax.vmap(lambda key: hf.run(problem, key, num_steps=9))(keys)
x, cosine = packing.x, packing.max_cosine
""",
    ),
    Task(
        "vmap over problems",
        "",
        """
def pack(alpha):
    problem = hf.PackingProblem(num_points=20, dim=8, gallery=gallery, alpha=alpha)
    return hf.run(problem, key, num_steps=9).max_cosine

cosine = jax.vmap(pack)(jnp.array([0.5, 2.0]))
""",
    ),
    Task(
        "sharded",
        """
problem = hf.PackingProblem(num_points=20, dim=8)
packing = hf.solve(problem, key, num_steps=9, mesh=hf.meshes.make_mesh())
""",
        """
problem = hf.PackingProblem(num_points=20, dim=8)
packing = hf.solve(problem, key, num_steps=9, mesh=hf.meshes.make_mesh())
""",
    ),
    Task(
        "frozen points",
        """
problem = hf.PackingProblem(num_points=20, dim=8, frozen=old)
packing = hf.solve(problem, key, num_steps=9)
""",
        """
problem = hf.PackingProblem(num_points=20, dim=8, frozen=old)
packing = hf.solve(problem, key, num_steps=9)
""",
    ),
    Task(
        "keep-out, enforced and counted",
        """
from hyperface_jax.packing.constraints import repair_keep_out
from hyperface_jax.packing.figures import count_violations, measure

problem = hf.PackingProblem(num_points=20, dim=8, keep_out=people, keep_out_cosine=0.8)
packing = hf.solve(problem, key, num_steps=9)
x = repair_keep_out(packing.x, people, 0.8)
figures = measure(problem, x)
violations, cosine = count_violations(problem, figures), figures.nearest.max()
""",
        """
problem = hf.PackingProblem(num_points=20, dim=8, keep_out=people, keep_out_cosine=0.8)
packing = hf.solve(problem, key, num_steps=9)
x, violations, cosine = packing.x, packing.violations, packing.max_cosine
""",
    ),
]
"""A task without a snippet before could not be done: the weight of a gallery was static."""


def names(snippet: str) -> set[str]:
    """Return the names of this package in a snippet."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(snippet)):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
            found.add(str(node.module))
        elif isinstance(node, ast.Attribute) and _root(node) not in FOREIGN:
            found.add(node.attr)
        elif isinstance(node, ast.Call) and _root(node.func) not in FOREIGN:
            found |= {keyword.arg for keyword in node.keywords if keyword.arg}
        elif isinstance(node, ast.FunctionDef) and node.args.kwonlyargs:
            found |= {node.name, *(argument.arg for argument in node.args.kwonlyargs)}
    return found


def _root(node: Any) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Call)):
        node = node.value if isinstance(node, ast.Attribute) else node.func
    return node.id if isinstance(node, ast.Name) else None


def rows() -> list[dict[str, Any]]:
    """Count the names of every task."""
    return [
        {
            "task": task.name,
            "before": len(names(task.before)) if task.before else None,
            "after": len(names(task.after)),
        }
        for task in TASKS
    ]


def main() -> None:
    """Write the counts."""
    counts = rows()
    for row in counts:
        print(row)
    write_result("api_names", {"rows": counts})


if __name__ == "__main__":
    main()
