"""Precision of the steps of a run, as its devices decide it; GPUs are pretended, never used."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import hyperface_jax as hf
from hyperface_jax import runs
from hyperface_jax.errors import InputError
from hyperface_jax.io.files import read_json
from hyperface_jax.packing import (
    Annealed,
    Custom,
    Loop,
    MiniBatch,
    PackingProblem,
    Riesz,
    SoftMax,
    refining_annealing,
)
from hyperface_jax.packing.products import resolved
from hyperface_jax.pairwise import Sweep, max_cosine

LARGE = 10_000, 512
KEY = jax.random.key(0)


@pytest.fixture
def pretend(monkeypatch):
    """Let JAX say that its devices are of another kind, and forget what was traced for them."""

    def become(platform):
        monkeypatch.setattr(jax, "default_backend", lambda: platform)
        jax.clear_caches()

    yield become
    monkeypatch.undo()
    jax.clear_caches()


def _problem(size):
    return PackingProblem(num_points=size[0], dim=size[1])


def _chosen(method, size=LARGE, sweep=None, **settings):
    found = resolved(method, _problem(size), sweep or Sweep(), **settings)
    return found.coarse_steps, found.precision


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_accelerators_begin_coarse_and_end_with_three_passes(platform, pretend):
    assert _chosen(Annealed()) == (0, "float32")
    pretend(platform)
    assert _chosen(Annealed()) == (160, "bf16_x3")
    assert _chosen(Annealed(num_steps=50)) == (40, "bf16_x3")
    assert _chosen(resolved(Annealed(), _problem(LARGE), Sweep())) == (160, "bf16_x3")


@pytest.mark.parametrize(
    "method",
    [
        Annealed(annealing=refining_annealing),
        Annealed(coarse_steps=0),
        Custom(Riesz(2.0)),
        MiniBatch(),
        hf.Paper(),
    ],
    ids=lambda method: type(method).__name__,
)
def test_nobody_begins_coarse_who_would_suffer(method, pretend):
    pretend("gpu")
    assert _chosen(method) == (0, "bf16_x3")
    assert _chosen(Annealed(), size=(500, 32)) == (0, "bf16_x3")
    assert _chosen(Annealed(), has_restarts=True) == (0, "bf16_x3")


def test_what_is_named_stays(pretend):
    pretend("gpu")
    assert _chosen(Annealed(coarse_steps=7, precision="float32")) == (7, "float32")
    assert _chosen(Annealed(), sweep=Sweep(precision="tf32")) == (160, "tf32")
    with pytest.raises(InputError, match="precision='half': choose one of float32"):
        Annealed(precision="half")  # type: ignore[arg-type]


def _asked(monkeypatch):
    """Record the precision and the purpose of every product that is traced."""
    asked = set()
    real = Sweep.__call__

    def call(sweep, x, y=None, *, reduction):
        asked.add((sweep.precision, "max" if reduction is max_cosine() else "force"))
        return real(sweep, x, y, reduction=reduction)

    monkeypatch.setattr(Sweep, "__call__", call)
    return asked


def test_the_result_is_measured_in_float32(pretend, monkeypatch):
    pretend("gpu")
    asked = _asked(monkeypatch)
    method = Annealed(num_steps=10, coarse_steps=6)
    packing = hf.solve(PackingProblem(num_points=24, dim=5), KEY, method=method)
    assert asked == {("float32", "max"), ("bf16", "force"), ("bf16_x3", "force")}
    assert packing.best_step >= 6
    scores = jnp.matmul(packing.x, packing.x.T, precision="highest") - 2 * jnp.eye(24)
    assert packing.max_cosine == pytest.approx(float(scores.max()), abs=1e-6)


def test_three_pass_steps_end_where_float32_steps_end():
    problem, method = PackingProblem(num_points=150, dim=24), Annealed(num_steps=50)
    fine, exact = (
        hf.solve(problem, KEY, method=replace(method, coarse_steps=40, precision=precision))
        for precision in ("bf16_x3", "float32")
    )
    assert fine.max_cosine == pytest.approx(exact.max_cosine, abs=1e-5)
    assert not jnp.array_equal(fine.x, exact.x)


def _traced(loop, problem):
    return loop.trace(loop.place(problem), 2)


@pytest.mark.parametrize("dim", [64, 512])
def test_the_default_step_on_a_gpu_is_plain_xla(dim, pretend):
    pretend("gpu")
    problem = PackingProblem(num_points=20_000, dim=dim)
    loop = Loop.of(Annealed(), problem)
    assert loop.method.precision == "bf16_x3"
    traced = _traced(loop, problem)
    assert "pallas" not in str(traced.jaxpr)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "triton" not in text
    assert "num_primitive_operations = 3" in text
    # 20,000 rows are four blocks of 5,000: the largest multiple of 8 up to 6,784 that divides them.
    assert "tensor<5000x5000xf32>" in text
    assert "20000x20000" not in text


def test_a_kernel_that_was_asked_for_is_in_the_step(pretend, monkeypatch):
    """The test above can fail: the same step with the kernel does hold it."""
    pretend("gpu")
    problem = PackingProblem(num_points=2048, dim=64)
    loop = Loop.of(Annealed(), problem, Sweep(implementation="pallas"))
    assert loop.method.precision == "float32"
    assert "pallas_call" in str(_traced(loop, problem).jaxpr)


def test_pack_on_a_gpu_is_plain_xla(pretend, monkeypatch, tmp_path):
    from hyperface_jax.pairwise import pallas_gpu

    def refuse(*arguments, **settings):
        raise AssertionError("the kernel was taken")

    pretend("gpu")
    monkeypatch.setattr(pallas_gpu.pl, "pallas_call", refuse)
    config = runs.Pack(num_ids=600, dim=8, steps=2, devices=1, out=tmp_path / "run")
    result = runs.pack(config)
    assert result.summary["max_cosine"] < 1
    assert read_json(tmp_path / "run" / "config.json")["precision"] == "bf16_x3"


def test_a_kernel_without_a_gpu_is_an_error():
    problem, sweep = PackingProblem(num_points=9, dim=4), Sweep(implementation="pallas")
    with pytest.raises(NotImplementedError, match="kernel for GPUs, but the devices are cpu"):
        sweep(jnp.eye(4), reduction=max_cosine())
    with pytest.raises(NotImplementedError, match="kernel for GPUs, but the devices are cpu"):
        hf.solve(problem, KEY, num_steps=2, sweep=sweep)


def test_a_resumed_run_keeps_its_coarse_steps(pretend, tmp_path):
    """A run that was begun on a GPU goes on elsewhere with the coarse steps that it chose there."""
    from hyperface_jax.runs.packing.stage import _method

    config = runs.Pack(num_ids=10_000, dim=512, out=tmp_path / "run")
    pretend("gpu")
    begun = Loop.of(_method(config, {}), PackingProblem(num_points=10_000, dim=512)).method
    pretend("cpu")
    stored = {"coarse_steps": begun.coarse_steps, "precision": begun.precision}
    resumed = Loop.of(_method(config, stored), PackingProblem(num_points=10_000, dim=512)).method
    assert (begun.coarse_steps, begun.precision) == (160, "bf16_x3")
    assert (resumed.coarse_steps, resumed.precision) == (160, "float32")


def test_energies_take_the_precision_of_their_sweep():
    x = hf.sphere.sample_uniform(KEY, 300, 64)
    exact = SoftMax(50.0).evaluate(x, shift=0.3)
    errors = {}
    for precision in ("bf16_x3", "bf16"):
        found = SoftMax(50.0).evaluate(x, shift=0.3, sweep=Sweep(precision=precision))
        errors[precision] = float(jnp.max(jnp.abs(found.row_max - exact.row_max)))
    assert errors["bf16_x3"] < 2e-6 < 1e-4 < errors["bf16"]
